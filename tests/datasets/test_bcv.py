import pytest

from inflate3d.datasets import read_dataset
from inflate3d.datasets.bcv import CLASSES, PAPER_ORGANS
from inflate3d.errors import DataError

NUMBERS = [*range(1, 11), *range(21, 41)]
HELD_OUT = [1, 2, 3, 4, 8, 22, 25, 29, 32, 35, 36, 38]


def put(folder, *numbers):
    for part, stem in (("img", "img"), ("label", "label")):
        (folder / part).mkdir(parents=True, exist_ok=True)
        for number in numbers:
            (folder / part / f"{stem}{number:04d}.nii.gz").write_bytes(b"")
    return folder


@pytest.fixture
def bcv(tmp_path):
    put(tmp_path / "Abdomen" / "RawData" / "Training", *NUMBERS)
    return tmp_path / "Abdomen"


@pytest.mark.parametrize("below", ["", "RawData", "RawData/Training"])
def test_any_of_the_folders_down_to_training(bcv, below):
    dataset = read_dataset(bcv / below)
    assert dataset.name == "BCV"
    assert dataset.root == bcv / below
    assert [case.id for case in dataset.cases] == [f"img{number:04d}" for number in NUMBERS]
    case = dataset.cases[10]
    training = bcv / "RawData" / "Training"
    assert (case.images, case.label) == ((training / "img/img0021.nii.gz",), training / "label/label0021.nii.gz")


def test_paper_split(bcv):
    (split,) = read_dataset(bcv).splits["paper"]
    assert split.validation == tuple(f"img{number:04d}" for number in HELD_OUT)
    assert len(split.train) == 18
    assert not split.test


def test_no_paper_split_without_all_of_its_scans(bcv):
    for part, stem in (("img", "img"), ("label", "label")):
        (bcv / "RawData" / "Training" / part / f"{stem}0040.nii.gz").unlink()
    dataset = read_dataset(bcv)
    assert len(dataset.cases) == 29
    assert not dataset.splits


def test_organs():
    assert len(CLASSES) == 14
    assert len(PAPER_ORGANS) == 8
    assert [value for value, name in CLASSES.items() if name in PAPER_ORGANS] == [1, 2, 3, 4, 6, 7, 8, 11]


def test_other_files_are_passed_over(bcv):
    for name in ("img0001.txt", "readme", "mean.nii.gz", "img0001 copy.nii.gz"):
        (bcv / "RawData" / "Training" / "img" / name).write_bytes(b"")
    assert len(read_dataset(bcv).cases) == 30


def test_dataset_that_only_looks_a_little_like_it(tmp_path):
    put(tmp_path / "own", 1, 2, 3)  # no folder Training
    put(tmp_path / "single" / "Training", 1)
    scans = put(tmp_path / "other" / "Training", 1, 2, 3) / "img"
    for number in (1, 2, 3):
        (scans.parent / "label" / f"label{number:04d}.nii.gz").unlink()
        (scans.parent / "label" / f"img{number:04d}.nii.gz").write_bytes(b"")
    for name in ("own", "single", "other"):
        with pytest.raises(DataError, match="unknown dataset layout"):
            read_dataset(tmp_path / name)
