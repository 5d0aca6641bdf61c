"""Volumes as NIfTI files in memory, and what the viewer's script is told of them."""

from __future__ import annotations

import gzip
from collections.abc import Sequence
from dataclasses import dataclass

import nibabel
import numpy as np
from jaxtyping import Float, Integer, Shaped

from inflate3d.report.drawing import class_color
from inflate3d.report.sheet import ClassEntry


@dataclass(frozen=True)
class Image:
    """A file of the page.

    Attributes:
        name: What it is called on the page.
        content: A gzipped NIfTI file.
    """

    name: str
    content: bytes


def nifti(array: Shaped[np.ndarray, "i j k"], affine: Float[np.ndarray, "4 4"]) -> bytes:
    """A gzipped NIfTI file.

    Args:
        array: Voxel values; those of types that NIfTI has not become float32.
        affine: Voxel index to millimeters in RAS+ world space.
    """
    kept = array.dtype in (np.uint8, np.int16, np.int32, np.float32)
    image = nibabel.Nifti1Image(array if kept else array.astype(np.float32), affine)
    image.header.set_xyzt_units("mm")
    return gzip.compress(image.to_bytes(), compresslevel=1, mtime=0)


def label_nifti(
    array: Integer[np.ndarray, "i j k"], affine: Float[np.ndarray, "4 4"], classes: Sequence[ClassEntry]
) -> bytes:
    """A label map whose values are the classes' places in the list, from 1 on, so that 255 classes fit into bytes."""
    numbers = np.zeros(array.shape, np.uint8 if len(classes) < 256 else np.int16)
    for place, entry in enumerate(classes, start=1):
        numbers[array == entry.value] = place
    return nifti(numbers, affine)


def eight_bit(array: Shaped[np.ndarray, "i j k"], values: tuple[float, float]) -> Shaped[np.ndarray, "i j k"]:
    """Voxel values from black (0) to white (255), for pages that have to be small."""
    low, high = values
    return (np.clip((array.astype(np.float32) - low) / (high - low), 0, 1) * 255).round().astype(np.uint8)


def setup(
    scan: str, maps: Sequence[str], classes: Sequence[ClassEntry], values: tuple[float, float]
) -> dict[str, object]:
    """What the viewer's script is told.

    Args:
        scan: Name of the scan.
        maps: Names of the label maps, at most two.
        classes: The classes, in the order of the label maps' values.
        values: The voxel values drawn black and white.
    """
    return {
        "scan": scan,
        "maps": list(maps),
        "classes": [{"name": f"{entry.value} {entry.name}", "color": class_color(entry.number)} for entry in classes],
        "range": list(values),
    }
