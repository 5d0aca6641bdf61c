import random

import pytest

from inflate3d.datasets import read_dataset
from inflate3d.errors import DataError, DatasetProblems

PAPER_TEST = [2, 3, 8, 9, 12, 14, 17, 24, 42, 48, 49, 53, 55, 64, 67, 79, 81, 88, 92, 95]


def put(training, number, frames=(1, 12), info="ED: 1\nES: 12\nGroup: DCM\nNbFrame: 30\n"):
    patient = training / f"patient{number:03d}"
    patient.mkdir(parents=True)
    for frame in frames:
        for end in ("", "_gt"):
            (patient / f"patient{number:03d}_frame{frame:02d}{end}.nii.gz").write_bytes(b"")
    (patient / f"patient{number:03d}_4d.nii.gz").write_bytes(b"")
    (patient / "Info.cfg").write_text(info)
    return patient


@pytest.fixture
def acdc(tmp_path):
    for number in range(1, 101):
        put(tmp_path / "ACDC/database/training", number)
    for number in range(101, 151):
        put(tmp_path / "ACDC/database/testing", number)
    return tmp_path / "ACDC"


def patients(cases):
    numbers = [int(case.partition("_")[0].removeprefix("patient")) for case in cases]
    assert numbers == sorted(numbers)
    assert numbers[::2] == numbers[1::2]
    return numbers[::2]


@pytest.mark.parametrize("below", ["", "database", "database/training"])
def test_any_of_the_folders_down_to_training(acdc, below):
    dataset = read_dataset(acdc / below)
    assert len(dataset.cases) == 200
    assert [case.id for case in dataset.cases[:3]] == [
        "patient001_frame01",
        "patient001_frame12",
        "patient002_frame01",
    ]
    patient = acdc / "database" / "training" / "patient001"
    assert dataset.cases[1].images == (patient / "patient001_frame12.nii.gz",)
    assert dataset.cases[1].label == patient / "patient001_frame12_gt.nii.gz"
    assert dataset.cases[1].group == "patient001"


def test_paper_split(acdc):
    (split,) = read_dataset(acdc).splits["paper"]
    assert patients(split.validation) == PAPER_TEST
    assert patients(split.train) == [number for number in range(1, 101) if number not in PAPER_TEST]
    assert not split.test
    assert "picked on the test patients" in split.source


def test_holdout_split_keeps_the_papers_test_patients_to_the_end(acdc):
    (split,) = read_dataset(acdc).splits["paper-holdout"]
    assert patients(split.test) == PAPER_TEST
    generator = random.Random(1234)
    chosen = []
    for first in range(1, 101, 20):  # a diagnosis each
        others = [number for number in range(first, first + 20) if number not in PAPER_TEST]
        chosen += sorted(generator.sample(others, 2))
    assert patients(split.validation) == chosen
    assert len(patients(split.train)) == 70


def test_test_patients_are_no_cases_wherever_they_lie(tmp_path):
    put(tmp_path, 100)
    put(tmp_path, 101)
    dataset = read_dataset(tmp_path)
    assert [case.id for case in dataset.cases] == ["patient100_frame01", "patient100_frame12"]
    assert not dataset.splits
    with pytest.raises(DataError, match="no labeled case"):
        read_dataset(put(tmp_path / "testing", 102).parent)


def test_frames_that_info_promises_must_be_there(tmp_path):
    patient = put(tmp_path, 1, frames=(1,))
    with pytest.raises(DatasetProblems) as caught:
        read_dataset(tmp_path)
    assert [problem.file for problem in caught.value.problems] == [
        str(patient / "patient001_frame12.nii.gz"),
        str(patient / "patient001_frame12_gt.nii.gz"),
    ]
    (patient / "Info.cfg").unlink()
    assert len(read_dataset(tmp_path).cases) == 1


@pytest.mark.parametrize("content", [b"", b"ED: 1\n", b"ED: one\nES: 2\n", b"\xff\xfe"])
def test_info_that_says_too_little(tmp_path, content):
    patient = put(tmp_path, 1)
    (patient / "Info.cfg").write_bytes(content)
    with pytest.raises(DataError, match="does not name the labeled frames") as caught:
        read_dataset(tmp_path)
    assert caught.value.file == str(patient / "Info.cfg")


def test_folder_of_patients_that_is_another(tmp_path):
    for number in (1, 2):
        patient = tmp_path / f"patient{number:03d}"
        patient.mkdir()
        for name in ("image.nii.gz", "label.nii.gz"):
            (patient / name).write_bytes(b"")
    with pytest.raises(DataError, match="unknown dataset layout"):
        read_dataset(tmp_path)
    (tmp_path / "patient002" / "Info.cfg").write_text("ED: 1\nES: 2\n")
    with pytest.raises(DatasetProblems):
        read_dataset(tmp_path)
