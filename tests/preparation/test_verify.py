import dataclasses
from pathlib import Path

import nibabel
import numpy as np
import pytest

from inflate3d.datasets.case import Case, Dataset
from inflate3d.errors import DatasetProblems
from inflate3d.preparation.verify import check_case, check_classes
from inflate3d.volume import Volume

SHAPE = (4, 5, 6)
AFFINE = np.diag([1.0, 1.0, 3.0, 1.0])


def save(path: Path, array, affine=AFFINE) -> Path:
    nibabel.Nifti1Image(array, affine).to_filename(path)
    return path


def labels_of(*values, dtype: type = np.uint8):
    array = np.zeros(SHAPE, dtype)
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
    return Dataset("Toy", tmp_path, ("CT",), {0: "background", 1: "liver", 2: "tumor"}, (case,))


def problems_of(case, dataset):
    with pytest.raises(DatasetProblems) as caught:
        check_case(case, dataset)
    assert all(problem.case == "c1" for problem in caught.value.problems)
    return [(problem.what, Path(str(problem.file)).name) for problem in caught.value.problems]


def test_good_case_is_given_whole(case, dataset):
    volume, labels = check_case(case, dataset)
    assert volume.array.shape == labels.array.shape == (1, *SHAPE)
    assert np.bincount(labels.array.ravel()).tolist() == [117, 1, 2]


@pytest.mark.parametrize("codes", ["LPS", "SAR", "PIL", "RSA"])
def test_labels_along_other_axes_are_turned_onto_the_scan(case, dataset, codes):
    _, expected = check_case(case, dataset)
    stored = Volume(labels_of(1, 2, 2)[np.newaxis], AFFINE).reorient(codes)
    save(case.label, stored.array[0], stored.affine)
    volume, labels = check_case(case, dataset)
    assert np.array_equal(labels.array, expected.array)
    assert np.array_equal(labels.affine, volume.affine)
    (note,) = labels.notes
    assert f"along the axes {codes} in place of RAS" in note


def test_labels_that_only_resampling_could_bring_there_are_refused(case, dataset):
    half = np.diag([1.0, 1.0, 6.0, 1.0])
    save(case.label, labels_of(1)[:, :, ::2], half)
    assert problems_of(case, dataset) == [("images of a case differ in shape", "labels.nii.gz")]
    part = Volume(labels_of(1)[np.newaxis], AFFINE).reorient("SAR")[:, :5, :5, :4]
    save(case.label, part.array[0], part.affine)
    assert problems_of(case, dataset) == [("images of a case differ in shape", "labels.nii.gz")]


def test_scan_without_findings_is_good(case, dataset):
    save(case.label, labels_of())
    assert check_case(case, dataset)[1].array.max() == 0


def test_both_files_are_named_when_both_are_bad(case, dataset):
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
        (np.zeros((*SHAPE, 2), np.int16), "number of modalities differs from the dataset's"),
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
    assert problems_of(case, two) == [("number of modalities differs from the dataset's", "scan.nii.gz")]


