"""Label maps by version: what a person saved stays, and what a kill cut off does not count."""

import pytest

from inflate3d.errors import OutputError
from inflate3d.server.labels import LabelHistory


def add(history, text, **how):
    return history.add(lambda path: (path.parent.mkdir(exist_ok=True), path.write_text(text)), ".txt", **how)


def test_each_save_is_a_new_version_with_who_and_when(tmp_path):
    history = LabelHistory.open(tmp_path / "case")
    add(history, "first", tag="draft", by="ann", info={"note": 1})
    add(history, "second", tag="final", by="bob")
    again = LabelHistory.open(tmp_path / "case")
    assert again.versions() == history.versions()
    assert [(each.number, each.tag, each.by) for each in again.versions()] == [(1, "draft", "ann"), (2, "final", "bob")]
    assert [again.path(each).read_text(encoding="utf-8") for each in again.versions()] == ["first", "second"]
    assert again.versions()[0].saved <= again.versions()[1].saved  # type: ignore[operator]


def test_prediction_never_takes_the_place_of_what_a_person_saved(tmp_path):
    history = LabelHistory.open(tmp_path / "case", original=tmp_path / "original.nii.gz")
    assert history.current().number == 0  # type: ignore[union-attr]
    add(history, "theirs", tag="final")
    add(history, "the model's", tag="predicted", model=3)
    current = history.current()
    assert current is not None and history.path(current).read_text(encoding="utf-8") == "theirs"
    assert history.newest("predicted").model == 3  # type: ignore[union-attr]


def test_draft_after_final_is_what_to_go_on_with(tmp_path):
    history = LabelHistory.open(tmp_path / "case")
    add(history, "a", tag="final")
    add(history, "b", tag="draft")
    assert history.current().tag == "draft"  # type: ignore[union-attr]
    assert history.newest("final").number == 1  # type: ignore[union-attr]


def test_withdrawn_label_map_does_not_count_but_stays(tmp_path):
    history = LabelHistory.open(tmp_path / "case")
    first = add(history, "a", tag="final")
    history.withdraw("final", by="ann")
    again = LabelHistory.open(tmp_path / "case")
    assert again.newest("final") is None and again.current() is None
    assert again.path(first).read_text(encoding="utf-8") == "a"
    assert add(again, "b", tag="final").number == 3


@pytest.mark.parametrize("left", [["0002.txt"], [".0123abcd-0002.txt"], ["0002.txt", ".0123abcd-0002.json"]])
def test_what_a_kill_left_does_not_count_and_is_removed(tmp_path, left):
    add(LabelHistory.open(tmp_path / "case"), "whole", tag="final")
    for name in left:
        (tmp_path / "case" / name).write_text("half")
    history = LabelHistory.open(tmp_path / "case")
    assert [each.number for each in history.versions()] == [1]
    assert sorted(path.name for path in (tmp_path / "case").iterdir()) == ["0001.json", "0001.txt"]


def test_failed_save_adds_nothing(tmp_path):
    history = LabelHistory.open(tmp_path / "case")

    def fail(path):
        raise OutputError("disk full")

    with pytest.raises(OutputError):
        history.add(fail, ".txt", tag="final")
    assert history.versions() == []
