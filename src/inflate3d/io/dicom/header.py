"""The headers of DICOM files: which are images, of which series, and how each lies in space."""

from __future__ import annotations

import math
import os
import re
import warnings
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float
from pydicom import Dataset
from pydicom.charset import convert_encodings, decode_bytes
from pydicom.datadict import dictionary_VR
from pydicom.dataelem import RawDataElement
from pydicom.valuerep import TEXT_VR_DELIMS

from inflate3d.errors import DataError
from inflate3d.io.damage import check_claim, foreign_file, unreadable
from inflate3d.io.dicom.file import UNDEFINED_LENGTH, read_elements, storage_class_of
from inflate3d.io.dicom.stream import size_of_stream, start_of_stream
from inflate3d.io.dicom.value_mapping import check_mapping
from inflate3d.io.formats import dicom_suffix, is_dicom

_TAGS = {
    "modality": 0x0008_0060,
    "description": 0x0008_103E,
    "patient": 0x0010_0020,
    "study": 0x0020_000D,
    "series": 0x0020_000E,
    "echo time": 0x0018_0081,
    "trigger time": 0x0018_1060,
    "temporal position": 0x0020_0100,
    "acquisition number": 0x0020_0012,
    "acquisition time": 0x0008_0032,
    "acquisition date": 0x0008_0022,
    "series time": 0x0008_0031,
    "series date": 0x0008_0021,
    "units": 0x0054_1001,
    "b-value": 0x0018_9087,
    "image type": 0x0008_0008,
    "instance": 0x0008_0018,
    "position": 0x0020_0032,
    "orientation": 0x0020_0037,
    "pixel spacing": 0x0028_0030,
    "frames": 0x0028_0008,
    "samples": 0x0028_0002,
    "photometric": 0x0028_0004,
    "rows": 0x0028_0010,
    "columns": 0x0028_0011,
    "bits allocated": 0x0028_0100,
    "bits stored": 0x0028_0101,
    "high bit": 0x0028_0102,
    "signed": 0x0028_0103,
    "intercept": 0x0028_1052,
    "slope": 0x0028_1053,
}

_FUNCTIONAL_GROUPS = 0x5200_9230
"""One item for each frame of a multi-frame object, which has its place in space."""

_STORAGE_CLASS = 0x0008_0016
_REAL_WORLD_VALUES = 0x0040_9096
_MODALITY_LUT = 0x0028_3000
_PIXELS = (0x7FE0_0010, 0x7FE0_0008, 0x7FE0_0009)

_BINARY = {"US": "u2", "SS": "i2", "UL": "u4", "FD": "f8"}
"""Types whose values are not text."""

NOT_SCANS = ("SEG", "RTSTRUCT", "RTDOSE", "RTPLAN", "SR", "PR", "KO", "REG", "DOC")
"""Modalities of objects that are made from scans; some of them hold an image."""

_DIGITS = re.compile(r"\d+")

_STORES_IMAGES = re.compile(r"1\.2\.840\.10008\.5\.1\.4\.1\.1\.(1|2|3|4|6|7|12|20|77|128|130)(\..*)?")
"""The storage classes of scans: radiography, CT, ultrasound, MR, captures, X-ray, nuclear, photographs, PET."""

_UNCOMPRESSED = ("1.2.840.10008.1.2", "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.2")
"""The transfer syntaxes that store voxels as they are."""

_LARGEST_NUMBER = 1e12
"""Of positions, spacings and scalings; no scanner writes larger numbers."""

_FEWEST_BITS = 8
"""Of a scan's pixel; GDCM makes zeros of single bits, which are masks."""

_MOST_COMPRESSION = 10_000
"""No codec of DICOM makes a file of an image smaller than by this, but for headers that lie."""


