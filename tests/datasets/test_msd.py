import json
from pathlib import Path

import pytest

from inflate3d.datasets import read_dataset
from inflate3d.datasets.msd import read_msd, write_msd_listing
from inflate3d.errors import DataError, DatasetProblems

SHARED = Path(__file__).parents[3] / "shared" / "data"


def listing(*entries, **changes):
    return {
        "name": "Prostate",
        "modality": {"1": "ADC", "0": "T2"},
        "labels": {"2": "TZ", "0": "background", "1": "PZ"},
        "training": [{"image": f"./imagesTr/{name}", "label": f"./labelsTr/{name}"} for name in entries],
    } | changes


@pytest.fixture
def folder(tmp_path):
    """Two cases, listed against the alphabet; the files' contents are never looked at here."""
    names = ["prostate_10.nii.gz", "prostate_02.nii.gz"]
    for part in ("imagesTr", "labelsTr"):
        (tmp_path / part).mkdir()
        for name in names:
            (tmp_path / part / name).write_bytes(b"")
    describe(tmp_path, listing(*names))
    return tmp_path


def describe(folder, content):
    (folder / "dataset.json").write_text(json.dumps(content))


def test_listing_is_read_in_order(folder):
    dataset = read_dataset(folder)
    assert dataset.name == "Prostate"
    assert dataset.root == folder
    assert dataset.modalities == ("T2", "ADC")
    assert list(dataset.classes.items()) == [(0, "background"), (1, "PZ"), (2, "TZ")]
    assert [case.id for case in dataset.cases] == ["prostate_02", "prostate_10"]
    assert dataset.cases[0].images == (folder / "imagesTr" / "prostate_02.nii.gz",)
    assert dataset.cases[0].label == folder / "labelsTr" / "prostate_02.nii.gz"


def test_written_listing_reads_back(folder):
    dataset = read_msd(folder)
    (folder / "dataset.json").unlink()
    write_msd_listing(dataset)
    assert read_msd(folder) == dataset


def test_folder_names_a_data_set_without_a_name(folder):
    content = listing("prostate_02.nii.gz")
    del content["name"]
    describe(folder, content)
    assert read_msd(folder).name == folder.name


def test_byte_order_mark_and_macos_files_are_passed_over(folder):
    content = json.dumps(listing("._prostate_02.nii.gz", "prostate_02.nii.gz"))
    (folder / "dataset.json").write_text(content, encoding="utf-8-sig")
    assert [case.id for case in read_msd(folder).cases] == ["prostate_02"]


def test_all_missing_files_are_told_at_once(folder):
    (folder / "imagesTr" / "prostate_10.nii.gz").unlink()
    (folder / "labelsTr" / "prostate_02.nii.gz").unlink()
    with pytest.raises(DatasetProblems) as caught:
        read_msd(folder)
    assert [(problem.what, problem.case, problem.file) for problem in caught.value.problems] == [
        ("a listed file is missing", "prostate_10", str(folder / "imagesTr" / "prostate_10.nii.gz")),
        ("a listed file is missing", "prostate_02", str(folder / "labelsTr" / "prostate_02.nii.gz")),
    ]


@pytest.mark.parametrize("path", ["../prostate_02.nii.gz", "./imagesTr/../../x.nii.gz", "/etc/passwd"])
def test_paths_out_of_the_folder_are_refused(folder, path):
    describe(folder, listing(training=[{"image": path, "label": "./labelsTr/prostate_02.nii.gz"}]))
    with pytest.raises(DatasetProblems) as caught:
        read_msd(folder)
    assert [(problem.what, problem.got) for problem in caught.value.problems] == [
        ("a listed path leads out of the data set", path)
    ]


def test_two_entries_of_one_name(folder):
    describe(folder, listing("prostate_02.nii.gz", "prostate_02.nii.gz"))
    with pytest.raises(DatasetProblems, match="two entries have one name"):
        read_msd(folder)


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("{", "Invalid JSON"),
        ("[]", "the file"),
        ('{"modality": {"0": "CT"}}', "labels: Field required; training: Field required"),
        (json.dumps(listing(labels={"background": 0, "PZ": 1})), "labels.background"),
        (json.dumps(listing(training=["imagesTr/a.nii.gz"])), "training.0"),
        (json.dumps(listing(training=[{"image": "imagesTr/a.nii.gz"}])), "training.0.label: Field required"),
        (json.dumps(listing(labels={"1": "PZ"})), "{1: 'PZ'}"),
        (json.dumps(listing(labels={"0": "background"})), "{0: 'background'}"),
    ],
)
def test_listing_that_says_too_little(folder, content, told):
    (folder / "dataset.json").write_text(content)
    with pytest.raises(DataError) as caught:
        read_msd(folder)
    assert told in str(caught.value.got)
    assert caught.value.file == str(folder / "dataset.json")


@pytest.mark.parametrize(
    ("changes", "told"), [({"training": []}, "no labelled case is listed"), ({"modality": {}}, "no modality")]
)
def test_listing_without_cases_or_modalities(folder, changes, told):
    describe(folder, listing(**changes))
    with pytest.raises(DataError, match=told):
        read_msd(folder)


def test_folder_of_no_known_layout_shows_what_was_expected_and_found(folder):
    (folder / "dataset.json").unlink()
    with pytest.raises(DataError, match="layout is not known") as caught:
        read_dataset(folder)
    assert caught.value.expected == "dataset.json (Medical Segmentation Decathlon)"
    assert caught.value.got == "imagesTr, labelsTr"


def test_folder_that_does_not_exist_names_the_nearest(tmp_path):
    (tmp_path / "Task09_Spleen").mkdir()
    (tmp_path / "Task04_Hippocampus").mkdir()
    with pytest.raises(DataError, match="does not exist") as caught:
        read_dataset(tmp_path / "task9_spleen")
    assert caught.value.remedy == f"did you mean {tmp_path / 'Task09_Spleen'}?"


def test_file_in_the_place_of_the_folder(folder):
    with pytest.raises(DataError, match="a file, not a folder"):
        read_dataset(folder / "dataset.json")


@pytest.mark.real
@pytest.mark.skipif(not (SHARED / "Task04_Hippocampus").is_dir(), reason="the real scans are not there")
def test_hippocampus():
    dataset = read_dataset(SHARED / "Task04_Hippocampus")
    assert len(dataset.cases) == 260
    assert dataset.classes == {0: "background", 1: "Anterior", 2: "Posterior"}
    assert dataset.modalities == ("MRI",)