@pytest.mark.parametrize(
    ("labels", "what"),
    [
        (labels_of(1)[..., :5], "images of a case differ in shape"),
        (labels_of(1) * np.float32(0.5), "label values are not class numbers"),
        (labels_of(1).astype(np.int16) * -1, "label values are not class numbers"),
        (labels_of(1, 5), "unknown label values"),
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
        assert problems_of(case, dataset) == [("images of a case differ in position", "labels.nii.gz")]


@pytest.fixture
def modalities(case, dataset, tmp_path):
    """Two files, and the case and the dataset that hold them."""
    second = save(tmp_path / "second.nii.gz", np.ones(SHAPE, np.int16))
    two = dataclasses.replace(case, images=(*case.images, second))
    return two, dataclasses.replace(dataset, modalities=("T1", "T2"))


def test_every_bad_image_is_reported(modalities):
    case, dataset = modalities
    first, second = case.images
    first.write_bytes(b"no scan")
    save(second, np.full(SHAPE, np.inf, np.float32))
    save(case.label, labels_of(5))
    assert problems_of(case, dataset) == [
        ("the file can't be read", "scan.nii.gz"),
        ("voxels are NaN or infinite", "second.nii.gz"),
        ("unknown label values", "labels.nii.gz"),
    ]


@pytest.mark.parametrize(
    ("array", "affine", "what"),
    [
        (np.ones((4, 5, 7), np.int16), AFFINE, "images of a case differ in shape"),
        (np.ones(SHAPE, np.int16), np.diag([1.0, 1.0, 3.1, 1.0]), "images of a case differ in position"),
    ],
)
def test_modality_on_another_grid(modalities, array, affine, what):
    case, dataset = modalities
    save(case.images[1], array, affine)
    assert problems_of(case, dataset) == [(what, "second.nii.gz")]


@pytest.mark.parametrize("lacks", [0, 1])
def test_missing_modality(modalities, lacks):
    case, dataset = modalities
    images = list(case.images)
    images[lacks] = None
    lacking = dataclasses.replace(case, images=tuple(images))
    with pytest.raises(DatasetProblems) as caught:
        check_case(lacking, dataset)
    (problem,) = caught.value.problems
    assert (problem.what, problem.expected) == ("missing modality", f"a file of {dataset.modalities[lacks]}")
    assert "--allow-missing-modality" in str(problem.hint)
    assert problem.file == str(lacking.scan)
    volume, _ = check_case(lacking, dataset, allow_missing_modality=True)
    whole, _ = check_case(case, dataset)
    assert not volume.array[lacks].any()
    assert np.array_equal(volume.array[1 - lacks], whole.array[1 - lacks])


@pytest.mark.parametrize("allowed", [False, True])
def test_case_without_any_modality(modalities, allowed):
    case, dataset = modalities
    with pytest.raises(DatasetProblems) as caught:
        check_case(dataclasses.replace(case, images=(None, None)), dataset, allow_missing_modality=allowed)
    whats = [problem.what for problem in caught.value.problems]
    assert whats == ["missing modality"] * (0 if allowed else 2) + ["case without a scan"]
    assert {problem.file for problem in caught.value.problems} == {str(case.label)}


def test_merged_and_ignored_labels_are_known(case, dataset):
    save(case.label, labels_of(1, 2, 7, 255))
    assert problems_of(case, dataset) == [("unknown label values", "labels.nii.gz")]
    _, labels = check_case(case, dataclasses.replace(dataset, merged={7: 1}, ignore=255))
    assert set(np.unique(labels.array)) == {0, 1, 2, 7, 255}


@pytest.mark.parametrize(
    ("values", "hint"),
    [
        ((255,), "this is a mask of 0 and 255: list 255 as the class (`inflate3d init`"),
        ((1, 255), "if 255 marks voxels that nobody labeled, give --ignore 255; else name"),
        ((1, 7), "name them in the dataset's list of classes (`inflate3d init`"),
        ((70_000,), "name them in the dataset's list of classes (`inflate3d init`"),
    ],
)
def test_what_to_do_about_unknown_labels(case, dataset, values, hint):
    save(case.label, labels_of(*values, dtype=np.int32))
    with pytest.raises(DatasetProblems) as caught:
        check_case(case, dataset)
    (problem,) = caught.value.problems
    assert str(problem.hint).startswith(hint)
    assert problem.got == f"{values[-1]} in 1 voxels"


def test_unknown_labels_are_counted_even_on_another_grid(case, dataset):
    save(case.label, labels_of(7, 7, 9)[..., :5])
    with pytest.raises(DatasetProblems) as caught:
        check_case(case, dataset)
    assert [problem.got for problem in caught.value.problems] == [(4, 5, 5), "7 in 2 voxels, 9 in 1 voxels"]
    assert caught.value.problems[1].expected == "0 (background), 1 (liver), 2 (tumor)"


def test_case_without_a_label_map(case, dataset):
    assert problems_of(dataclasses.replace(case, label=None), dataset) == [("case without a label map", "scan.nii.gz")]


def test_every_class_in_some_case_is_enough(dataset):
    assert check_classes(dataset, [{0: 9}, {0: 5, 1: 4}, {0: 5, 2: 1}]) == []


def test_class_that_no_case_has(dataset):
    (problem,) = check_classes(dataset, [{0: 5, 1: 4}, {0: 9, 2: 0}])
    assert problem.what == "class not found in any case"
    assert problem.expected == "voxels of 2 (tumor) in some case"
    assert check_classes(dataset, [{0: 5, 1: 4}, {0: 9, 2: 0}], may_lack=True) == []


def test_ignored_class_need_not_occur(dataset):
    assert check_classes(dataclasses.replace(dataset, ignore=2), [{0: 5, 1: 4}]) == []
    (problem,) = check_classes(dataclasses.replace(dataset, ignore=2), [{0: 5, 2: 4}])
    assert problem.what == "all label maps contain only background"


def test_label_maps_that_are_empty_everywhere(dataset):
    (problem,) = check_classes(dataset, [{0: 9}, {0: 9}])
    assert problem.what == "all label maps contain only background"
    assert problem.expected == "some voxels of liver, tumor"
    assert check_classes(dataset, [{0: 9}], may_lack=True)
