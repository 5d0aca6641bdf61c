"""File formats by path, and the names of scans and their label maps."""

from __future__ import annotations

import re
from importlib import import_module
from pathlib import Path, PurePath
from types import ModuleType

from inflate3d.errors import ConfigError, DataError
from inflate3d.io.damage import foreign_file, unreadable

_FORMATS = {
    ".nii.gz": "inflate3d.io.nifti",
    ".hdr.gz": "inflate3d.io.nifti",
    ".img.gz": "inflate3d.io.nifti",
    ".nii": "inflate3d.io.nifti",
    ".hdr": "inflate3d.io.nifti",
    ".img": "inflate3d.io.nifti",
    ".nrrd": "inflate3d.io.itk",
    ".nhdr": "inflate3d.io.itk",
    ".mha": "inflate3d.io.itk",
    ".mhd": "inflate3d.io.itk",
}
"""Module by suffix, longer suffixes before those that they end in. Each module has ``read(path, case=...)``,
``check_writable(path, affine)``, ``write(path, volume)`` and ``write_like(path, labels, like)``."""

_DICOM = "inflate3d.io.dicom.reading"
"""The module with ``read(path, case=...)`` for DICOM series, which have no suffix."""

LABELMAP = ".labelmap.dcm"

DICOM_LABELS = (".seg.dcm", LABELMAP, ".rtstruct.dcm")
"""Suffixes of label maps in DICOM objects: SEG of the types BINARY and LABELMAP, and RTSTRUCT."""

SEG_STORAGE = ("1.2.840.10008.5.1.4.1.1.66.4", "1.2.840.10008.5.1.4.1.1.66.7")
"""Storage classes of DICOM segmentations: binary and fractional ones, and label maps."""

RTSTRUCT_STORAGE = "1.2.840.10008.5.1.4.1.1.481.3"

SUFFIXES = tuple(_FORMATS)
"""The suffixes, in lower case, of files that can be read, each before its own end.

A DICOM series is a folder of files that may have any name, so DICOM has none here (see `find_series`).
"""

_HALVES = {".hdr": ".img", ".img": ".hdr", ".hdr.gz": ".img.gz", ".img.gz": ".hdr.gz"}

WRITABLE_SUFFIXES = tuple(suffix for suffix in SUFFIXES if suffix not in _HALVES)
"""The suffixes, in lower case, of files that can be written: all but header and image pairs."""

_FIRST_KINDS = (b"UL", b"OB", b"UI", b"CS", b"LO", b"SH", b"DA", b"TM")
"""Possible types of a DICOM file's first element."""

_UNIQUE_IDENTIFIER = re.compile(r"[0-9]+(\.[0-9]+)+")

_VOLUME_NUMBER = re.compile(r"(.+)#(\d{1,6})")
"""The end of a path that names one of several volumes in a DICOM series, such as time points."""


def suffix_of(path: str | PurePath) -> str:
    """The suffix of a scan file as spelled in its name, such as ``.nii.gz``; empty if it is none of ours."""
    name = PurePath(path).name
    return next((name[-len(suffix) :] for suffix in SUFFIXES if name.lower().endswith(suffix)), "")


def stem_of(path: str | PurePath) -> str:
    """A scan's name: the file name without suffix, or the folder, UID or file of a DICOM series.

    The disk is not looked at.
    """
    name = PurePath(path).name
    if match := _VOLUME_NUMBER.fullmatch(name):
        return f"{stem_of(match[1])}_volume{match[2]}"
    return name[: -len(suffix_of(path) or dicom_suffix(name)) or None]


def pair_of(path: Path) -> tuple[Path, Path] | None:
    """The header's and the image's file of the NIfTI pair that a path names by either; none of a single file."""
    for suffix, other in _HALVES.items():
        if path.name.lower().endswith(suffix):
            spelled = path.name[-len(suffix) :]
            half = path.with_name(path.name[: -len(suffix)] + (other.upper() if spelled.isupper() else other))
            return (path, half) if ".hdr" in suffix else (half, path)
    return None


def label_name(scan: str | PurePath, suffix: str | None = None) -> str:
    """The file name for a scan's label map.

    Args:
        suffix: One of `WRITABLE_SUFFIXES`; the scan's own if not given, and ``.nii.gz`` for DICOM and pairs.
    """
    return stem_of(scan) + label_suffix(scan, suffix)


def label_suffix(scan: str | PurePath, suffix: str | None = None) -> str:
    """The suffix of a scan's label map, see `label_name`."""
    if suffix is not None and suffix.lower() not in (*WRITABLE_SUFFIXES, *DICOM_LABELS):
        raise ConfigError(
            "label maps can't be written in this format",
            expected=f"one of {', '.join((*WRITABLE_SUFFIXES, *DICOM_LABELS))}",
            got=suffix,
        )
    own = suffix_of(scan)
    return suffix or (own if own.lower() in WRITABLE_SUFFIXES else ".nii.gz")


