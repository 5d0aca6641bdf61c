"""The images of a DICOM series, as referenced by objects made from them."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from types import ModuleType
from typing import cast

import numpy as np
from pydicom import Dataset, dcmread
from pydicom.sequence import Sequence as Items
from pydicom.uid import generate_uid
from pydicom.valuerep import DSfloat, format_number_as_ds

from inflate3d.errors import ConfigError, DataError
from inflate3d.io.damage import unreadable
from inflate3d.io.dicom.header import ImageHeader
from inflate3d.io.dicom.reading import read_stack
from inflate3d.io.dicom.stack import Stack
from inflate3d.io.formats import reader_of

_MAY_BE_EMPTY = (
    "PatientID",
    "PatientName",
    "PatientBirthDate",
    "PatientSex",
    "AccessionNumber",
    "StudyID",
    "StudyDate",
    "StudyTime",
    "ReferringPhysicianName",
)
"""What every image has to have, though it may be empty (type 2 of DICOM), and anonymizers remove."""


@dataclass(frozen=True)
class Source:
    """A series that an object is made from.

    Attributes:
        stack: Its slices in their order, and their grid.
        images: An object without pixels for each slice, in the order of the stack; one for all of frames.
        further: Further files of the series that frames are in.
        frames: Of frames, the file's UID and the number from 1 on of each slice; empty for single images.
    """

    stack: Stack
    images: list[Dataset]
    further: list[Dataset]
    frames: list[tuple[str, int]]

    @property
    def shape(self) -> tuple[int, int, int]:
        """Number of columns, rows and slices."""
        return int(self.images[0].Columns), int(self.images[0].Rows), len(self.stack.slices)

    def series_number(self, offset: int) -> int:
        """A number for a new series, so that it is listed after the scan's; objects of one kind share an offset."""
        return int(self.images[0].get("SeriesNumber") or 0) % 10_000_000 * 100 + offset

    def description(self, what: str) -> str:
        """A description for a new series, such as ``Segmentation of series 4``."""
        number = self.images[0].get("SeriesNumber")
        return what if number is None else f"{what} of series {number}"

    @cached_property
    def references(self) -> list[tuple[str, str, int | None]]:
        """Storage class, UID and frame number of each slice."""
        if self.frames:
            return [(str(self.images[0].SOPClassUID), uid, number) for uid, number in self.frames]
        return [(str(image.SOPClassUID), str(image.SOPInstanceUID), None) for image in self.images]


def read_source(path: Path) -> Source:
    """Reads the series that labels are of, see `inflate3d.io.read_volume` for how a path names it.

    Raises:
        DataError: The path names no DICOM series, or the series can't be read.
    """
    stack = read_stack(dicom_path(path))
    try:
        with quiet():
            files = {header.file: _read(header.file) for header in stack.slices}
            return _frames(stack, files) if stack.slices[0].frame is not None else _single_images(stack, files)
    except DataError as error:
        raise error.with_context(file=path) from error


def dicom_path(path: Path) -> Path:
    """The path, if it names a DICOM series.

    Raises:
        DataError: It names another scan.
    """
    from inflate3d.io.dicom import reading

    if reader_of(path, None) is not reading:
        raise DataError(
            "DICOM labels need the DICOM series that they belong to",
            expected="a DICOM series as the scan",
            got=path.name,
            hint="predict from the DICOM series, or choose another format, such as .nii.gz",
            file=path,
        )
    return path


def require_highdicom() -> ModuleType:
    """The package that reads and writes DICOM SEG.

    Raises:
        ConfigError: It is not installed.
    """
    try:
        import highdicom
    except ModuleNotFoundError as error:
        raise ConfigError(
            "DICOM SEG needs the package highdicom", hint="pip install 'inflate3d[dicom]'", got="not installed"
        ) from error
    return highdicom


@contextmanager
def quiet() -> Iterator[None]:
    """Keeps pydicom and highdicom from warning of values of the scanner, which no user of ours can change."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def _read(file: Path) -> Dataset:
    """The elements of a file but its pixels; lengths and nesting were checked when its header was read."""
    try:
        image = dcmread(file, stop_before_pixels=True, force=True)
        for keyword in ("SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID"):
            if not image.get(keyword):
                raise DataError("an image has no UID, so nothing can refer to it", expected=keyword, file=file)
        _ = image.Rows, image.Columns  # decoded here, where errors are expected
    except DataError:
        raise
    except Exception as error:  # pydicom has many, see `read_elements`
        raise unreadable(file, None, expected="a whole DICOM file", got=error) from error
    for keyword in _MAY_BE_EMPTY:
        if keyword not in image:
            setattr(image, keyword, "")
    return image


def _single_images(stack: Stack, files: dict[Path, Dataset]) -> Source:
    images = [files[header.file] for header in stack.slices]
    first = images[0]
    reference = first.get("FrameOfReferenceUID") or generate_uid()
    for image in images:
        image.FrameOfReferenceUID = reference
        image.ImageOrientationPatient = (
            first.ImageOrientationPatient
        )  # rounding differs between slices, and highdicom needs them equal
        image.PixelSpacing = first.PixelSpacing
        image.SpacingBetweenSlices = _step(stack)  # scanners' own values are often wrong, and would be copied
        if not image.get("SliceThickness"):
            image.SliceThickness = _step(stack)
    return Source(stack, images, [], [])


def _frames(stack: Stack, files: dict[Path, Dataset]) -> Source:
    """One object that has the frames of the stack alone, in its order, whichever files they are in."""
    merged = deepcopy(files[stack.slices[0].file])
    merged.FrameOfReferenceUID = merged.get("FrameOfReferenceUID") or generate_uid()
    merged.NumberOfFrames = len(stack.slices)
    merged.SharedFunctionalGroupsSequence = Items([_shared_groups(stack)])
    merged.PerFrameFunctionalGroupsSequence = Items([_frame_groups(header) for header in stack.slices])
    merged.pop("DimensionIndexSequence", None)
    frames = [(str(files[header.file].SOPInstanceUID), (header.frame or 0) + 1) for header in stack.slices]
    further = [image for image in files.values() if image.SOPInstanceUID != merged.SOPInstanceUID]
    return Source(stack, [merged], further, frames)


def _shared_groups(stack: Stack) -> Dataset:
    measures, orientation, groups = Dataset(), Dataset(), Dataset()
    measures.PixelSpacing = decimals(stack.slices[0], "pixel spacing", 2)
    measures.SliceThickness = measures.SpacingBetweenSlices = _step(stack)
    orientation.ImageOrientationPatient = decimals(stack.slices[0], "orientation", 6)
    groups.PixelMeasuresSequence, groups.PlaneOrientationSequence = Items([measures]), Items([orientation])
    return groups


def _frame_groups(header: ImageHeader) -> Dataset:
    place, groups = Dataset(), Dataset()
    place.ImagePositionPatient = decimals(header, "position", 3)
    groups.PlanePositionSequence = Items([place])
    return groups


def decimal(number: float) -> DSfloat:
    """A number in the 16 characters that DICOM has for it."""
    return cast(DSfloat, DSfloat(format_number_as_ds(number)))


def decimals(header: ImageHeader, name: str, count: int) -> list[DSfloat]:
    """A tag's numbers in the 16 characters that DICOM has for each."""
    return [decimal(number) for number in header.numbers(name, count).tolist()]


def _step(stack: Stack) -> DSfloat:
    """Millimeters from slice to slice along their normal."""
    along_row, along_column, step = stack.affine[:3, :3].T
    normal = np.cross(along_row, along_column)
    return decimal(abs(float(step @ normal)) / float(np.linalg.norm(normal)))
