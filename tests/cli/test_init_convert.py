import errno
import itertools
import json
import os
from pathlib import Path
from typing import get_args

import numpy as np
import pytest

from inflate3d.cli import main
from inflate3d.datasets import read_dataset
from inflate3d.datasets.case import Dataset
from inflate3d.datasets.writing import LayoutName
from inflate3d.io import read_images, read_labels

WAYS = [("folder", ".nii.gz"), ("msd", ".nii.gz"), ("nnunet", ".nii.gz"), ("msd", ".nrrd"), ("nnunet", ".mhd")]

TABLE = """\
case,image,image2,label,split
toy0,imagesTr/toy0.nii.gz,imagesTr/toy1.nii.gz,labelsTr/toy0.nii.gz,train
toy1,imagesTr/toy1.nii.gz,imagesTr/toy2.nii.gz,labelsTr/toy1.nii.gz,validation
toy2,imagesTr/toy2.nii.gz,imagesTr/toy0.nii.gz,labelsTr/toy2.nii.gz,test
"""


@pytest.fixture
def document(capsys):
    """Runs a command that has to go well, and gives its JSON document."""

    def run(*words):
        assert main([*map(str, words), "--json"]) == 0
        return json.loads(capsys.readouterr().out)

    return run


@pytest.fixture
def toys(tmp_path, write_toys) -> Path:
    return write_toys(tmp_path / "toys", cases=3).root


@pytest.fixture
def two_modalities(toys) -> Path:
    """The toys as a folder of one's own, with two channels and a split."""
    (toys / "dataset.json").unlink()
    (toys / "cases.csv").write_text(TABLE)
    (toys / "dataset.yaml").write_text("name: Toys\nmodalities: [A, B]\nclasses: {0: background, 2: liver, 5: tumor}\n")
    return toys