@dataclass(frozen=True)
class ImageHeader:
    """What the header of an image file says.

    Attributes:
        file: The file.
        tags: Name of a tag (see the module's table) to its text; those that the file has.
        frame: Which frame of the file it is, from 0 on; None of a file that holds a single image.
    """

    file: Path
    tags: dict[str, str]
    frame: int | None = None

    @property
    def name(self) -> str:
        """Name of the file, and of the frame from 1 on, for messages."""
        return self.file.name if self.frame is None else f"{self.file.name}, frame {self.frame + 1}"

    def text(self, name: str) -> str:
        """A tag's text, empty if the file doesn't have it."""
        return self.tags.get(name, "")

    def numbers(self, name: str, count: int, default: tuple[float, ...] | None = None) -> Float[np.ndarray, "{count}"]:
        """A tag's numbers.

        Raises:
            DataError: There are not ``count`` finite numbers, and no default for a tag that is not there.
        """
        text = self.text(name)
        if default is not None and not text:
            return np.array(default)
        try:
            numbers = np.array([float(part) for part in text.split("\\")])
        except ValueError:
            numbers = np.array([])
        if len(numbers) != count or not (np.abs(numbers) < _LARGEST_NUMBER).all():
            group, number = divmod(_TAGS.get(name, 0), 1 << 16)  # frames have more tags
            place = f" in ({group:04x},{number:04x})" if name in _TAGS else ""
            raise DataError(
                f"an image has no usable {name}, so it is not a slice of a volume",
                expected=f"{count} number{'s' if count > 1 else ''}{place}",
                got=text or "none",
                hint="export the series again with its geometry, as classic CT or MR images",
                file=self.file,
            )
        return numbers

    def number(self, name: str, default: float) -> float:
        """A tag's one number."""
        return float(self.numbers(name, 1, (default,))[0])


@dataclass(frozen=True)
class Folder:
    """The DICOM images of a folder and of all folders below it.

    Attributes:
        series: Series Instance UID to its images, sorted by folder and file name.
        damaged: The errors of files that hold an image, or have the name of one, and can't be read.
    """

    series: dict[str, list[ImageHeader]]
    damaged: list[DataError]


def scan_folder(folder: Path) -> Folder:
    """Reads the headers of all DICOM images in a folder and below it; hidden files are passed over.

    Exports spread the slices of one series over several folders. Links to other folders are not followed.

    Raises:
        DataError: A folder can't be read.
    """

    def refuse(error: OSError) -> None:
        raise DataError(
            "a folder can't be read",
            got=error.strerror,
            hint="change its permissions, or name another folder",
            file=error.filename,
        ) from error

    files: list[Path] = []
    for place, inner, names in os.walk(folder, onerror=refuse):
        inner.sort()
        paths = (Path(place, name) for name in sorted(names) if not name.startswith("."))
        files += [path for path in paths if path.is_file()]
    series: defaultdict[str, list[ImageHeader]] = defaultdict(list)
    damaged: list[DataError] = []
    others: list[Path] = []
    not_scans: list[ImageHeader] = []
    for file in files:
        try:
            header = read_header(file)
        except DataError as error:
            damaged.append(error)
            continue
        if header is None:
            others.append(file)
        elif header.text("modality") in NOT_SCANS:
            not_scans.append(header)
        else:
            series[header.text("series")].append(header)
    for header in not_scans:
        if same := series.get(header.text("series")):
            got = f"{header.text('modality')}, in a series of {same[0].text('modality') or 'none'}"
            damaged.append(unreadable(header.file, None, expected="one modality in a DICOM series", got=got))
    named_alike = {_pattern(header.file) for headers in series.values() for header in headers}
    for file in others:
        if (dicom_suffix(file.name) or _pattern(file) in named_alike) and not is_dicom(start := _start(file)):
            got, _ = foreign_file(start) or ("a file that is no DICOM", "")
            hint = "fetch or export the file again, or move it away if it is not a slice"
            damaged.append(unreadable(file, None, expected="a DICOM file, by its name", got=got, hint=hint))
    return Folder(dict(series), damaged)


