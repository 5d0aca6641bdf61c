import dataclasses
from pathlib import Path

import nibabel
import numpy as np
import pytest

from inflate3d.datasets.case import Case, Dataset
from inflate3d.errors import DatasetProblems
from inflate3d.preparation.verify import check_case, check_classes

SHAPE = (4, 5, 6)
AFFINE = np.diag([1.0, 1.0, 3.0, 1.0])


def save(path: Path, array, affine=AFFINE) -> Path:
    nibabel.Nifti1Image(array, affine).to_filename(path)
    return path


def labels_of(*values):
    array = np.zeros(SHAPE, np.uint8)
    array.flat[: len(values)] = values
    return array


@pytest.fixture
def case(tmp_path):
    scan = np.arange(np.prod(SHAPE), dtype=np.int16).reshape(SHAPE)
    return Case(
        "c1",
        (save(tmp_path / "scan.nii.gz", scan),),
        save(tmp_path / "labels.nii.gz", labels_of(1, 2, 2)),
    )


@pytest.fixture
def dataset(tmp_path, case):
    return Dataset("Toy", tmp_path, ("CT",), {0: "background", 1: "liver", 2: "tumour"}, (case,))


def problems_of(case, dataset):
    with pytest.raises(DatasetProblems) as caught:
        check_case(case, dataset)
    assert all(problem.case == "c1" for problem in caught.value.problems)
    return [(problem.what, Path(str(problem.file)).name) for problem in caught.value.problems]


def test_good_case_is_given_whole(case, dataset):
    volume, labels = check_case(case, dataset)
    assert volume.array.shape == labels.array.shape == (1, *SHAPE)
    assert np.bincount(labels.array.ravel()).tolist() == [117, 1, 2]


def test_scan_without_findings_is_good(case, dataset):
    save(case.label, labels_of())
    assert check_case(case, dataset)[1].array.max() == 0


def test_both_files_are_told_when_both_are_bad(case, dataset):
    case.images[0].write_bytes(case.images[0].read_bytes()[:60])
    case.label.unlink()
    assert problems_of(case, dataset) == [
        ("the file can't be read", "scan.nii.gz"),
        ("the file is missing", "labels.nii.gz"),
    ]


@pytest.mark.parametrize(
    ("scan", "what"),
    [
        (np.zeros((4, 5), np.int16), "the image is not a volume"),
        (np.full(SHAPE, np.nan, np.float32), "voxels are NaN or infinite"),
        (np.zeros((*SHAPE, 2), np.int16), "the scan has another number of modalities than the data set"),
    ],
)
def test_bad_scan(case, dataset, scan, what):
    save(case.images[0], scan)
    assert problems_of(case, dataset) == [(what, "scan.nii.gz")]


def test_one_file_a_modality(case, dataset, tmp_path):
    second = save(tmp_path / "second.nii.gz", np.ones(SHAPE, np.int16))
    two = dataclasses.replace(dataset, modalities=("T1", "T2"))
    volume, _ = check_case(dataclasses.replace(case, images=(*case.images, second)), two)
    assert volume.array.shape == (2, *SHAPE)
    assert problems_of(case, two) == [("the scan has another number of modalities than the data set", "scan.nii.gz")]


@pytest.mark.parametrize(
    ("labels", "what"),
    [
        (labels_of(1)[..., :5], "images of a case differ in shape"),
        (labels_of(1) * np.float32(0.5), "label values are not class numbers"),
        (labels_of(1).astype(np.int16) * -1, "label values are not class numbers"),
        (labels_of(1, 5), "labels are none of the data set's classes"),
    ],
)
def test_bad_labels(case, dataset, labels, what):
    save(case.label, labels)
    assert problems_of(case, dataset) == [(what, "labels.nii.gz")]


@pytest.mark.parametrize(("shift", "good"), [(1e-3, True), (5e-2, False)])
def test_labels_in_another_place(case, dataset, shift, good):
    moved = AFFINE.copy()
    moved[0, 3] += shift
    save(case.label, labels_of(1), moved)
    if good:
        check_case(case, dataset)
    else:
        assert problems_of(case, dataset) == [("images of a case differ in place", "labels.nii.gz")]


def test_unknown_labels_are_counted_even_on_another_grid(case, dataset):
    save(case.label, labels_of(7, 7, 9)[..., :5])
    with pytest.raises(DatasetProblems) as caught:
        check_case(case, dataset)
    assert [problem.got for problem in caught.value.problems] == [(4, 5, 5), "7 in 2 voxels, 9 in 1 voxels"]
    assert caught.value.problems[1].expected == "0 (background), 1 (liver), 2 (tumour)"


def test_case_without_a_label_map(case, dataset):
    assert problems_of(dataclasses.replace(case, label=None), dataset) == [("the case has no label map", "scan.nii.gz")]


def test_every_class_in_some_case_is_enough(dataset):
    assert check_classes(dataset, [{0: 9}, {0: 5, 1: 4}, {0: 5, 2: 1}]) == []


def test_class_that_no_case_has(dataset):
    (problem,) = check_classes(dataset, [{0: 5, 1: 4}, {0: 9, 2: 0}])
    assert problem.what == "a class occurs in no case"
    assert problem.expected == "voxels of 2 (tumour) in some case"


def test_label_maps_that_are_empty_everywhere(dataset):
    (problem,) = check_classes(dataset, [{0: 9}, {0: 9}])
    assert problem.what == "the label maps of all cases are empty"
    assert problem.expected == "some voxels of liver, tumour"
