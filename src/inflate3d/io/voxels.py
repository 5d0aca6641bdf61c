"""What voxel values are kept in files and in memory."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from jaxtyping import Integer, Shaped

from inflate3d.errors import DataError
from inflate3d.volume import Volume


def check_real(dtype: np.dtype, path: Path, case: str | None) -> None:
    """Refuses voxels that are not one real number each.

    Raises:
        DataError: They are colors or complex.
    """
    if dtype.kind not in "iuf":
        raise DataError(
            "the voxels are not single real numbers",
            expected="integers or floats",
            got=f"colors ({dtype})" if dtype.kind == "V" else str(dtype),
            case=case,
            file=path,
        )


def check_finite(volume: Volume, path: Path, case: str | None) -> None:
    """Refuses NaN and infinity.

    Raises:
        DataError: Some voxels are not finite.
    """
    if volume.array.dtype.kind != "f":
        return
    wrong = volume.array.size - np.count_nonzero(np.isfinite(volume.array))
    if wrong:
        raise DataError(
            "voxels are NaN or infinite",
            expected="finite numbers",
            got=f"{wrong} of {volume.array.size} voxels are not",
            hint="replace them, by the value of air say, or leave the case out",
            case=case,
            file=path,
        )


def storable(array: Shaped[np.ndarray, "..."]) -> Shaped[np.ndarray, "..."]:
    """The array in a type that every format has: integers as they are, truth values as 0 and 1, else float32."""
    if array.dtype.kind in "iu":
        return array.astype(array.dtype.newbyteorder("="), copy=False)
    with np.errstate(over="ignore", invalid="ignore"):  # infinite voxels are the caller's to refuse
        return array.astype(np.uint8 if array.dtype.kind == "b" else np.float32, copy=False)


def storable_labels(
    labels: Integer[np.ndarray, "i j k"], shape: tuple[int, ...], path: Path, like: Path
) -> Integer[np.ndarray, "i j k"]:
    """A label map in the smallest unsigned type that holds it.

    Args:
        labels: On the scan's own grid.
        shape: The scan's ``(I, J, K)``.
        path: The file to be written.
        like: The scan's file.

    Raises:
        DataError: The labels don't fit the scan's grid, or some are negative.
    """
    if labels.shape != shape:
        raise DataError("the labels don't lie on the scan's grid", expected=shape, got=labels.shape, file=like)
    if labels.min() < 0:
        raise DataError("a label is negative", expected="0 or more", got=labels.min(), file=path)
    return labels.astype(np.min_scalar_type(labels.max()), copy=False)