def _pattern(file: Path) -> Path:
    """A file's path with its numbers left out, in which the slices of a series are alike."""
    return file.with_name(_DIGITS.sub("0", file.name))


def slice_count(headers: list[ImageHeader]) -> int:
    """Number of slices in image files, some of which may hold several frames; 1 each where the header is no number."""
    return sum(
        int(text) if (text := header.text("frames")).isdigit() and header.frame is None else 1 for header in headers
    )


def images_by_place(folder: Folder) -> list[tuple[Path, str, list[ImageHeader]]]:
    """The images of each series with the deepest folder that holds them all and the series' UID, sorted by both."""
    groups = [
        (_common_folder(part), uid, part) for uid, headers in folder.series.items() for part in _split_copies(headers)
    ]
    return sorted(groups, key=lambda group: group[:2])


def _split_copies(headers: list[ImageHeader]) -> list[list[ImageHeader]]:
    """The images of one series; by folder where folders hold the same images, or slices at the same positions.

    The latter are scans that some anonymizer gave one UID, or the time points of one.
    """
    places: dict[Path, list[ImageHeader]] = {}
    for header in headers:
        places.setdefault(header.file.parent, []).append(header)
    for tag in ("instance", "position"):
        values = [{header.text(tag) or header.file for header in part} for part in places.values()]
        if len(set[object]().union(*values)) < sum(map(len, values)):
            return list(places.values())
    return [headers]


def _common_folder(headers: list[ImageHeader]) -> Path:
    return Path(os.path.commonpath([header.file.parent for header in headers]))


def read_header(file: Path) -> ImageHeader | None:
    """Reads the header of a DICOM image.

    Returns:
        The header, or nothing if the file is not an image. One of `NOT_SCANS` is not a scan's.

    Raises:
        DataError: It holds an image, and can't be read.
    """
    if not is_dicom(_start(file)):
        return None
    try:
        elements, syntax = read_elements(file)
        size = file.stat().st_size
    except (OSError, ValueError) as error:
        if _is_no_scan(storage_class_of(file)):
            return None
        raise unreadable(file, None, expected="a whole DICOM file", got=error) from error
    if not any(tag in elements for tag in _PIXELS):
        if _is_no_scan(_text(elements, _STORAGE_CLASS) or storage_class_of(file)):  # a DICOMDIR has the latter alone
            return None
        raise unreadable(file, None, expected="a whole DICOM image", got="no pixels")
    tags = {name: text for name, tag in _TAGS.items() if (text := _text(elements, tag))}
    if _FUNCTIONAL_GROUPS in elements:
        tags["functional groups"] = "yes"
    header = ImageHeader(file, tags)
    if header.text("modality") in NOT_SCANS:
        return header
    if _MODALITY_LUT in elements:
        raise DataError(
            "an image has a Modality LUT Sequence, a table that maps stored values to others, which is not supported",
            expected="rescale slope and intercept, (0028,1052) and (0028,1053)",
            got="(0028,3000)",
            hint="convert the series to NIfTI with a program that applies the table",
            file=file,
        )
    if _REAL_WORLD_VALUES in elements and not (header.text("slope") or header.text("functional groups")):
        check_mapping(file)
    is_raw = not syntax or syntax in _UNCOMPRESSED
    _check_size(header, _pixel_bytes(elements) if is_raw else None, size)
    if not is_raw:
        _check_stream(header, elements)
    return header


def _start(file: Path) -> bytes:
    try:
        with file.open("rb") as stream:
            return stream.read(132)
    except OSError as error:
        raise unreadable(file, None, expected="a DICOM file", got=error.strerror) from error


def _is_no_scan(storage_class: str) -> bool:
    """Whether a file says that it holds no image of a scan."""
    return bool(storage_class) and not _STORES_IMAGES.fullmatch(storage_class)


