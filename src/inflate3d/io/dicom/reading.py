"""DICOM series to volumes, through SimpleITK's GDCM, which decodes the compressed ones too; frames by pydicom."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import groupby
from pathlib import Path

import numpy as np
from jaxtyping import Shaped

from inflate3d.errors import DataError, truncate
from inflate3d.io.damage import unreadable
from inflate3d.io.dicom.frames import expand_frames, frame_dtype, frame_values
from inflate3d.io.dicom.header import NOT_SCANS, ImageHeader, read_header, scan_folder, slice_count
from inflate3d.io.dicom.stack import Stack, check_no_mosaics, stack_slices
from inflate3d.io.dicom.suv import unit_of
from inflate3d.io.dicom.volumes import choose_volume
from inflate3d.io.formats import is_dicomdir, is_series_uid, scan_files, split_volume_number
from inflate3d.io.grid import FileGrid
from inflate3d.io.simpleitk import SimpleITK, pixel_type, reason_of
from inflate3d.io.voxels import as_storage_dtype, storage_dtype
from inflate3d.units import Unit
from inflate3d.volume import Volume


def read(path: Path, *, case: str | None = None) -> Volume:
    """Reads a series of single slices, or of enhanced multi-frame objects.

    Args:
        path: The folder of the series, or its DICOMDIR, if that holds no other; ``FOLDER/SERIES-INSTANCE-UID``; or any
            file of the series, which lies in one folder. Each may end in ``#2`` for the second volume of the series.
        case: Id of the case, for error messages.

    Returns:
        The scan, ``(1, columns, rows, slices)``, slices by position along their normal. Slope and intercept
        are applied slice by slice; what is then whole numbers stays so, all else is float32.

    Raises:
        DataError: The series does not exist, it is damaged, or it is not a regular stack of gray slices.
    """
    try:
        stack, unit = _read_headers(path)
        voxels = _voxels(stack.slices)
    except DataError as error:
        raise error.with_context(case=case, file=path) from error
    notes = stack.notes
    if any(header.text("photometric") == "MONOCHROME1" for header in stack.slices):
        notes += ("the scan is meant to be shown inverted (MONOCHROME1); its values are used as they are stored",)
    if path.is_dir() and (others := scan_files(path)):
        notes += (f"files beside the series are not read: {truncate([file.name for file in others])}",)
    return Volume(voxels[np.newaxis], stack.affine, notes, (unit,))


def read_grid(path: Path, *, case: str | None = None) -> FileGrid:
    """Reads shape, affine and type from the headers of a series alone, see `read`."""
    try:
        stack, unit = _read_headers(path)
        first = stack.slices[0]
        shape = (int(first.number("columns", 1.0)), int(first.number("rows", 1.0)), len(stack.slices))
        return FileGrid(shape, stack.affine, 1, _dtype(stack.slices), (unit,))
    except DataError as error:
        raise error.with_context(case=case, file=path) from error


def read_stack(path: Path) -> Stack:
    """Reads the headers of a series, see `read`: its slices in their order, and the grid that they lie on.

    Raises:
        DataError: The series does not exist, it is damaged, or it is not a regular stack of gray slices.
    """
    path, number = split_volume_number(path)
    images = expand_frames(_find(path))
    check_no_mosaics(images)
    return stack_slices(choose_volume(images, number))


def _read_headers(path: Path) -> tuple[Stack, Unit]:
    """The slices of a series, and the unit of their values."""
    path, number = split_volume_number(path)
    images = expand_frames(_find(path))
    check_no_mosaics(images)
    return stack_slices(choose_volume(images, number)), unit_of(images)


def _find(path: Path) -> list[ImageHeader]:
    """The images of the series that a path names."""
    if is_dicomdir(path):
        path = path.parent
    if path.is_file():
        header = read_header(path)
        if header is None or header.text("modality") in NOT_SCANS:
            raise DataError("the file is not a DICOM image of a scan", hint="give a file of the series, or its folder")
        folder, wanted = path.parent, header.text("series")
    elif path.is_dir():
        folder, wanted = path, None
    elif path.parent.is_dir() and is_series_uid(path.name):
        folder, wanted = path.parent, path.name
    else:
        raise DataError("the file is missing", hint="check the path")
    found = scan_folder(folder)
    if found.damaged:
        raise found.damaged[0]  # it may be a slice of the series
    if wanted is None and len(found.series) == 1:
        return next(iter(found.series.values()))
    if wanted in found.series:
        if path.is_file():
            _check_whole(folder, wanted, found.series[wanted])
        return found.series[wanted]
    raise _no_single_series(folder, wanted, found.series)


def _check_whole(folder: Path, uid: str, headers: list[ImageHeader]) -> None:
    """Refuses images of a series that has more of them in a neighboring folder, by one image of each such folder."""
    positions = {header.text("position") for header in headers}
    for other in sorted(folder.parent.iterdir()):
        if other == folder or other.name.startswith(".") or not other.is_dir():
            continue
        try:
            images = sorted(file for file in other.iterdir() if file.is_file() and not file.name.startswith("."))
            header = read_header(images[0]) if images else None
        except (OSError, DataError):  # an unreadable neighbor is not a fault of this series
            continue
        if header is not None and header.text("series") == uid and header.text("position") not in positions:
            raise DataError(
                "the DICOM series is spread over several folders",
                expected="the folder that holds all of them",
                got=f"a file in {folder.name}; {other.name} has images of the same series",
                hint=f"give {folder.parent}, or {folder.parent / uid} if it holds other series, too",
            )


def _no_single_series(folder: Path, wanted: str | None, series: dict[str, list[ImageHeader]]) -> DataError:
    listed = [
        f"{uid} ({headers[0].text('modality') or '?'}, {headers[0].text('description') or 'no description'}, "
        f"{slice_count(headers)} slices of {headers[0].text('rows')} × {headers[0].text('columns')})"
        for uid, headers in sorted(series.items())
    ]
    if not series:
        return DataError(
            "the folder holds no DICOM images",
            expected="the slices of a series",
            got="none",
            hint="give the folder that holds the slices",
        )
    return DataError(
        "the folder holds several DICOM series" if wanted is None else "the folder holds no such DICOM series",
        expected="exactly one" if wanted is None else wanted,
        got="; ".join(listed),
        hint=f"name one as {folder / 'UID'}, such as {folder / min(series)}",
    )


def _voxels(slices: tuple[ImageHeader, ...]) -> Shaped[np.ndarray, "i j k"]:
    volume: Shaped[np.ndarray, "k j i"] | None = None
    for index, values in _values_of(slices):
        if volume is None:
            volume = np.empty((len(slices), *values.shape), values.dtype)
        volume = volume.astype(_common_dtype(volume.dtype, values.dtype), copy=False)
        volume[index] = values
    assert volume is not None, "a stack has slices"
    return volume.transpose(2, 1, 0)


def _values_of(slices: tuple[ImageHeader, ...]) -> Iterator[tuple[int, Shaped[np.ndarray, "rows columns"]]]:
    """The values of each slice with its index; frames in the order in which their files have them."""
    single = [index for index, header in enumerate(slices) if header.frame is None]
    yield from ((index, _slice_values(slices[index])) for index in single)
    frames = [(header.file, header.frame, index) for index, header in enumerate(slices) if header.frame is not None]
    for _, group in groupby(sorted(frames), key=lambda each: each[0]):
        indices = [index for _, _, index in group]
        yield from zip(indices, frame_values([slices[index] for index in indices]), strict=True)


def _dtype(slices: tuple[ImageHeader, ...]) -> np.dtype:
    """The type that `_voxels` has; slices of one scaling have one type."""
    dtype: np.dtype | None = None
    seen = set()
    for header in slices:
        names = ("slope", "intercept", "bits allocated", "bits stored", "signed")
        scaling = (header.frame is None, *(header.text(name) for name in names))
        if scaling not in seen:
            seen.add(scaling)
            own = frame_dtype(header) if header.frame is not None else storage_dtype(pixel_type(_reader(header)))
            dtype = own if dtype is None else _common_dtype(dtype, own)
    assert dtype is not None, "a stack has slices"
    return dtype


def _common_dtype(one: np.dtype, other: np.dtype) -> np.dtype:
    """The type of slices of both types: slopes may differ from slice to slice, and types with them."""
    if np.can_cast(other, one, "same_kind" if one.kind == "f" else "safe"):
        return one
    return storage_dtype(np.promote_types(one, other))


def _reader(header: ImageHeader) -> SimpleITK.ImageFileReader:
    """A reader that has read the file's header."""
    reader = SimpleITK.ImageFileReader()
    reader.SetImageIO("GDCMImageIO")
    reader.SetFileName(str(header.file))
    try:
        reader.ReadImageInformation()
    except RuntimeError as error:
        raise unreadable(header.file, None, expected="a whole DICOM image", got=reason_of(error)) from error
    return reader


def _slice_values(header: ImageHeader) -> Shaped[np.ndarray, "rows columns"]:
    reader = _reader(header)
    try:
        values = SimpleITK.GetArrayFromImage(reader.Execute())[0]
    except RuntimeError as error:
        raise unreadable(header.file, None, expected="a whole DICOM image", got=reason_of(error)) from error
    if header.text("photometric") == "MONOCHROME1":
        values = _as_stored(values, header)
    return as_storage_dtype(values)


def _as_stored(values: Shaped[np.ndarray, "rows columns"], header: ImageHeader) -> Shaped[np.ndarray, "rows columns"]:
    """Undoes GDCM, which turns a MONOCHROME1 image's stored values over before it applies slope and intercept."""
    highest_and_lowest = -1 if header.number("signed", 0.0) else 2 ** int(header.number("bits stored", 16.0)) - 1
    slope, intercept = header.number("slope", 1.0), header.number("intercept", 0.0)
    return (slope * highest_and_lowest + 2 * intercept - values).astype(values.dtype)
