"""Tiny datasets laid out as those that presets are for: their modalities, classes and axes, and no patient."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import nibabel
import numpy as np
import pytest

from inflate3d.datasets import acdc, bcv, msd

SHAPE = (14, 18, 5)
"""Columns, rows and slices."""

MSD_CASES = 7
"""Of each task, of which the paper's split makes 5 to train, 1 to validate, 1 to score."""

ACDC_PATIENTS = range(1, 26)
"""Enough to hold some of the paper's test patients and of those on whom the checkpoint is picked."""

CT, MR = "CT", "MRI"

TASKS: dict[str, tuple[Sequence[str], Sequence[str], tuple[float, float, float]]] = {
    "Task01_BrainTumor": (
        ("FLAIR", "T1w", "t1gd", "T2w"),
        ("edema", "non-enhancing tumor", "enhancing tumor"),
        (1, 1, 1),
    ),
    "Task02_Heart": ((MR,), ("left atrium",), (1.25, 1.25, 1.37)),
    "Task03_Liver": ((CT,), ("liver", "cancer"), (0.8, 0.8, 1.5)),
    "Task04_Hippocampus": ((MR,), ("Anterior", "Posterior"), (1, 1, 1)),
    "Task05_Prostate": (("T2", "ADC"), ("PZ", "TZ"), (0.6, 0.6, 3.6)),
    "Task06_Lung": ((CT,), ("cancer",), (0.8, 0.8, 1.25)),
    "Task07_Pancreas": ((CT,), ("pancreas", "cancer"), (0.8, 0.8, 2.5)),
    "Task08_HepaticVessel": ((CT,), ("Vessel", "Tumor"), (0.8, 0.8, 5)),
    "Task09_Spleen": ((CT,), ("spleen",), (0.8, 0.8, 5)),
    "Task10_Colon": ((CT,), ("colon cancer primaries",), (0.8, 0.8, 5)),
}
"""Modalities, classes, and millimeters between voxels, as the Decathlon's listings and scans have them."""


@pytest.fixture(scope="session")
def look_alikes() -> dict[str, Callable[[Path], Path]]:
    """For each dataset that presets are for, what writes its like into a folder and gives its own."""
    return {
        "bcv": _write_bcv,
        "acdc": _write_acdc,
        **{f"msd-{name[:6].lower()}": partial(_write_task, name) for name in TASKS},
    }


@pytest.fixture
def published_sizes(monkeypatch) -> None:
    """Takes the look-alikes' numbers of cases for the published ones, so that they have the paper's splits."""
    monkeypatch.setattr(msd, "TRAINING_CASES", (MSD_CASES,) * len(TASKS))
    monkeypatch.setattr(acdc, "_PATIENTS", ACDC_PATIENTS)


def _write_task(name: str, folder: Path) -> Path:
    """Writes a task of the Decathlon: scans of several modalities have these as their last axis."""
    modalities, classes, spacing = TASKS[name]
    folder = folder / name
    affine = np.diag([*spacing, 1.0])
    training = []
    for number in range(MSD_CASES):
        file = f"case_{number:03d}.nii.gz"
        scan, labels = _case(number, len(classes), ct=modalities[0] == CT, channels=len(modalities))
        _save(folder / "imagesTr" / file, scan if len(modalities) > 1 else scan[..., 0], affine)
        _save(folder / "labelsTr" / file, labels, affine)
        training.append({"image": f"./imagesTr/{file}", "label": f"./labelsTr/{file}"})
    listing = {
        "name": name,
        "modality": {str(index): modality for index, modality in enumerate(modalities)},
        "labels": {str(index): label for index, label in enumerate(("background", *classes))},
        "training": training,
    }
    (folder / "dataset.json").write_text(json.dumps(listing), encoding="utf-8")
    return folder


def _write_bcv(folder: Path) -> Path:
    """Writes BCV's 30 labeled scans; their first axis runs from right to left, against ours."""
    affine = np.diag([-0.8, 0.8, 3.0, 1.0])
    folder = folder / "bcv"
    training = folder / "RawData" / "Training"
    for number in (*range(1, 11), *range(21, 41)):
        scan, labels = _case(number, len(bcv.CLASSES) - 1, ct=True)
        _save(training / f"img/img{number:04d}.nii.gz", scan[..., 0], affine)
        _save(training / f"label/label{number:04d}.nii.gz", labels, affine)
    return folder


def _write_acdc(folder: Path) -> Path:
    """Writes patients of ACDC with two labeled frames each."""
    folder, affine = folder / "acdc", np.diag([-1.5, -1.5, 10.0, 1.0])
    for number in ACDC_PATIENTS:
        patient = folder / "training" / f"patient{number:03d}"
        for frame in (1, 9):
            scan, labels = _case(100 * frame + number, 3, ct=False)
            stem = f"patient{number:03d}_frame{frame:02d}"
            _save(patient / f"{stem}.nii.gz", scan[..., 0], affine)
            _save(patient / f"{stem}_gt.nii.gz", labels, affine)
        (patient / "Info.cfg").write_text("ED: 1\nES: 9\nGroup: NOR\n", encoding="utf-8")
    return folder


def _case(seed: int, classes: int, *, ct: bool, channels: int = 1) -> tuple[np.ndarray, np.ndarray]:
    """Columns of classes, each of its own brightness: HU in CT, and in MR whatever the scanner gives."""
    random = np.random.default_rng(seed)
    labels = np.zeros(SHAPE, np.uint8)
    for value in range(1, classes + 1):
        labels[value % SHAPE[0], 3:-3, 1:-1] = value
    bright = random.normal(0, 20, (*SHAPE, channels)) + 10 * labels[..., np.newaxis]
    return (bright if ct else 600 + 3 * bright).astype(np.int16), labels


def _save(path: Path, array: np.ndarray, affine: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    nibabel.Nifti1Image(array, affine).to_filename(path)
