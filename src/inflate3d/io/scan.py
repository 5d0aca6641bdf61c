"""Scans and label maps in files of any known format."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Integer, UInt8

from inflate3d.errors import DataError
from inflate3d.io.formats import reader_of, writer_of
from inflate3d.io.grid import lay_on
from inflate3d.io.voxels import check_finite, storable_labels
from inflate3d.volume import Volume

_LARGEST_LABEL = 2**32
"""Label values are below this; larger ones are no classes, but voxels of a scan or of a damaged file."""


def read_volume(path: str | Path, *, case: str | None = None) -> Volume:
    """Reads a scan with one modality (3D) or several (4D).

    Args:
        path: A file of one of `SUFFIXES`; for a pair of header and image, either. A DICOM series is named by
            the folder that holds it and no other, by ``FOLDER/SERIES-INSTANCE-UID``, or by any of its files.
        case: Id of the case, for error messages.

    Returns:
        The scan on its own grid, ``(C, I, J, K)``; integers keep the file's type, all else is float32. Its
        notes say what was odd but could be used.

    Raises:
        DataError: The scan is missing, damaged, not a volume, or some voxels are NaN or infinite.
    """
    path = Path(path)
    volume = reader_of(path, case).read(path, case=case)
    check_finite(volume, path, case)
    return volume


def read_images(paths: Sequence[str | Path | None], *, case: str | None = None) -> Volume:
    """Reads a scan from one path, or from several that lie on one grid, such as one for each modality.

    Args:
        paths: The scan's paths, see `read_volume`; ``None`` where a modality is missing.
        case: Id of the case, for error messages.

    Returns:
        All modalities in the order of the paths, ``(C, I, J, K)``, on the first one's grid. A missing
        modality is a channel of zeros.

    Raises:
        DataError: No modality is there, one can't be read (see `read_volume`), or has other voxels than the
            first (see `lay_on`).
    """
    volumes = {number: read_volume(path, case=case) for number, path in enumerate(paths) if path is not None}
    if not volumes:
        raise DataError("no modality of the scan is there", expected="at least one file", got="none", case=case)
    first = next(iter(volumes.values()))
    if len(paths) == 1:
        return first
    laid = {number: lay_on(volume, first, case=case, file=paths[number]) for number, volume in volumes.items()}
    kind = np.result_type(*(volume.array for volume in laid.values()))
    kind = kind if kind.kind in "iu" else np.dtype(np.float32)
    missing = np.zeros((1, *first.shape), kind)
    arrays = [laid[number].array if number in laid else missing for number in range(len(paths))]
    return Volume(
        np.concatenate(arrays, dtype=kind),
        first.affine,
        tuple(f"{Path(paths[number] or '').name}: {note}" for number, volume in laid.items() for note in volume.notes),
    )


def read_labels(path: str | Path, *, case: str | None = None) -> Volume:
    """Reads a label map.

    Args:
        path: See `read_volume`; floats are taken where they hold whole numbers.
        case: Id of the case, for error messages.

    Returns:
        The labels on their own grid, ``(1, I, J, K)``, of the smallest unsigned type that holds them.

    Raises:
        DataError: The file can't be read (see `read_volume`), has more than one value a voxel, or some
            values are negative, not whole, or beyond what 32 bits hold.
    """
    volume = read_volume(path, case=case)
    array = volume.array
    if len(array) != 1:
        raise DataError(
            "a label map has one value a voxel",
            got=f"{len(array)} values a voxel",
            hint="join the channels to one map of class numbers",
            case=case,
            file=path,
        )
    wrong = (array < 0) | (array >= _LARGEST_LABEL)
    if array.dtype.kind == "f":
        wrong |= array != np.rint(array)
    if wrong.any():
        raise DataError(
            "label values are not class numbers",
            expected=f"whole numbers from 0 to {_LARGEST_LABEL - 1}",
            got=f"{_some(array[wrong])}, in {np.count_nonzero(wrong)} voxels",
            hint="resample label maps with nearest neighbor, and number the classes from 0",
            case=case,
            file=path,
        )
    smallest = np.min_scalar_type(int(array.max()))
    return Volume(array.astype(smallest, copy=False), volume.affine, volume.notes)


def check_labels_writable(path: str | Path, scan: Volume, like: str | Path) -> None:
    """Makes sure that a label map can be written on the grid of a scan, before there is one.

    Args:
        path: The file to be written.
        scan: The scan, as it was read.
        like: Its path.

    Raises:
        DataError: The format can't be written, or can't say where the scan lies.
    """
    path = Path(path)
    writer = writer_of(path)
    if writer is not reader_of(Path(like), None):
        writer.check_writable(path, scan.affine)


def write_labels(path: str | Path, labels: Integer[np.ndarray, "i j k"], like: str | Path) -> None:
    """Writes a label map on the grid of a scan.

    In the scan's own family of formats (NIfTI; NRRD and MetaImage) everything that says where voxels lie is
    copied to the bit, units too. The file appears whole or not at all.

    Args:
        path: The file to write, of one of `SUFFIXES`.
        labels: ``(I, J, K)`` on the scan's own grid, none negative.
        like: The scan, see `read_volume`.

    Raises:
        DataError: The scan can't be read, the labels don't fit its grid, or the format can't be written or
            can't say where the scan lies.
        OutputError: The file can't be written.
    """
    path, like = Path(path), Path(like)
    writer = writer_of(path)
    if writer is reader_of(like, None):
        writer.write_like(path, labels, like)
        return
    scan = read_volume(like)
    labels = storable_labels(labels, scan.shape, path, like)
    writer.write(path, Volume(labels[np.newaxis], scan.affine))


def write_percent(path: str | Path, percent: UInt8[np.ndarray, "i j k"], like: str | Path) -> None:
    """Writes a map of fractions on the grid of a scan, as NIfTI; readers have it from 0 to 1, in steps of 0.01.

    A byte is stored for each voxel, and a slope of 0.01 in the header. The file appears whole or not at all.

    Args:
        path: The file to write, which ends in ``.nii.gz`` or ``.nii``.
        percent: ``(I, J, K)`` on the scan's own grid, 0 to 100.
        like: The scan, see `read_volume`.

    Raises:
        DataError: The scan can't be read, or the map does not fit its grid.
        OutputError: The file can't be written.
    """
    from inflate3d.io import nifti

    path, like = Path(path), Path(like)
    if reader_of(like, None) is nifti:
        nifti.write_like(path, percent, like, slope=0.01)
        return
    scan = read_volume(like)
    percent = storable_labels(percent, scan.shape, path, like)
    nifti.write(path, Volume(percent[np.newaxis], scan.affine), slope=0.01)


def write_volume(path: str | Path, volume: Volume) -> None:
    """Writes an image; several modalities go into one file.

    Read again, its voxels are the same. Its affine is too, to the digits that the format keeps: NIfTI has
    float32.

    Args:
        path: The file to write, of one of `SUFFIXES`.
        volume: Integers keep their type; all else becomes float32.

    Raises:
        DataError: The format can't be written, or can't say where the volume lies.
        OutputError: The file can't be written.
    """
    path = Path(path)
    writer_of(path).write(path, volume)


def _some(values: np.ndarray, most: int = 5) -> str:
    different = np.unique(values)
    listed = ", ".join(f"{value:g}" for value in different[:most])
    return listed + (", ..." if len(different) > most else "")
