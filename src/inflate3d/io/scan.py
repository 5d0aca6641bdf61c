"""Reading and writing scans and label maps in any known format."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from numpy.typing import ArrayLike

from inflate3d.errors import DataError
from inflate3d.grid import Grid
from inflate3d.io.damage import not_enough_memory
from inflate3d.io.dicom.labels import (
    check_dicom_labels_writable,
    kind_of,
    kind_to_write,
    read_dicom_labels,
    write_dicom_labels,
)
from inflate3d.io.formats import reader_of, writer_of
from inflate3d.io.grid import FileGrid, lay_on
from inflate3d.io.segments import Segments, Structures
from inflate3d.io.voxels import LARGEST_LABEL, as_label_dtype, some_values
from inflate3d.units import Unit
from inflate3d.volume import Volume, as_array, check_volume

_LABEL_ROUNDING = 1e-5
"""Relative deviation of a label value from a whole number that a slope of seven digits can cause."""

_LARGEST_LABEL_STEP = 0.1
"""Largest step between stored values that can come from rounded label values: that of 25 classes in a byte."""


def read_volume(path: str | Path, *, case: str | None = None) -> Volume:
    """Reads a scan with one modality (3D) or several (4D).

    Args:
        path: A file with one of `SUFFIXES`; for a pair of header and image, either one. A DICOM series is named by
            its folder if that holds no other, by ``FOLDER/SERIES-INSTANCE-UID``, or by any of its files.
        case: Id of the case, for error messages.

    Returns:
        The scan on its own grid, ``(C, I, J, K)``; integers keep the file's type, all else is float32. Its notes
        state what is unusual about the file.

    Raises:
        DataError: The scan is missing, damaged, not a volume, larger than the free memory, or has NaN or infinite
            voxels.

    Examples:
        >>> read_volume("new_scan.nii.gz")
        Volume(1 modality, shape (20, 24, 7), spacing (1, 1, 3) mm, orientation RAS, int16)
    """
    path = Path(path)
    try:
        return reader_of(path, case).read(path, case=case)
    except DataError as error:
        raise error.with_context(case=case, file=path) from error
    except MemoryError as error:
        raise not_enough_memory(path, case, got=str(error) or None) from error


def read_grid(path: str | Path, *, case: str | None = None) -> FileGrid:
    """Reads shape, affine, type and number of modalities of a scan from its headers; no voxel is decoded.

    Examples:
        >>> from tempfile import TemporaryDirectory
        >>> scan = Volume(np.zeros((1, 4, 5, 6), np.int16), np.diag([1.0, 1.0, 3.0, 1.0]))
        >>> with TemporaryDirectory() as folder:
        ...     write_volume(f"{folder}/scan.nii.gz", scan)
        ...     grid = read_grid(f"{folder}/scan.nii.gz")
        >>> grid.shape, grid.spacing, grid.modalities, str(grid.dtype)
        ((4, 5, 6), (1.0, 1.0, 3.0), 1, 'int16')

    Args:
        path: See `read_volume`.

    Returns:
        The grid of the volume that `read_volume` would give.
    """
    path = Path(path)
    try:
        return reader_of(path, case).read_grid(path, case=case)
    except DataError as error:
        raise error.with_context(case=case, file=path) from error


def read_images(paths: Sequence[str | Path | None], *, case: str | None = None) -> Volume:
    """Reads a scan from one path, or from several on the same grid, such as one for each modality.

    Args:
        paths: The scan's paths, see `read_volume`; ``None`` where a modality is missing.

    Returns:
        All modalities in the order of the paths, ``(C, I, J, K)``, on the first one's grid; zeros for a missing one.
    """
    volumes = {number: read_volume(path, case=case) for number, path in enumerate(paths) if path is not None}
    if not volumes:
        raise DataError("the scan has no files", expected="at least one file", got="none", case=case)
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
        tuple(unit for number in range(len(paths)) for unit in _units_of(laid.get(number))),
    )


def _units_of(volume: Volume | None) -> tuple[Unit, ...]:
    """A unit for each modality of one file; a missing one has a single modality, of no unit."""
    if volume is None:
        return (Unit(),)
    return volume.units or (Unit(),) * len(volume.array)


def read_labels(
    path: str | Path, *, case: str | None = None, on: Grid | None = None, structures: Structures | None = None
) -> Volume:
    """Reads a label map.

    Args:
        path: See `read_volume`; floats are accepted if they are whole numbers within the precision of a NIfTI file's
            slope. Or a DICOM SEG or RTSTRUCT.
        on: The scan's grid, on which a DICOM SEG is placed and an RTSTRUCT rasterized.
        structures: The label value of each structure of a DICOM SEG or RTSTRUCT, by its `plain_name`, or the values of
            a region that may overlap with others; other structures are left out. Without, values are the numbers in the
            file.

    Returns:
        The labels on their own grid, ``(1, I, J, K)``, in the smallest unsigned type.
    """
    if kind_of(Path(path)):
        return read_dicom_labels(Path(path), on=on, values=structures, case=case).volume
    volume = read_volume(path, case=case)
    array = volume.array
    if len(array) != 1:
        raise DataError(
            "a label map has one value per voxel",
            got=f"{len(array)} values per voxel",
            hint="join the channels to one map of class numbers",
            case=case,
            file=path,
        )
    notes = volume.notes
    if array.dtype.kind == "f" and (array != (whole := np.rint(array))).any():
        close = np.abs(array - whole) <= np.maximum(_LABEL_ROUNDING * np.abs(whole), _label_precision(Path(path)))
        notes += (f"label values are rounded to whole numbers, such as {array[array != whole][0]:.9g}",)
        array = np.where(close, whole + 0.0, array)
    lowest, highest = array.min(), array.max()
    if lowest < 0 or highest >= LARGEST_LABEL or (array.dtype.kind == "f" and (array != np.rint(array)).any()):
        wrong = (array < 0) | (array >= LARGEST_LABEL) | (array != np.rint(array))
        raise DataError(
            "label values are not class numbers",
            expected=f"whole numbers from 0 to {LARGEST_LABEL - 1}",
            got=f"{some_values(array[wrong])}, in {np.count_nonzero(wrong)} voxels",
            hint="check that it is not a scan; resample label maps by nearest neighbor, number classes from 0",
            case=case,
            file=path,
        )
    smallest = np.min_scalar_type(int(highest))
    return Volume(array.astype(smallest, copy=False), volume.affine, notes)


def _label_precision(path: Path) -> float:
    """How far a label value may be from a whole number because the file stores steps of its slope."""
    from inflate3d.io import nifti

    if reader_of(path, None) is not nifti:
        return _LABEL_ROUNDING
    step = nifti.step_between_values(path)
    return max(_LABEL_ROUNDING, step / 2 * (1 + _LABEL_ROUNDING) if step < _LARGEST_LABEL_STEP else 0.0)


def check_labels_writable(path: str | Path, grid: Grid, like: str | Path, *, segments: Segments | None = None) -> None:
    """Checks that a label map can be written on the grid of a scan, before there is one."""
    path = Path(path)
    if kind_to_write(path):
        check_dicom_labels_writable(path, Path(like), segments or Segments())
        return
    writer = writer_of(path)
    if writer is not reader_of(Path(like), None):
        writer.check_writable(path, grid.affine)


def write_labels(
    path: str | Path, labels: ArrayLike, like: str | Path | Volume | Grid, *, segments: Segments | None = None
) -> None:
    """Writes a label map on the grid of a scan.

    Given the scan's path and an output format of the same family (NIfTI; NRRD and MetaImage), the geometry is copied
    from the scan's header bit for bit, units included. No voxel of the scan is read. The write is atomic.

    Args:
        path: The file to write, of one of `WRITABLE_SUFFIXES`; or a DICOM object: SEG (``.dcm``), whose segments are
            numbered from 1 on, SEG of the type LABELMAP (``.labelmap.dcm``), which keeps the values, or RTSTRUCT
            (``.rtstruct.dcm``).
        labels: ``(I, J, K)`` on the scan's own grid, not negative: integers, booleans, or whole floats.
        like: The scan: its path (see `read_volume`), the volume, or its grid; for DICOM the path of its series.
        segments: What the values stand for, for DICOM objects.

    Raises:
        DataError: The labels are not class numbers or do not fit the scan's grid, the scan's headers can't be read, or
            the format can't be written or can't express the scan's grid.
        OutputError: The file can't be written.

    Examples:
        >>> scan = read_volume("new_scan.nii.gz")
        >>> write_labels("labels.nii.gz", scan.array[0] > 50, like="new_scan.nii.gz")
        >>> np.unique(read_volume("labels.nii.gz").array).tolist()
        [0, 1]
    """
    path, labels = Path(path), as_array(labels)
    if kind_to_write(path):
        write_dicom_labels(path, labels, like, segments or Segments())
        return
    writer = writer_of(path)
    if isinstance(like, str | Path) and writer is reader_of(Path(like), None):
        writer.write_like(path, labels, Path(like))
        return
    grid = _grid_of(like)
    writer.write(path, Volume(as_label_dtype(labels, grid.shape, path)[np.newaxis], grid.affine))


def write_percent(path: str | Path, percent: UInt8[np.ndarray, "i j k"], like: str | Path | Volume | Grid) -> None:
    """Writes a map of fractions on the grid of a scan, as NIfTI; readers see 0 to 1 in steps of 0.01.

    Stores one byte per voxel, with a slope of 0.01 in the header. The write is atomic.

    Args:
        path: The file to write, ``.nii.gz`` or ``.nii``.
        percent: ``(I, J, K)`` on the scan's own grid, 0 to 100.
        like: The scan: its path (see `read_volume`), the volume, or its grid.
    """
    from inflate3d.io import nifti

    path = Path(path)
    if isinstance(like, str | Path) and reader_of(Path(like), None) is nifti:
        nifti.write_like(path, percent, Path(like), slope=0.01)
        return
    grid = _grid_of(like)
    nifti.write(path, Volume(as_label_dtype(percent, grid.shape, path)[np.newaxis], grid.affine), slope=0.01)


def _grid_of(scan: str | Path | Volume | Grid) -> Grid:
    if isinstance(scan, Volume):
        return scan.grid
    return scan if isinstance(scan, Grid) else read_grid(scan)


def write_volume(path: str | Path, volume: Volume) -> None:
    """Writes a scan; several modalities go into one file.

    When read again, it has the same voxels, and the same affine within the format's precision: float32 in NIfTI.

    Args:
        path: The file to write, of one of `WRITABLE_SUFFIXES`.
        volume: Integers keep their type; all else becomes float32.

    Raises:
        DataError: The format can't be written, or can't express the affine.
        OutputError: The file can't be written.

    Examples:
        >>> scan = Volume(np.zeros((1, 4, 5, 6), np.int16), np.diag([1.0, 1.0, 3.0, 1.0]))
        >>> write_volume("scan.nrrd", scan)
        >>> read_volume("scan.nrrd") == scan
        True
    """
    path = Path(path)
    check_volume(volume)
    writer_of(path).write(path, volume)
