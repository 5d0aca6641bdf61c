import json
from itertools import pairwise

import pytest

from inflate3d.config import DataConfig
from inflate3d.datasets import Split, kfold_split
from inflate3d.datasets.splits import choose_folds, choose_split
from inflate3d.errors import ConfigError, DataError, OutputError

IDS = [f"hippocampus_{number:03d}" for number in range(1, 24)]

# sklearn.model_selection.KFold(5, shuffle=True, random_state=12345).split(sorted ids), as in nnU-Net
HELD_OUT = [
    [4, 9, 11, 18, 20],
    [1, 8, 13, 16, 17],
    [7, 12, 15, 19, 21],
    [10, 14, 22, 23],
    [2, 3, 5, 6],
]


@pytest.mark.parametrize("fold", range(5))
def test_folds_are_nnunets(fold):
    split = kfold_split(IDS[::-1], fold)
    assert split.validation == tuple(f"hippocampus_{number:03d}" for number in HELD_OUT[fold])
    assert split.train == tuple(sorted(set(IDS) - set(split.validation)))
    assert split.source == f"fold {fold} of 5, seed 12345"
    assert split.held_out == split.validation


def test_each_case_validates_once():
    held_out = [case for fold in range(4) for case in kfold_split(IDS, fold, folds=4, seed=1).validation]
    assert sorted(held_out) == IDS


def test_groups_stay_together():
    groups = {f"p{patient:02d}_{frame}": f"p{patient:02d}" for patient in range(10) for frame in (1, 2)}
    held_out = []
    for fold in range(5):
        split = kfold_split(groups, fold)
        patients = {groups[case] for case in split.validation}
        assert len(split.validation) == 4 and len(patients) == 2
        assert not patients & {groups[case] for case in split.train}
        held_out += split.validation
    assert sorted(held_out) == sorted(groups)


def test_fewer_groups_than_folds():
    with pytest.raises(DataError, match="fewer groups of cases than folds"):
        kfold_split({"a1": "a", "a2": "a", "b1": "b"}, folds=3)


OWN = (Split(("a", "b"), ("c",), source="own 0"), Split(("a", "c"), ("b",), source="own 1"))
PAPER = Split(("a",), ("b",), ("c",), source="the paper's")
GROUPS = dict.fromkeys("abc")


def choose(split, fold=0):
    return choose_split(DataConfig(split=split, fold=fold, num_folds=3), GROUPS, {"own": OWN, "paper": (PAPER,)})


def test_the_datasets_own_split_goes_first_and_has_its_folds():
    assert choose("auto") == choose("own") == OWN[0]
    assert choose("own", fold=1) == OWN[1]
    assert choose("folds", fold=2) == kfold_split("abc", 2, 3)
    assert choose_split(DataConfig(num_folds=3), GROUPS, {}) == kfold_split("abc", 0, 3)


def test_test_cases_are_scored_where_there_are_some():
    assert choose("paper").held_out == ("c",)


@pytest.mark.parametrize(
    ("split", "fold", "said"), [("own", 2, "0 to 1"), ("paper", 1, "no folds"), ("paper-holdout", 0, "own, paper")]
)
def test_split_or_fold_that_does_not_exist(split, fold, said):
    with pytest.raises(ConfigError) as caught:
        choose(split, fold)
    assert said in str(caught.value.expected)


def test_split_from_a_file(tmp_path):
    PAPER.write(tmp_path / "mine.json")
    assert choose(str(tmp_path / "mine.json")) == PAPER


@pytest.mark.parametrize(
    ("split", "said"),
    [
        (Split(("a", "x"), ("b",)), "unknown cases: x"),
        (Split(("a", "b"), ("b",)), "duplicate cases: b"),
        (Split((), ("b",)), "no case to train on"),
        (Split(("a",), ()), "no case to validate on"),
    ],
)
def test_file_that_does_not_fit_the_cases(tmp_path, split, said):
    split.write(tmp_path / "mine.json")
    with pytest.raises(DataError) as caught:
        choose(str(tmp_path / "mine.json"))
    assert said in str(caught.value.got)


PATIENTS = {"a1": "anna", "a2": "anna", "b1": "bert", "c1": None, "d1": None}


@pytest.mark.parametrize(
    "split",
    [
        Split(("a1", "b1"), ("a2", "c1")),
        Split(("a1", "b1"), ("c1",), ("a2",)),
        Split(("b1",), ("a1", "c1"), ("a2",)),
    ],
)
def test_file_that_tears_a_group_apart(tmp_path, split):
    split.write(tmp_path / "torn.json")
    with pytest.raises(DataError, match="does not fit the dataset") as caught:
        choose_split(DataConfig(split=str(tmp_path / "torn.json")), PATIENTS, {})
    assert str(caught.value.got).endswith("separated groups, such as patients: anna")
    assert caught.value.file == str(tmp_path / "torn.json")


def test_file_that_keeps_groups_together_or_leaves_some_of_them_out(tmp_path):
    split = Split(("a1",), ("b1", "c1"), ("d1",), source="by hand")
    split.write(tmp_path / "whole.json")
    assert choose_split(DataConfig(split=str(tmp_path / "whole.json")), PATIENTS, {}) == split


