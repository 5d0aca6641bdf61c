"""What holds for every layout, on small look-alikes of the published datasets."""

import gzip
import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import nibabel
import numpy as np
import pytest

from inflate3d.datasets import layouts, read_dataset
from inflate3d.datasets.case import Case, Dataset
from inflate3d.datasets.layouts import Layout
from inflate3d.datasets.splits import check_split
from inflate3d.errors import DataError, DatasetProblems
from inflate3d.io import read_images, read_labels

BCV_NUMBERS = [*range(1, 11), *range(21, 41)]
SPLITS = [{"train": ["a", "c"], "val": ["b"]}, {"train": ["b"], "val": ["a", "c"]}]


@dataclass(frozen=True)
class LookAlike:
    """A small dataset, and what has to be read from it."""

    ids: list[str]
    modalities: tuple[str, ...]
    classes: int
    scan: str  # the first case's files, to be damaged
    label: str
    splits: tuple[str, ...] = ()
    groups: int = 0


@cache
def content_of(modalities: int, *, is_compressed: bool) -> bytes:
    shape = (4, 4, 3) if modalities == 1 else (4, 4, 3, modalities)
    content = nibabel.Nifti1Image(np.ones(shape, np.int16), np.diag([1, 1, 3, 1])).to_bytes()
    return gzip.compress(content, mtime=0) if is_compressed else content


def write(folder: Path, *names: str, modalities: int = 1) -> None:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content_of(modalities, is_compressed=name.endswith(".gz")))


def like_msd(folder: Path) -> LookAlike:
    ids = ["prostate_16", "prostate_04", "prostate_10"]
    write(folder, *(f"imagesTr/{name}.nii" for name in ids), modalities=2)
    write(folder, *(f"labelsTr/{name}.nii" for name in ids), "imagesTs/prostate_99.nii")
    listing = {
        "modality": {"0": "T2", "1": "ADC"},
        "labels": {"0": "background", "1": "PZ", "2": "TZ"},
        "training": [{"image": f"./imagesTr/{name}.nii", "label": f"./labelsTr/{name}.nii"} for name in ids],
        "test": ["./imagesTs/prostate_99.nii"],
    }
    (folder / "dataset.json").write_text(json.dumps(listing))
    return LookAlike(sorted(ids), ("T2", "ADC"), 3, "imagesTr/prostate_04.nii", "labelsTr/prostate_04.nii")


def like_nnunet(folder: Path) -> LookAlike:
    for name in "cab":
        write(folder, f"imagesTr/{name}_0000.nii", f"imagesTr/{name}_0001.nii", f"labelsTr/{name}.nii")
    write(folder, "imagesTs/d_0000.nii")
    listing = {
        "channel_names": {"0": "T2", "1": "ADC"},
        "labels": {"background": 0, "PZ": 1, "TZ": 2},
        "numTraining": 3,
        "file_ending": ".nii",
    }
    (folder / "dataset.json").write_text(json.dumps(listing))
    (folder / "splits_final.json").write_text(json.dumps(SPLITS))
    return LookAlike(["a", "b", "c"], ("T2", "ADC"), 3, "imagesTr/a_0000.nii", "labelsTr/a.nii", ("own",))


def like_bcv(folder: Path) -> LookAlike:
    training = folder / "RawData" / "Training"
    for number in BCV_NUMBERS:
        write(training, f"img/img{number:04d}.nii.gz", f"label/label{number:04d}.nii.gz")
    write(folder, "RawData/Testing/img/img0061.nii.gz", "averaged-training-images/avg.nii.gz")
    ids = [f"img{number:04d}" for number in BCV_NUMBERS]
    files = "RawData/Training/img/img0001.nii.gz", "RawData/Training/label/label0001.nii.gz"
    return LookAlike(ids, ("CT",), 14, *files, splits=("paper",))


def like_acdc(folder: Path) -> LookAlike:
    ids = []
    for number in range(1, 151):
        patient = folder / ("training" if number <= 100 else "testing") / f"patient{number:03d}"
        frames = [f"patient{number:03d}_frame{frame:02d}" for frame in (1, 8 + number % 7)]
        write(patient, *(f"{frame}{end}.nii.gz" for frame in frames for end in ("", "_gt")))
        write(patient, f"patient{number:03d}_4d.nii.gz", modalities=5)
        (patient / "Info.cfg").write_text(f"ED: 1\nES: {8 + number % 7}\nGroup: DCM\nHeight: 184.0\n")
        ids += frames if number <= 100 else []
    files = "patient001/patient001_frame01.nii.gz", "patient001/patient001_frame01_gt.nii.gz"
    scan, label = (f"training/{file}" for file in files)
    return LookAlike(ids, ("MRI",), 4, scan, label, splits=("paper", "paper-holdout"), groups=100)


