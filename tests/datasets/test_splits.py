import json

import pytest

from inflate3d.datasets import Split, kfold_split
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
    split = kfold_split(reversed(IDS), fold)
    assert split.validation == tuple(f"hippocampus_{number:03d}" for number in HELD_OUT[fold])
    assert split.train == tuple(sorted(set(IDS) - set(split.validation)))
    assert (split.fold, split.folds, split.seed) == (fold, 5, 12345)


def test_each_case_validates_once():
    held_out = [case for fold in range(4) for case in kfold_split(IDS, fold, folds=4, seed=1).validation]
    assert sorted(held_out) == IDS


def test_another_seed_gives_another_split():
    assert kfold_split(IDS, seed=1) != kfold_split(IDS, seed=2)


@pytest.mark.parametrize(("fold", "folds"), [(5, 5), (-1, 5), (0, 1), (0, 0)])
def test_fold_that_does_not_exist(fold, folds):
    with pytest.raises(ConfigError, match="--fold"):
        kfold_split(IDS, fold, folds)


@pytest.mark.parametrize(
    ("cases", "remedy"),
    [(4, "give --folds 4"), (3, "give --folds 3"), (1, "label more cases; two are the least")],
)
def test_fewer_cases_than_folds(cases, remedy):
    with pytest.raises(DataError) as caught:
        kfold_split(IDS[:cases])
    assert caught.value.remedy == remedy


def test_split_is_read_as_it_was_written(tmp_path):
    split = kfold_split(IDS, 2)
    split.write(tmp_path / "split.json")
    assert Split.read(tmp_path / "split.json") == split
    stored = json.loads((tmp_path / "split.json").read_text())
    assert list(stored) == ["train", "validation", "fold", "folds", "seed"]
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