def scan_files(folder: str | Path) -> list[Path]:
    """Sorted scan files in a folder, without hidden ones; a header/image pair is listed once, by its header."""
    files = sorted(
        file for file in Path(folder).iterdir() if suffix_of(file) and not file.name.startswith(".") and file.is_file()
    )
    headers = {stem_of(file) for file in files if ".hdr" in suffix_of(file).lower()}
    files = [file for file in files if ".img" not in suffix_of(file).lower() or stem_of(file) not in headers]
    return [file for file in files if not is_dicom_image(file)]


def is_series_uid(name: str) -> bool:
    """Whether a name can be the UID of a DICOM series."""
    return _UNIQUE_IDENTIFIER.fullmatch(name) is not None


def split_volume_number(path: Path) -> tuple[Path, int | None]:
    """A DICOM series' path without the number of a volume that it may end in (``FOLDER#2``), and that number."""
    match = _VOLUME_NUMBER.fullmatch(path.name)
    if match is None or path.exists():
        return path, None
    return path.with_name(match[1]), int(match[2])


def is_dicomdir(path: Path) -> bool:
    """Whether a path is the listing of a folder of DICOM files, which says nothing that the files don't."""
    return path.name.upper() == "DICOMDIR" and path.is_file()


def is_dicom_image(path: Path) -> bool:
    """Whether an ``.img`` file is DICOM, which may have any name, and not half of a NIfTI pair."""
    if not path.name.lower().endswith(".img"):
        return False
    try:
        with path.open("rb") as stream:
            return stream.read(132)[128:] == b"DICM"
    except OSError:
        return False  # the reader reports it


def is_dicom(start: bytes) -> bool:
    """Whether a file is DICOM, by its first 132 bytes; the preamble may be missing."""
    if start[128:] == b"DICM":
        return True
    group, number, kind, length = start[:2], start[2:4], start[4:6], start[6:8]
    if group not in (b"\x02\0", b"\x08\0") or number[1:] != b"\0":
        return False
    return kind in _FIRST_KINDS or (length == b"\0\0" and kind != b"\0\0")


def reader_of(path: Path, case: str | None) -> ModuleType:
    """The module that reads a path."""
    _check_is_scan_file(path, case)
    suffix = suffix_of(path)
    if suffix and not is_dicom_image(path):
        return import_module(_FORMATS[suffix.lower()])
    if suffix or _names_series(path, case):
        return import_module(_DICOM)
    if not path.suffix and not path.exists():
        raise DataError("the file is missing", hint="check the path", case=case, file=path)
    raise DataError(
        "the file's format is not known",
        expected=f"a name that ends in {', '.join(SUFFIXES)}, or a DICOM series (its folder, or one of its files)",
        got=path.name,
        hint="convert the file",
        case=case,
        file=path,
    )


def writer_of(path: Path) -> ModuleType:
    """The module that writes a path."""
    if (suffix := suffix_of(path).lower()) in WRITABLE_SUFFIXES:
        return import_module(_FORMATS[suffix])
    raise DataError(
        "the format can't be written",
        expected=f"a name that ends in {', '.join(WRITABLE_SUFFIXES)}",
        got=path.name,
        hint="choose a name that ends in .nii.gz",
        file=path,
    )


def _check_is_scan_file(path: Path, case: str | None) -> None:
    """Rejects pipes, which would block forever, and other kinds of files under a scan's name."""
    if not path.exists() or path.is_dir():
        return
    if not path.is_file():
        raise DataError("not a regular file", expected="a scan file", got="a pipe or a device", case=case, file=path)
    try:
        with path.open("rb") as stream:
            start = stream.read(64)
    except OSError as error:
        raise unreadable(path, case, expected="a scan file", got=error.strerror) from error
    is_header = ".img" not in suffix_of(path).lower()  # voxels may begin with anything
    if is_header and (foreign := foreign_file(start)):
        raise unreadable(path, case, expected="a scan file", got=foreign[0], hint=foreign[1])


def _names_series(path: Path, case: str | None) -> bool:
    path, _ = split_volume_number(path)
    if path.is_dir() or dicom_suffix(path.name):
        return True
    if path.is_file():
        try:
            with path.open("rb") as stream:
                return is_dicom(stream.read(132))
        except OSError as error:
            raise unreadable(path, case, expected="a scan file", got=error.strerror) from error
    return path.parent.is_dir() and is_series_uid(path.name)


def dicom_suffix(name: str) -> str:
    """The suffix of a file named as DICOM, as spelled; empty if it is not."""
    suffixes = (*DICOM_LABELS, ".dcm", ".dicom")
    return next((name[-len(suffix) :] for suffix in suffixes if name.lower().endswith(suffix)), "")