def check_same(before: Dataset, after: Dataset, values):
    assert after.modalities == before.modalities
    assert list(after.classes.values()) == list(before.classes.values())
    assert [case.id for case in after.cases] == [case.id for case in before.cases]
    for old, new in zip(before.cases, after.cases, strict=True):
        assert old.label is not None and new.label is not None
        scans = [read_images(case.images) for case in (old, new)]
        labels = [read_labels(path) for path in (old.label, new.label)]
        assert np.array_equal(scans[0].array, scans[1].array)
        assert scans[0].array.dtype == scans[1].array.dtype
        assert np.array_equal(np.vectorize(values.get)(labels[0].array), labels[1].array)
        for volume in (scans[1], *labels):
            np.testing.assert_allclose(volume.affine, scans[0].affine, rtol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize(("target", "suffix"), WAYS)
def test_any_layout_and_format_holds_the_same(two_modalities, tmp_path, document, target, suffix):
    printed = document("convert", two_modalities, tmp_path / "out", "--to", target, "--suffix", suffix)
    before, after = read_dataset(two_modalities), read_dataset(tmp_path / "out")
    values = {0: 0, 2: 1, 5: 2} if target == "nnunet" else {0: 0, 2: 2, 5: 5}
    assert printed["label_values"] == {str(old): new for old, new in values.items()}
    assert printed["cases"] == 3
    check_same(before, after, values)
    assert all(path.name.endswith(suffix) for case in after.cases for path in case.images if path)


@pytest.mark.slow
@pytest.mark.parametrize("target", get_args(LayoutName))
def test_no_split_is_lost(two_modalities, tmp_path, document, target):
    printed = document("convert", two_modalities, tmp_path / "out", "--to", target)
    split = read_dataset(two_modalities).splits["own"][0]
    if target == "folder":
        assert printed["split_files"] == []
        assert read_dataset(tmp_path / "out").splits["own"][0] == split
    else:  # the one has no place for splits, the other's know no test cases
        (file,) = printed["split_files"]
        assert type(split).read(file) == split


@pytest.mark.slow
@pytest.mark.parametrize("target", get_args(LayoutName))
def test_groups_are_kept_or_told_to_be_lost(two_modalities, tmp_path, capsys, target):
    rows = TABLE.splitlines()
    grouped = [f"{rows[0]},group", *(f"{row},{row[:4]}" for row in rows[1:])]
    (two_modalities / "cases.csv").write_text("\n".join(grouped))
    assert main(["convert", str(two_modalities), str(tmp_path / "out"), "--to", target]) == 0
    kept = [case.group for case in read_dataset(tmp_path / "out").cases] == ["toy0", "toy1", "toy2"]
    assert kept == (target == "folder")
    assert ("has no groups" in capsys.readouterr().out) != kept


@pytest.mark.slow
@pytest.mark.parametrize("target", get_args(LayoutName))
def test_there_and_back(toys, tmp_path, document, target):
    document("convert", toys, tmp_path / "there", "--to", target, "--suffix", ".mha")
    document("convert", tmp_path / "there", tmp_path / "back", "--to", "msd")
    values = {0: 0, 2: 1, 5: 2} if target == "nnunet" else {0: 0, 2: 2, 5: 5}
    check_same(read_dataset(toys), read_dataset(tmp_path / "back"), values)


@pytest.mark.slow
def test_what_to_do_next_is_told(toys, tmp_path, capsys):
    assert main(["convert", str(toys), str(tmp_path / "Dataset012_Toys"), "--to", "nnunet"]) == 0
    shown = capsys.readouterr().out
    assert "3 cases of Toys are in" in shown
    assert "label values changed: 2 to 1, 5 to 2\n" in shown
    assert "nnUNetv2_plan_and_preprocess -d 012" in shown
    assert "rename" not in shown
    assert main(["convert", str(toys), str(tmp_path / "Toys"), "--to", "nnunet"]) == 0
    assert "nnU-Net requires a folder name like Dataset123_Toys" in capsys.readouterr().out
    assert main(["convert", str(toys), str(tmp_path / "out"), "--to", "folder"]) == 0
    shown = capsys.readouterr().out
    assert f"inflate3d verify {tmp_path / 'out'}" in shown
    assert "label values" not in shown


@pytest.mark.parametrize("is_folder", [True, False])
def test_nothing_is_overwritten(toys, tmp_path, capsys, is_folder):
    out = tmp_path / "out"
    (out / "mine").mkdir(parents=True) if is_folder else out.touch()
    assert main(["convert", str(toys), str(out), "--to", "msd"]) == 2
    assert "not empty" in capsys.readouterr().err
    assert not (out / "imagesTr").exists()


def test_unknown_format(toys, tmp_path, capsys):
    assert main(["convert", str(toys), str(tmp_path / "out"), "--to", "msd", "--suffix", ".dcm"]) == 2
    assert "error: invalid file format" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("target", get_args(LayoutName))
def test_all_problems_are_told_before_anything_is_written(toys, tmp_path, capsys, target):
    for name in ("toy1", "toy2"):
        (toys / f"imagesTr/{name}.nii.gz").write_bytes(b"damaged")
    assert main(["convert", str(toys), str(tmp_path / "out"), "--to", target]) == 2
    printed = capsys.readouterr().err
    assert "2 problem(s)" in printed
    assert "toy1" in printed
    assert "toy2" in printed
    assert not (tmp_path / "out").exists()


def full_disk(*_):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.mark.slow
@pytest.mark.parametrize("was_there", [True, False])
@pytest.mark.parametrize("target", get_args(LayoutName))
def test_a_conversion_that_fails_leaves_nothing(toys, tmp_path, capsys, monkeypatch, target, was_there):
    out = tmp_path / "out"
    if was_there:
        out.mkdir()
    monkeypatch.setattr(os, "fsync", after(4, full_disk, os.fsync))
    assert main(["convert", str(toys), str(out), "--to", target]) == 2
    assert "No space left on device" in capsys.readouterr().err
    assert out.exists() == was_there
    assert not was_there or list(out.iterdir()) == []
    monkeypatch.undo()
    assert main(["convert", str(toys), str(out), "--to", target]) == 0


def after(count, change, original):
    """A function that is changed from its ``count``-th call on."""
    calls = itertools.count(1)

    def either(*given):
        return (change if next(calls) >= count else original)(*given)

    return either


def test_init_then_verify(toys, document, capsys):
    (toys / "dataset.json").unlink()
    (toys / "imagesTr/toy0.nii.gz").rename(toys / "imagesTr/more.nii.gz")
    printed = document("init", toys)
    assert printed["written"] == [str(toys / "cases.csv"), str(toys / "dataset.yaml")]
    assert (printed["cases"], printed["modalities"]) == (2, ["MRI"])
    assert printed["classes"] == {"0": "background", "2": "class 2", "5": "class 5"}
    assert [left["file"] for left in printed["left_out"]] == ["imagesTr/more.nii.gz", "labelsTr/toy0.nii.gz"]
    assert document("verify", toys, "--jobs", 1)["cases"] == 2


def test_init_tells_what_it_guessed(toys, capsys):
    (toys / "dataset.json").unlink()
    for index in range(3):
        for part in ("imagesTr", "labelsTr"):
            (toys / part / f"toy{index}.nii.gz").rename(toys / part / f"p{index // 2}_visit{index}.nii.gz")
    for index in range(12):
        (toys / f"imagesTr/more{index:02}.nii.gz").touch()
    assert main(["init", str(toys)]) == 0
    shown = capsys.readouterr().out
    assert "3 cases, from the names of the files" in shown
    assert "modalities: MRI (imagesTr/p0_visit0.nii.gz has values from -" in shown
    assert "label values, and the number of label maps with each: 0 in 3, 2 in 3, 5 in 3" in shown
    assert "2 patients" in shown
    assert "imagesTr/more09.nii.gz" in shown
    assert "imagesTr/more10.nii.gz" not in shown
    assert "and 2 more" in shown
    assert f"inflate3d verify {toys}" in shown


def test_init_overwrites_nothing_unless_forced(toys, capsys):
    assert main(["init", str(toys)]) == 2
    assert "needs no description" in capsys.readouterr().err
    assert main(["init", str(toys), "--overwrite"]) == 0
    (toys / "dataset.yaml").write_text("mine")
    assert main(["init", str(toys)]) == 2
    assert "dataset.yaml already exists" in capsys.readouterr().err
    assert (toys / "dataset.yaml").read_text(encoding="utf-8") == "mine"


def test_table_alone_leads_to_init(toys, capsys):
    (toys / "dataset.json").unlink()
    (toys / "cases.csv").write_text("case,image,label\na,imagesTr/toy0.nii.gz,labelsTr/toy0.nii.gz\n")
    assert main(["verify", str(toys)]) == 2
    assert f"inflate3d init {toys}" in capsys.readouterr().err
    assert main(["init", str(toys)]) == 0
    assert "1 cases, from the existing cases.csv" in capsys.readouterr().out


@pytest.mark.real
def test_abdomen_for_nnunet_and_back(shared, tmp_path, document):
    """41 classes with gaps between their values, that nnU-Net wants without."""
    (tmp_path / "abdomen").mkdir()
    for part in ("imagesTr", "labelsTr"):
        (tmp_path / "abdomen" / part).symlink_to(shared / "data" / "abdomen_ct" / part)
    document("init", tmp_path / "abdomen")
    printed = document("convert", tmp_path / "abdomen", tmp_path / "Dataset001_Abdomen", "--to", "nnunet")
    assert list(printed["label_values"].values()) == list(range(42))
    (label,) = (tmp_path / "abdomen/labelsTr").iterdir()
    assert [int(value) for value in printed["label_values"]] == np.unique(read_labels(label).array).tolist()
    assert max(map(int, printed["label_values"])) > 41
    before, after = read_dataset(tmp_path / "abdomen"), read_dataset(tmp_path / "Dataset001_Abdomen")
    check_same(before, after, {int(old): new for old, new in printed["label_values"].items()})
