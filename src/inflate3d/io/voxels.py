"""Data types of voxels in files and in memory."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Integer, Shaped, UInt

from inflate3d.errors import DataError, truncate

LARGEST_LABEL = 2**32
"""Label values are below this; larger ones belong to scans or damaged files."""


def check_real(dtype: np.dtype, path: Path, case: str | None) -> None:
    """Rejects voxels that are not one real number each."""
    if dtype.kind not in "iuf":
        raise DataError(
            "the voxels are not single real numbers",
            expected="integers or floats",
            got=f"colors ({dtype})" if dtype.kind == "V" else str(dtype),
            case=case,
            file=path,
        )


def storage_dtype(dtype: np.dtype) -> np.dtype:
    """A type that every format supports: integers keep theirs, booleans become bytes, everything else float32."""
    if dtype.kind in "iu":
        return dtype.newbyteorder("=")
    return np.dtype(np.uint8 if dtype.kind == "b" else np.float32)


def as_storage_dtype(array: Shaped[np.ndarray, "..."]) -> Shaped[np.ndarray, "..."]:
    """Converts an array to its `storage_dtype`."""
    with np.errstate(over="ignore", invalid="ignore"):  # the caller rejects infinite voxels
        return array.astype(storage_dtype(array.dtype), copy=False)


def as_label_dtype(labels: Shaped[np.ndarray, "..."], shape: tuple[int, ...], path: Path) -> UInt[np.ndarray, "i j k"]:
    """Converts a label map to the smallest unsigned type that holds it.

    Args:
        labels: ``(I, J, K)``: integers, booleans, or floats that are whole numbers.
        shape: The scan's ``(I, J, K)``.
    """
    if labels.shape != shape:
        raise DataError("labels do not have the scan's shape", expected=shape, got=labels.shape, file=path)
    if labels.dtype.kind not in "biuf":
        raise DataError("labels are not whole numbers", expected="integers", got=str(labels.dtype), file=path)
    wrong = labels < 0
    if labels.dtype.kind == "f":
        wrong |= (labels != np.rint(labels)) | ~np.isfinite(labels)
        wrong |= np.asarray(labels, np.float64) >= LARGEST_LABEL  # float16 can't hold the limit
    if wrong.any():
        raise DataError(
            "labels are not whole numbers from 0 on",
            expected=f"whole numbers from 0 to {LARGEST_LABEL - 1}",
            got=f"{some_values(labels[wrong])}, in {np.count_nonzero(wrong)} voxels",
            hint="round them, or take the class of the largest score (argmax)",
            file=path,
        )
    return labels.astype(np.min_scalar_type(int(labels.max())), copy=False)


def find_values(labels: Integer[np.ndarray, "*grid"], values: Iterable[int]) -> Bool[np.ndarray, "*grid"]:
    """Where a label map has one of the values; memory beside the result is a byte per voxel."""
    found = np.zeros_like(labels, dtype=bool)
    for value in values:
        found |= labels == value
    return found


def some_values(values: np.ndarray) -> str:
    """A few distinct values, for a message."""
    return truncate([f"{value:g}" for value in np.unique(values)])