def like_folder(folder: Path) -> LookAlike:
    rows = ["case,image,image2,label,split,group"]
    for name, part, group in (("c", "test", "P"), ("a", "train", "Q"), ("b", "validation", "R")):
        write(folder, f"{name}_t1.nii", f"{name}_t2.nii", f"{name}_seg.nii")
        rows.append(f"{name},{name}_t1.nii,{name}_t2.nii,{name}_seg.nii,{part},{group}")
    (folder / "dataset.yaml").write_text("modalities: [T1, T2]\nclasses: {0: background, 1: liver, 2: tumor}\n")
    (folder / "cases.csv").write_text("\n".join(rows) + "\n")
    return LookAlike(["a", "b", "c"], ("T1", "T2"), 3, "a_t1.nii", "a_seg.nii", splits=("own",), groups=3)


LOOK_ALIKES = {
    "folder of one's own": like_folder,
    "Medical Segmentation Decathlon": like_msd,
    "nnU-Net": like_nnunet,
    "BCV": like_bcv,
    "ACDC": like_acdc,
}


@pytest.fixture(params=LOOK_ALIKES, ids=lambda name: name.split()[0])
def look_alike(request, tmp_path) -> tuple[Path, LookAlike]:
    return tmp_path / "data", LOOK_ALIKES[request.param](tmp_path / "data")


def test_every_layout_has_a_look_alike():
    assert {layout.name for layout in layouts.LAYOUTS} == set(LOOK_ALIKES)


def test_cases_classes_groups_and_splits(look_alike):
    folder, expected = look_alike
    dataset = read_dataset(folder)
    assert dataset.root == folder
    assert [case.id for case in dataset.cases] == expected.ids
    assert dataset.modalities == expected.modalities
    assert list(dataset.classes) == list(range(expected.classes))
    assert dataset.classes[0] == "background"
    assert len({case.group for case in dataset.cases} - {None}) == expected.groups
    assert tuple(dataset.splits) == expected.splits
    assert dataset.cases[0].scan == folder / expected.scan
    assert dataset.cases[0].label == folder / expected.label


def test_splits_fit_the_cases_and_tear_no_group_apart(look_alike):
    folder, _ = look_alike
    dataset = read_dataset(folder)
    group_of = {case.id: case.group or case.id for case in dataset.cases}
    for split in (split for folds in dataset.splits.values() for split in folds):
        check_split(split, list(group_of), file=folder)
        parts = [split.train, split.validation, split.test]
        assert sorted(sum(parts, ())) == sorted(group_of)
        assert all(list(part) == sorted(part) for part in parts)
        assert len(set(group_of.values())) == sum(len({group_of[case] for case in part}) for part in parts)
        assert split.source


def test_scans_and_labels_can_be_read(look_alike):
    folder, expected = look_alike
    case = read_dataset(folder).cases[-1]
    assert read_images(case.images).array.shape == (len(expected.modalities), 4, 4, 3)
    assert case.label is not None
    assert read_labels(case.label).array.shape == (1, 4, 4, 3)


def test_folder_may_be_named_from_within(look_alike, monkeypatch):
    folder, expected = look_alike
    monkeypatch.chdir(folder)
    assert [case.id for case in read_dataset(".").cases] == expected.ids


def test_missing_files_are_all_reported_with_case_and_file(look_alike):
    folder, expected = look_alike
    scans = [image for image in read_dataset(folder).cases[0].images if image]
    for scan in scans:
        scan.unlink()
    with pytest.raises(DatasetProblems) as caught:
        read_dataset(folder)
    problems = [(problem.what, problem.case) for problem in caught.value.problems]
    assert set(problems) == {("file not found", expected.ids[0])}
    files = [problem.file for problem in caught.value.problems]
    assert files == [str(scan) for scan in scans][: len(files)]  # nnU-Net's listing doesn't promise a second one
    assert files[0] == str(folder / expected.scan)


def test_missing_labels(look_alike):
    folder, expected = look_alike
    (folder / expected.label).unlink()
    with pytest.raises(DatasetProblems) as caught:
        read_dataset(folder)
    assert [(problem.case, problem.file) for problem in caught.value.problems] == [
        (expected.ids[0], str(folder / expected.label))
    ]


@pytest.mark.parametrize("part", ["scan", "label"])
def test_a_file_in_two_formats_is_refused_where_names_decide(look_alike, part):
    folder, expected = look_alike
    file = folder / getattr(expected, part)
    file.with_name(file.name.split(".")[0] + ".mha").touch()
    if (folder / "dataset.yaml").exists() or '"training"' in _text_of(folder / "dataset.json"):
        assert [case.id for case in read_dataset(folder).cases] == expected.ids  # the list names the file
        return
    with pytest.raises(DatasetProblems) as caught:
        read_dataset(folder)
    assert [(problem.case, problem.file) for problem in caught.value.problems] == [(expected.ids[0], str(file))]


def _text_of(file):
    return file.read_text(encoding="utf-8") if file.exists() else ""


def test_files_that_macos_leaves_are_no_cases(look_alike):
    folder, _ = look_alike
    before = read_dataset(folder)
    for path in [path for path in folder.rglob("*") if path.is_file()]:
        path.with_name(f"._{path.name}").write_bytes(b"Mac OS X")
    assert read_dataset(folder) == before


