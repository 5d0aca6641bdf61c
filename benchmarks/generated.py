"""Datasets that benchmarks make up: noise and ellipsoids, of the size and the types of real ones."""

from __future__ import annotations

from pathlib import Path

import nibabel
import numpy as np

from inflate3d.datasets import Dataset
from inflate3d.datasets.case import Case
from inflate3d.datasets.msd import write_msd_listing

BODY, AIR, NOISE = -80, -1000, 15
"""Hounsfield units."""


def write_hippocampi(folder: Path, cases: int) -> Dataset:
    """Small MR scans like those of MSD Task04: 35×50×36 voxels, floats that a header's slope made of bytes."""
    random = np.random.default_rng(0)
    return _write(
        folder,
        "Hippocampi",
        "MRI",
        {0: "background", 1: "front", 2: "back"},
        [(_scaled(scan, random), labels) for scan, labels in (_organs((35, 50, 36), 2, random) for _ in range(cases))],
        np.diag([1.0, 1.0, 1.0, 1.0]),
    )


def write_ct(folder: Path, shape: tuple[int, int, int], organs: int = 13) -> Dataset:
    """One CT."""
    classes = {0: "background", **{number: f"organ {chr(96 + number)}" for number in range(1, organs + 1)}}
    scan = _organs(shape, organs, np.random.default_rng(0))
    return _write(folder, "CT", "CT", classes, [scan], np.diag([-0.8, -0.8, 1.5, 1.0]))


def _organs(shape: tuple[int, int, int], organs: int, random: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """A scan in Hounsfield units, and its labels."""
    labels = np.zeros(shape, np.uint8)
    scan = np.full(shape, AIR, np.int16)
    scan[_ellipsoid(shape, np.zeros(3), np.array([0.85, 0.6, 9.0]))] = BODY
    for organ in range(1, organs + 1):
        inside = _ellipsoid(shape, random.uniform(-0.5, 0.5, 3), random.uniform(0.15, 0.4, 3))
        labels[inside], scan[inside] = organ, 30 + 10 * organ
    for plane in scan.T:
        plane += np.rint(random.normal(0, NOISE, plane.shape)).astype(np.int16)
    return scan, labels


def _ellipsoid(shape: tuple[int, int, int], center: np.ndarray, radii: np.ndarray) -> np.ndarray:
    places = np.ix_(*(np.linspace(-1, 1, size, dtype=np.float32) for size in shape))
    return sum(((place - c) / r) ** 2 for place, c, r in zip(places, center, radii, strict=True)) < 1


def _scaled(scan: np.ndarray, random: np.random.Generator) -> np.ndarray:
    gray = np.clip(scan.astype(np.float32) - scan.min(), 0, None)
    gray = np.rint(gray * (220 / gray.max()))
    return (gray * np.float32(random.uniform(0.5, 900))).astype(np.float32)


def _write(
    folder: Path,
    name: str,
    modality: str,
    classes: dict[int, str],
    scans: list[tuple[np.ndarray, np.ndarray]],
    affine: np.ndarray,
) -> Dataset:
    listed = []
    for number, (scan, labels) in enumerate(scans):
        case = Case(
            f"case_{number:03d}",
            (folder / f"imagesTr/case_{number:03d}.nii.gz",),
            folder / f"labelsTr/case_{number:03d}.nii.gz",
        )
        for path, array in ((case.scan, scan), (folder / f"labelsTr/case_{number:03d}.nii.gz", labels)):
            path.parent.mkdir(parents=True, exist_ok=True)
            nibabel.Nifti1Image(np.asarray(array, order="F"), affine).to_filename(path)
        listed.append(case)
    dataset = Dataset(name, folder, (modality,), classes, tuple(listed))
    write_msd_listing(dataset)
    return dataset
