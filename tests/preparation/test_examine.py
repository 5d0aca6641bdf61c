import dataclasses
import pickle

import nibabel
import numpy as np
import pytest

from inflate3d.datasets.case import Case, Dataset
from inflate3d.errors import DataError, DatasetProblems
from inflate3d.io import read_labels, read_volume
from inflate3d.preparation import examine as examination
from inflate3d.preparation.examine import examine
from inflate3d.preparation.file_signatures import sign_case
from inflate3d.preparation.fingerprint import measure_case


def save(path, array):
    nibabel.Nifti1Image(array, np.diag([1.0, 1.0, 3.0, 1.0])).to_filename(path)


def whats(found):
    return sorted((found.what, found.case) for found in found)


def test_every_case_is_measured_as_it_lies_in_its_files(phantoms):
    examined = examine(phantoms, workers=1)
    for case, measured in zip(phantoms.cases, examined.fingerprint.cases, strict=True):
        labels = read_labels(case.label).array[0]
        files = sign_case(case, phantoms.root)
        assert len(files) == 2
        assert measured == measure_case(case.id, read_volume(case.images[0]), labels, files=files)


def test_nothing_but_the_orientations_is_odd_about_phantoms(phantoms):
    (warning,) = examine(phantoms, workers=1).warnings
    assert warning.what == "cases have different orientations"


@pytest.mark.slow
def test_several_processes_find_the_same(tmp_path, write_toys):
    toys = write_toys(tmp_path, cases=4)
    save(toys.cases[3].label, np.zeros((20, 24, 7), np.uint8))
    one, two = (examine(toys, workers=workers) for workers in (1, 2))
    assert one.fingerprint == two.fingerprint
    assert [str(warning) for warning in one.warnings] == [str(warning) for warning in two.warnings]
    assert whats(one.warnings) == [
        ("different scans have the same label map", "toy0"),  # all toys have one
        ("label map contains only background", "toy3"),
    ]


def test_cases_are_passed_through_the_progress(tmp_path, write_toys):
    shown = []

    def progress(items, total, description):
        shown.append((total, description))
        yield from items

    examine(write_toys(tmp_path, cases=2), workers=1, progress=progress)
    assert shown == [(2, "checking cases")]


def test_all_problems_and_warnings_at_once(tmp_path, write_toys):
    toys = write_toys(tmp_path, cases=6)
    damaged, unknown, unlabeled, positive, _, copy = toys.cases
    damaged.images[0].write_bytes(b"no scan")
    damaged.label.unlink()
    save(unknown.label, np.full((20, 24, 7), 3, np.uint8))
    save(unlabeled.label, np.zeros((20, 24, 7), np.uint8))
    save(positive.images[0], np.arange(20 * 24 * 7, dtype=np.int16).reshape(20, 24, 7))
    copy.images[0].write_bytes(toys.cases[4].images[0].read_bytes())
    with pytest.raises(DatasetProblems) as caught:
        examine(toys, workers=1)
    assert whats(caught.value.problems) == [
        ("the file can't be read", "toy0"),
        ("the file is missing", "toy0"),
        ("unknown label values", "toy1"),
    ]
    assert whats(caught.value.warnings) == [
        ("different scans have the same label map", "toy3"),
        ("duplicate scans, which can leak from training to test cases", "toy4"),
        ("label map contains only background", "toy2"),
        ("the modality is CT, but the values are not Hounsfield units", "toy3"),
    ]


def test_warnings_go_with_the_problems_wherever_they_go():
    problems = DatasetProblems([DataError("damaged")], warnings=[DataError("odd", case="b")])
    copies = [pickle.loads(pickle.dumps(problems)), problems.with_context(case="a", file="f")]
    assert [whats(copy.warnings) for copy in copies] == [[("odd", "b")]] * 2
    assert problems.to_dict()["warnings"] == [{"what": "odd", "case": "b"}]


def test_class_in_no_case_is_reported_only_when_all_cases_can_be_used(tmp_path, write_toys):
    toys = dataclasses.replace(write_toys(tmp_path, cases=3), classes={0: "b", 2: "liver", 5: "tumor", 9: "cyst"})
    with pytest.raises(DatasetProblems) as caught:
        examine(toys, workers=1)
    assert whats(caught.value.problems) == [("class not found in any case", None)]
    toys.cases[0].label.unlink()
    with pytest.raises(DatasetProblems) as caught:
        examine(toys, workers=1)
    assert whats(caught.value.problems) == [("the file is missing", "toy0")]


