"""Scans and label maps in files of any known format, which the file's suffix tells."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from types import ModuleType

import numpy as np
from jaxtyping import Integer

from inflate3d.errors import DataError
from inflate3d.volume import Volume

_FORMATS = {".nii": "inflate3d.io.nifti", ".nii.gz": "inflate3d.io.nifti"}
"""Suffix to the module that has ``read(path, case=...)`` and ``write_like(path, labels, like)`` for it."""

SUFFIXES = tuple(_FORMATS)
"""The suffixes of the files that can be read and written."""

_GRID_TOLERANCE = 0.01
"""How far, in voxels, two grids may lie apart and still be the same: headers round, and differently."""


def read_volume(path: str | Path, *, case: str | None = None) -> Volume:
    """Reads one file that holds a scan, with one modality (3D) or several (4D).

    Args:
        path: The file.
        case: Id of the case, for error messages.

    Returns:
        The scan on its own grid, ``(C, I, J, K)``; integers keep the file's type, all else is float32.

    Raises:
        DataError: The file is missing, damaged, not a volume, or some voxels are NaN or infinite.
    """
    path = Path(path)
    volume = _format_of(path, case).read(path, case=case)
    _check_finite(volume, path, case)
    return volume


def read_images(paths: Sequence[str | Path], *, case: str | None = None) -> Volume:
    """Reads a scan from one file, or from several that lie on one grid, such as one for each modality.

    Args:
        paths: The files, at least one.
        case: Id of the case, for error messages.

    Returns:
        All modalities in the order of the files, ``(C, I, J, K)``, with the first file's affine.

    Raises:
        DataError: A file can't be read (see `read_volume`), or lies on another grid than the first.
    """
    volumes = [read_volume(path, case=case) for path in paths]
    for path, volume in zip(paths[1:], volumes[1:], strict=True):
        check_same_grid(volume, volumes[0], case=case, file=path)
    if len(volumes) == 1:
        return volumes[0]
    return Volume(np.concatenate([volume.array for volume in volumes]), volumes[0].affine)


def read_labels(path: str | Path, *, case: str | None = None) -> Volume:
    """Reads a label map.

    Args:
        path: The file; floats are taken where they hold whole numbers.
        case: Id of the case, for error messages.

    Returns:
        The labels on their own grid, ``(1, I, J, K)``, of the smallest unsigned type that holds them.

    Raises:
        DataError: The file can't be read (see `read_volume`), has more than one value a voxel, or some
            values are negative or not whole.
    """
    volume = read_volume(path, case=case)
    array = volume.array
    if len(array) != 1:
        raise DataError(
            "a label map has one value a voxel",
            got=f"{len(array)} values a voxel",
            remedy="join the channels to one map of class numbers",
            case=case,
            file=path,
        )
    wrong = array < 0
    if array.dtype.kind == "f":
        wrong |= array != np.rint(array)
    if wrong.any():
        raise DataError(
            "label values are not class numbers",
            expected="whole numbers, 0 or more",
            got=f"{_some(array[wrong])}, in {np.count_nonzero(wrong)} voxels",
            remedy="resample label maps with nearest neighbour, and number the classes from 0",
            case=case,
            file=path,
        )
    return Volume(array.astype(np.min_scalar_type(int(array.max())), copy=False), volume.affine)


def write_labels(path: str | Path, labels: Integer[np.ndarray, "i j k"], like: str | Path) -> None:
    """Writes a label map on the grid of a scan: its shape, affine, orientation and units, to the bit.

    The file appears whole or not at all.

    Args:
        path: The file to write, of the same format as the scan's.
        labels: ``(I, J, K)`` on the scan's own grid, none negative.
        like: The scan's file.

    Raises:
        DataError: The scan can't be read, the labels don't fit its grid, or the format isn't known.
        OutputError: The file can't be written.
    """
    path, like = Path(path), Path(like)
    _format_of(path, None).write_like(path, labels, like)


def check_same_grid(
    volume: Volume, reference: Volume, *, case: str | None = None, file: str | Path | None = None
) -> None:
    """Refuses a volume that doesn't lie where the reference does.

    Grids are the same when their shapes are and no voxel of one lies further from its counterpart than a
    hundredth of the smallest spacing.

    Args:
        volume: What is checked.
        reference: What it has to lie on.
        case: Id of the case, for the error message.
        file: The file that ``volume`` is from, for the error message.

    Raises:
        DataError: The shapes or the affines differ.
    """
    if volume.shape != reference.shape:
        raise DataError(
            "images of a case differ in shape",
            expected=reference.shape,
            got=volume.shape,
            remedy="resample one to the grid of the other",
            case=case,
            file=file,
        )
    # the distance between two affine maps is largest at a corner
    last = [size - 1 for size in volume.shape]
    corners = np.array([[i, j, k, 1] for i in (0, last[0]) for j in (0, last[1]) for k in (0, last[2])])
    apart = np.linalg.norm((volume.affine - reference.affine)[:3] @ corners.T, axis=0).max()
    if apart > _GRID_TOLERANCE * min(reference.spacing):
        raise DataError(
            "images of a case differ in place",
            expected=f"the affine {reference.affine.round(4).tolist()}",
            got=f"the affine {volume.affine.round(4).tolist()}, up to {apart:.3g} mm away",
            remedy="resample one to the grid of the other, or correct the header that is wrong",
            case=case,
            file=file,
        )


def _format_of(path: Path, case: str | None) -> ModuleType:
    for suffix, module in _FORMATS.items():
        if path.name.lower().endswith(suffix):
            return import_module(module)
    raise DataError(
        "the file's format is not known",
        expected=f"a name that ends in {' or '.join(SUFFIXES)}",
        got=path.name,
        remedy="convert the file",
        case=case,
        file=path,
    )


def _check_finite(volume: Volume, path: Path, case: str | None) -> None:
    if volume.array.dtype.kind != "f":
        return
    wrong = volume.array.size - np.count_nonzero(np.isfinite(volume.array))
    if wrong:
        raise DataError(
            "voxels are NaN or infinite",
            expected="finite numbers",
            got=f"{wrong} of {volume.array.size} voxels are not",
            remedy="replace them, by the value of air say, or leave the case out",
            case=case,
            file=path,
        )


def _some(values: np.ndarray, most: int = 5) -> str:
    different = np.unique(values)
    listed = ", ".join(f"{value:g}" for value in different[:most])
    return listed + (", ..." if len(different) > most else "")