def test_split_of_a_file_is_named_after_it(tmp_path):
    (tmp_path / "mine.json").write_text('{"train": ["a"], "validation": ["b", "c"]}', encoding="utf-8")
    assert choose(str(tmp_path / "mine.json")).source == "the file mine.json"


def choose_several(wanted, named=None, **config):
    return choose_folds(wanted, DataConfig(**config), dict.fromkeys(IDS), named or {})


NAMED = {"paper": (Split(("a",), ("b",)),), "own": tuple(kfold_split(IDS, fold, 3) for fold in range(3))}


def test_folds_to_go_through():
    assert choose_several("all") == (0, 1, 2, 3, 4)
    assert choose_several("all", num_folds=3) == (0, 1, 2)
    assert choose_several((4, 0)) == (4, 0)
    assert choose_several("all", NAMED) == (0, 1, 2)
    assert choose_several("all", NAMED, split="folds") == (0, 1, 2, 3, 4)


@pytest.mark.parametrize(
    ("wanted", "config", "what", "got"),
    [
        ((0, 0), {}, "invalid folds", "--split auto --folds 0 0"),
        ((), {}, "invalid folds", "--split auto --folds "),
        ((0, 5), {}, "fold not found", "--folds 5"),
        ((-1,), {}, "fold not found", "--folds -1"),
        ("all", {"split": "paper"}, "the split has no folds", "--split paper --folds all"),
        ("all", {"split": "papers"}, "unknown split", "--split papers"),
    ],
)
def test_folds_that_can_not_be_gone_through(wanted, config, what, got):
    with pytest.raises(ConfigError, match=what) as caught:
        choose_several(wanted, {"paper": NAMED["paper"]}, **config)
    assert caught.value.got == got


def test_number_of_folds_given_for_their_names_is_an_error():
    with pytest.raises(ConfigError) as caught:
        choose_several((5,))
    assert caught.value.hint == "--num-folds 5 --folds all, for more folds"


def test_file_has_one_fold(tmp_path):
    Split(tuple(IDS[1:]), tuple(IDS[:1])).write(tmp_path / "mine.json")
    with pytest.raises(ConfigError, match="the split has no folds"):
        choose_several("all", split=str(tmp_path / "mine.json"))


def test_another_seed_gives_another_split():
    assert kfold_split(IDS, seed=1) != kfold_split(IDS, seed=2)


@pytest.mark.parametrize(("fold", "folds"), [(5, 5), (-1, 5), (0, 1), (0, 0)])
def test_fold_that_does_not_exist(fold, folds):
    with pytest.raises(ConfigError, match=r"--(num-)?fold"):
        kfold_split(IDS, fold, folds)


@pytest.mark.parametrize(
    ("cases", "hint"),
    [(4, "give --num-folds 4"), (3, "give --num-folds 3"), (1, "label more cases; at least two are needed")],
)
def test_fewer_cases_than_folds(cases, hint):
    with pytest.raises(DataError) as caught:
        kfold_split(IDS[:cases])
    assert caught.value.hint == hint


def test_split_is_read_as_it_was_written(tmp_path):
    split = kfold_split(IDS, 2)
    split.write(tmp_path / "split.json")
    assert Split.read(tmp_path / "split.json") == split
    stored = json.loads((tmp_path / "split.json").read_text(encoding="utf-8"))
    assert list(stored) == ["train", "validation", "test", "source"]
    assert stored["validation"] == list(split.validation)


@pytest.mark.parametrize("content", [None, b"", b"[]", b'{"train": ["a"]}', b"\xff\xfe"])
def test_file_that_holds_no_split(tmp_path, content):
    if content is not None:
        (tmp_path / "split.json").write_bytes(content)
    with pytest.raises(DataError) as caught:
        Split.read(tmp_path / "split.json")
    assert caught.value.file == str(tmp_path / "split.json")


def test_split_that_cannot_be_written(tmp_path):
    (tmp_path / "split.json").mkdir()
    with pytest.raises(OutputError):
        kfold_split(IDS).write(tmp_path / "split.json")


def fewer(count, seed=0):
    return choose_split(DataConfig(training_cases=count, training_cases_seed=seed), dict.fromkeys(IDS), {})


def test_fewer_training_cases_are_nested_and_hold_out_the_same():
    whole = choose_split(DataConfig(), dict.fromkeys(IDS), {})
    nested = [fewer(count) for count in (1, 5, 10, len(whole.train))]
    for split, count in zip(nested, (1, 5, 10, 18), strict=True):
        assert (len(split.train), split.validation) == (count, whole.validation)
        assert split.train == tuple(sorted(split.train))
        assert split.source == f"fold 0 of 5, seed 12345; {count} of its 18 training cases, seed 0"
    for small, large in pairwise(nested):
        assert set(small.train) < set(large.train)
    assert nested[-1].train == whole.train


def test_other_seed_draws_other_cases():
    assert fewer(5, seed=1).train != fewer(5).train
    assert fewer(5, seed=1).validation == fewer(5).validation
    assert fewer(5, seed=1) == fewer(5, seed=1)


def test_more_training_cases_than_there_are():
    with pytest.raises(ConfigError, match="more training cases requested") as caught:
        fewer(19)
    assert (caught.value.expected, caught.value.got) == ("at most 18", "19 training cases requested")