def test_joined_and_ignored_classes(tmp_path, write_toys):
    toys = write_toys(tmp_path, cases=2)
    apart = examine(toys, workers=1).fingerprint.cases[0]
    joined = dataclasses.replace(toys, classes={0: "background", 2: "liver"}, merged={5: 2})
    (together, _) = examine(joined, workers=1).fingerprint.cases
    assert together.class_voxels == {0: apart.class_voxels[0], 2: apart.class_voxels[2] + apart.class_voxels[5]}
    ignoring = dataclasses.replace(toys, classes={0: "background", 2: "liver"}, ignore=5)
    (without, _) = examine(ignoring, workers=1).fingerprint.cases
    assert without.class_voxels == apart.class_voxels
    assert without.class_slices == {2: apart.class_slices[2]}


@pytest.fixture
def lacking(tmp_path, write_toys) -> Dataset:
    """Two modalities, of which one case lacks the second."""
    toys = write_toys(tmp_path, cases=3)
    cases = []
    for index, case in enumerate(toys.cases):
        second = tmp_path / f"second{index}.nii.gz"
        save(second, np.arange(20 * 24 * 7, dtype=np.int16).reshape(20, 24, 7))
        cases.append(Case(case.id, (*case.images, second if index else None), case.label))
    return dataclasses.replace(toys, modalities=("CT", "PET"), cases=tuple(cases))


def test_missing_modality_is_a_problem_unless_it_is_allowed(lacking):
    with pytest.raises(DatasetProblems) as caught:
        examine(lacking, workers=1)
    assert whats(caught.value.problems) == [("missing modality", "toy0")]
    examined = examine(lacking, allow_missing_modality=True, workers=1)
    assert [case.missing for case in examined.fingerprint.cases] == [(1,), (), ()]
    assert examined.fingerprint.cases[0].ranges[1] == (0, 0)
    assert "a modality is missing in some cases" in {warning.what for warning in examined.warnings}


def test_what_a_reader_notes_is_a_warning(tmp_path, write_toys, monkeypatch):
    real = examination.check_case

    def noting(*args, **options):
        volume, labels = real(*args, **options)
        return dataclasses.replace(volume, notes=("the gantry was tilted",)), labels

    monkeypatch.setattr(examination, "check_case", noting)
    toys = write_toys(tmp_path, cases=2)
    notes = [warning for warning in examine(toys, workers=1).warnings if warning.got == "the gantry was tilted"]
    assert [(note.case, note.file) for note in notes] == [(case.id, str(case.scan)) for case in toys.cases]


def test_case_is_read_once(tmp_path, write_toys, monkeypatch):
    read = []
    real = examination.check_case

    def counting(case, *args, **options):
        read.append(case.id)
        return real(case, *args, **options)

    monkeypatch.setattr(examination, "check_case", counting)
    examine(write_toys(tmp_path, cases=2), workers=1)
    assert read == ["toy0", "toy1"]


@pytest.mark.real
@pytest.mark.parametrize(
    ("name", "count", "data_type"), [("Task04_Hippocampus", 20, "float32"), ("sarcoma_mr", 3, "uint8")]
)
def test_nothing_is_odd_about_real_datasets(shared, name, count, data_type):
    from inflate3d.datasets import read_dataset

    dataset = read_dataset(shared / "data" / name)
    first = dataclasses.replace(dataset, cases=dataset.cases[:count])
    examined = examine(first, workers=1)
    assert examined.warnings == ()
    assert data_type in {case.data_type for case in examined.fingerprint.cases}


@pytest.mark.real
def test_ct_with_many_classes(shared):
    folder = shared / "data" / "abdomen_ct"
    scan, label = (folder / part / "example_ct_sm.nii.gz" for part in ("imagesTr", "labelsTr"))
    values = np.unique(read_labels(label).array).tolist()
    dataset = Dataset("Abdomen", folder, ("CT",), {v: f"class {v}" for v in values}, (Case("c", (scan,), label),))
    examined = examine(dataset)
    assert whats(examined.warnings) == [("the dataset has only one case", "c")]
    assert set(examined.fingerprint.cases[0].class_slices) == set(values) - {0}
    (mistaken,) = examine(dataclasses.replace(dataset, modalities=("MRI",))).warnings[:1]
    assert mistaken.what == "the values look like CT"