def _pixel_bytes(elements: Dataset) -> int | None:
    """Bytes of pixels that are stored as they are; none where the element doesn't say."""
    found = [elements.get_item(tag, keep_deferred=True) for tag in _PIXELS if tag in elements]
    lengths = [element.length for element in found if isinstance(element, RawDataElement)]
    return max((length for length in lengths if length != UNDEFINED_LENGTH), default=None)


def _check_size(header: ImageHeader, pixels: int | None, size: int) -> None:
    """Refuses another number of pixels than the header says: GDCM pads by zeros, or drops what is too much.

    Args:
        header: The image's.
        pixels: Bytes of pixels that are stored as they are; none where they are compressed.
        size: The file's bytes.
    """
    names = ("rows", "columns", "frames", "samples", "bits allocated")
    counts = [
        int(header.number(name, default)) for name, default in zip(names, (1.0, 1.0, 1.0, 1.0, 16.0), strict=True)
    ]
    allocated = counts[-1]
    stored = header.number("bits stored", float(allocated))
    if min(counts) < 1 or allocated < _FEWEST_BITS or not 1 <= stored <= allocated:
        got = f"{', '.join(names)} of {counts}, bits stored of {stored:g}"
        raise unreadable(header.file, None, expected="an image", got=got)
    if header.number("samples", 1.0) > 1:
        return  # colors, which may share bytes; they are not scans
    claimed = math.prod(counts) // 8
    check_claim(
        claimed, size * _MOST_COMPRESSION if pixels is None else pixels, deflated=False, path=header.file, case=None
    )
    row = counts[1] * allocated // 8  # what is less than one is padding
    if pixels is not None and pixels >= claimed + row:
        raise DataError(
            "an image has more pixels than its header says",
            expected=f"{claimed} bytes, by rows, columns and frames",
            got=f"{pixels} bytes",
            hint="export the series again",
            file=header.file,
        )


def _check_stream(header: ImageHeader, elements: Dataset) -> None:
    """Refuses a compressed image of another size than its header says: GDCM allocates, decodes and gives that one."""
    pixels = elements.get_item(_PIXELS[0], keep_deferred=True)
    if header.number("samples", 1.0) > 1 or not isinstance(pixels, RawDataElement):
        return
    claimed = (int(header.number("rows", 1.0)), int(header.number("columns", 1.0)))
    own = size_of_stream(start_of_stream(header.file, pixels.value_tell))
    if own not in (None, claimed):
        got = f"{own[0]} x {own[1]} in its compressed pixels"
        raise unreadable(header.file, None, expected=f"{claimed[0]} x {claimed[1]} pixels, by its header", got=got)


def _text(elements: Dataset, tag: int) -> str:
    """A tag's value as text, several parted by backslashes; empty if the file doesn't have it."""
    element = elements.get_item(tag, keep_deferred=True)
    if not isinstance(element, RawDataElement) or not element.value:
        return ""
    if dtype := _BINARY.get(dictionary_VR(tag)):
        numbers = np.dtype(dtype).newbyteorder("<" if element.is_little_endian else ">")
        whole = len(element.value) // numbers.itemsize * numbers.itemsize
        return "\\".join(f"{number:.10g}" for number in np.frombuffer(element.value[:whole], numbers).tolist())
    return _decoded(element.value, elements).strip(" \0")


def _decoded(text: bytes, elements: Dataset) -> str:
    """Text in the file's character set; where none is named, UTF-8 or Latin-1, which some archives leave unsaid."""
    if text.isascii() and b"\x1b" not in text:
        return text.decode("ascii")
    named = elements.get("SpecificCharacterSet") or []
    if not named:
        try:
            return text.decode("utf-8")
        except UnicodeDecodeError:
            return text.decode("latin-1")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # unknown character sets are replaced by the default one
        return decode_bytes(text, convert_encodings([named] if isinstance(named, str) else list(named)), TEXT_VR_DELIMS)
