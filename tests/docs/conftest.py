"""The datasets, scans, series and trained run that the pages and the examples name, all generated and tiny."""

import shutil
from collections.abc import Iterator
from contextlib import chdir
from dataclasses import replace
from pathlib import Path

import nibabel
import numpy as np
import pytest

from inflate3d.cli import main
from inflate3d.datasets import Dataset, read_dataset
from inflate3d.datasets.regions import Regions
from inflate3d.datasets.writing import write_dataset
from inflate3d.io import read_labels, write_labels
from inflate3d.io.segments import Segments
from inflate3d.io.voxels import find_values

SMALL = (10, 12, 5)
AFFINE = np.diag([-1.0, -1.0, 5.0, 1.0])
RUNS = ("Liver", "Task04_Hippocampus", "Task09_Spleen")
QUICK = [
    *("--encoder", "resnet10t", "--weights", "none", "--decoder-channels", "8", "--detail-channels", "4"),
    *("--image-size", "32", "32", "--steps", "2", "--batch-size", "2", "--accumulate", "1", "--workers", "0"),
    *("--accelerator", "cpu", "--validation-cases", "1", "--validate-every", "2"),
]
"""Options that make any training one of a second; of an option that is given twice the last counts."""


@pytest.fixture(scope="session")
def quick() -> list[str]:
    """Options that make any training short."""
    return QUICK


@pytest.fixture(scope="session")
def pantry(tmp_path_factory, write_toys, write_series) -> Path:
    """A folder with everything that the pages name."""
    folder = tmp_path_factory.mktemp("pantry")
    toys = write_toys(folder / "data/Liver")
    write_toys(folder / "data/Task09_Spleen", 41)  # as many as published, so that there is the paper's split
    _write_hippocampi(folder / "data/Task04_Hippocampus", folder / "data/Liver")
    _write_bcv(folder / "data/BCV/RawData/Training")
    _write_acdc(folder / "data/ACDC/training")
    for case in toys.cases:
        for source, part in ((case.scan, "scans"), (case.label, "masks")):
            _copy(source, folder / "data/Pairs" / part / f"{case.id}.nii.gz")
    write_dataset(read_dataset(folder / "data/Liver"), folder / "nnUNet_raw/Dataset005_Prostate", "nnunet")
    _write_scans(folder, toys.cases[0].scan, write_series)
    _write_overlaps(folder / "data", toys)
    with chdir(folder):
        assert main(["train", "data/Liver", *QUICK]) == 0
        assert main(["evaluate", "runs/Liver"]) == 0
    for name in RUNS[1:]:
        shutil.copytree(folder / "runs/Liver", folder / "runs" / name)
    return folder


@pytest.fixture
def kitchen(pantry, tmp_path) -> Iterator[Path]:
    """A working folder for one page or example: copies of runs and small data, and links to what no command changes."""
    links = {"BCV", "ACDC", "Task09_Spleen"}
    for path in pantry.iterdir():
        if path.name not in ("data", "prepared"):
            (shutil.copytree if path.is_dir() else shutil.copy)(path, tmp_path / path.name)
    (tmp_path / "data").mkdir()
    for path in (pantry / "data").iterdir():
        copy = tmp_path / "data" / path.name
        copy.symlink_to(path) if path.name in links else shutil.copytree(path, copy)
    with chdir(tmp_path):
        yield tmp_path


def _copy(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(source, target)


def _write_hippocampi(folder: Path, toys: Path) -> None:
    shutil.copytree(toys, folder)
    for name in ("imagesTr/hippocampus_001", "imagesTs/hippocampus_002", "labelsTr/hippocampus_001"):
        part = "labelsTr" if name.startswith("labels") else "imagesTr"
        _copy(toys / part / "toy0.nii.gz", folder / f"{name}.nii.gz")


def _write_overlaps(data: Path, toys: Dataset) -> None:
    """Livers with a tumor inside: as regions of label maps, and as a mask for each structure."""
    regions = Regions(values={"liver": (2, 5), "tumor": (5,)}, order=(2, 5))
    write_dataset(replace(toys, regions=regions), data / "Regions", "folder")
    for case in toys.cases[:2]:
        assert case.label is not None
        _copy(case.scan, data / "Structures" / case.id / "ct.nii.gz")
        labels = read_labels(case.label)
        for name, held in regions.values.items():
            file = data / "Structures" / case.id / "segmentations" / f"{name}.nii.gz"
            file.parent.mkdir(exist_ok=True)
            write_labels(file, find_values(labels.array[0], held), like=case.scan)


def _save(path: Path, values: range | tuple[int, ...], *, labels: bool) -> None:
    """A scan, or its label map with each value in a column of its own."""
    array = np.zeros(SMALL, np.int16)
    array[1:9, 1 : 1 + 10 * len(values) // len(values), 1:4] = np.resize(np.array([*values]), (8, 10))[..., np.newaxis]
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(len(path.name)).integers(0, 20, SMALL, np.int16)
    nibabel.Nifti1Image(array.astype(np.uint8) if labels else 50 * array + noise, AFFINE).to_filename(path)


def _write_bcv(folder: Path) -> None:
    for number in [*range(1, 11), *range(21, 41)]:
        _save(folder / f"img/img{number:04d}.nii.gz", range(1, 14), labels=False)
        _save(folder / f"label/label{number:04d}.nii.gz", range(1, 14), labels=True)


def _write_acdc(folder: Path) -> None:
    for number in range(1, 101):
        patient = folder / f"patient{number:03d}"
        for frame in (1, 9):
            stem = f"patient{number:03d}_frame{frame:02d}"
            _save(patient / f"{stem}.nii.gz", (1, 2, 3), labels=False)
            _save(patient / f"{stem}_gt.nii.gz", (1, 2, 3), labels=True)
        (patient / "Info.cfg").write_text("ED: 1\nES: 9\nGroup: NOR\n")


def _write_scans(folder: Path, scan: Path, write_series) -> None:
    for name in ("new_scan", "folder_of_scans/a", "folder_of_scans/b"):
        _copy(scan, folder / f"{name}.nii.gz")
    boxes = np.zeros((210, 210, 42), np.int16)
    boxes[40:160, 60:150, 3:9] = 400
    for name, array in (("scan", boxes), ("label", boxes // 400), ("prediction", np.roll(boxes, 5, 0) // 400)):
        nibabel.Nifti1Image(array, AFFINE).to_filename(folder / f"{name}.nii.gz")
    values = np.random.default_rng(0).integers(0, 300, (7, 24, 20)).astype(np.int16)
    write_series(folder / "dicom_folder", values)
    portal = {"0008|103e": "portal venous"}
    write_series(folder / "patients/p7/portal_venous", values, uid="1.2.3.5", tags=portal)
    for patient in ("p1", "p2"):
        series = folder / "studies" / patient / "scan"
        write_series(series, values, uid=f"1.2.3.{patient[1]}.7")
        labels = np.zeros((20, 24, 7), np.uint8)
        labels[5:12, 6:16, 1:-1] = 1
        segments = Segments({1: "GTV Mass"})
        write_labels(folder / "studies" / patient / "rtstruct.dcm", labels, like=series, segments=segments)
    for uid in ("1.2.840.113619.2.55.3", "1.2.840.113619.2.55.4"):
        names = [f"{uid}-{index}.dcm" for index in range(len(values))]
        write_series(folder / "patients/p7", values, uid=uid, names=names)