def made_of(tmp_path, monkeypatch, *cases: Case) -> Path:
    """A dataset of a layout that reads any cases."""
    dataset = Dataset("Made", tmp_path, ("CT",), {0: "background", 1: "liver"}, cases)
    monkeypatch.setattr(layouts, "LAYOUTS", (Layout("made", "anything", Path.is_dir, lambda _: dataset),))
    return tmp_path


def test_dataset_without_a_case(tmp_path, monkeypatch):
    with pytest.raises(DataError, match="no labeled case") as caught:
        read_dataset(made_of(tmp_path, monkeypatch))
    assert caught.value.expected == "anything (made)"


@pytest.mark.parametrize("name", ["", "a/b", "a\\b", "..", "a..b", ".hidden", "tab\there", "nul\0", "line\n"])
def test_names_that_no_file_can_have(tmp_path, monkeypatch, name):
    write(tmp_path, "scan.nii", "label.nii")
    case = Case(name, (tmp_path / "scan.nii",), tmp_path / "label.nii")
    with pytest.raises(DatasetProblems) as caught:
        read_dataset(made_of(tmp_path, monkeypatch, case))
    assert [(problem.what, problem.got) for problem in caught.value.problems] == [("invalid case name", repr(name))]


def test_names_that_some_disks_take_for_one(tmp_path, monkeypatch):
    write(tmp_path, "scan.nii", "label.nii")
    cases = [Case(name, (tmp_path / "scan.nii",), tmp_path / "label.nii") for name in ("Liver", "liver", "lung")]
    with pytest.raises(DatasetProblems) as caught:
        read_dataset(made_of(tmp_path, monkeypatch, *cases))
    assert [problem.case for problem in caught.value.problems] == ["Liver"]


def test_all_mistakes_are_reported_at_once(tmp_path, monkeypatch):
    write(tmp_path, "scan.nii")
    away = Path("/elsewhere/scan.nii")
    cases = [
        Case("a", (tmp_path / "scan.nii",), tmp_path / "gone.nii"),
        Case("b", (tmp_path / ".." / "scan.nii",), away),
        Case("c", (None,), tmp_path / "scan.nii"),
    ]
    with pytest.raises(DatasetProblems) as caught:
        read_dataset(made_of(tmp_path, monkeypatch, *cases))
    assert [(problem.what, problem.case, problem.got) for problem in caught.value.problems] == [
        ("file not found", "a", None),
        ("path outside the dataset", "b", str(tmp_path / ".." / "scan.nii")),
        ("path outside the dataset", "b", str(away)),
        ("the case has no scan", "c", None),
    ]


def test_one_file_in_two_roles(tmp_path, monkeypatch):
    write(tmp_path, "scan.nii", "label.nii")
    scan, label = tmp_path / "scan.nii", tmp_path / "label.nii"
    cases = [Case("a", (scan, label), label), Case("b", (scan, scan), label), Case("c", (scan, None), label)]
    with pytest.raises(DatasetProblems) as caught:
        read_dataset(made_of(tmp_path, monkeypatch, *cases))
    assert [(problem.case, problem.got) for problem in caught.value.problems] == [("a", str(label)), ("b", str(scan))]


def test_dicom_series_are_folders_or_named_in_one(tmp_path, monkeypatch):
    write(tmp_path, "label.nii", "series/0001")
    label = tmp_path / "label.nii"
    cases = [
        Case("folder", (tmp_path / "series",), label),
        Case("uid", (tmp_path / "series" / "1.2.840.1",), label),
        Case("gone", (tmp_path / "away" / "1.2.840.1",), label),
    ]
    with pytest.raises(DatasetProblems) as caught:
        read_dataset(made_of(tmp_path, monkeypatch, *cases))
    assert [problem.case for problem in caught.value.problems] == ["gone"]


def test_folder_of_no_known_layout_shows_what_was_expected_and_found(tmp_path):
    for name in ("scans", "masks"):
        (tmp_path / name).mkdir()
    with pytest.raises(DataError, match="unknown dataset layout") as caught:
        read_dataset(tmp_path)
    for layout in layouts.LAYOUTS:
        assert f"{layout.looks} ({layout.name})" in str(caught.value.expected)
    assert caught.value.got == "masks, scans"


def test_folder_above_the_dataset_names_it(tmp_path):
    like_msd(tmp_path / "Task05_Prostate")
    with pytest.raises(DataError, match="unknown dataset layout") as caught:
        read_dataset(tmp_path)
    assert caught.value.hint == f"did you mean {tmp_path / 'Task05_Prostate'}?"


def test_folder_that_does_not_exist_names_the_nearest(tmp_path):
    (tmp_path / "Task09_Spleen").mkdir()
    (tmp_path / "Task04_Hippocampus").mkdir()
    with pytest.raises(DataError, match="folder not found") as caught:
        read_dataset(tmp_path / "task9_spleen")
    assert caught.value.hint == f"did you mean {tmp_path / 'Task09_Spleen'}?"


def test_file_in_the_place_of_the_folder(tmp_path):
    like_msd(tmp_path)
    with pytest.raises(DataError, match="a file, not a folder"):
        read_dataset(tmp_path / "dataset.json")
