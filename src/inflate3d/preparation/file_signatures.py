"""Whether a case's files have changed since they were read: by size and modification time, without reading them."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from inflate3d.datasets.case import Case
from inflate3d.io.formats import is_series_uid, pair_of, split_volume_number
from inflate3d.settings import FrozenModel

_VOXEL_FILES = {".mhd": (".raw", ".zraw"), ".nhdr": (".raw", ".raw.gz")}
"""Suffixes of voxel files by that of their header; both have the same name."""

_WRAP = 2**63
"""Sums of times are kept below this, so that all JSON readers take them for integers."""


class FileSignature(FrozenModel):
    """Size and modification time of a file.

    Attributes:
        file: Its path, relative to the dataset's folder if it is inside.
        size: Its bytes, 0 if it is missing; the sum for a scan in several files, such as a DICOM series.
        modified: Modification time in nanoseconds; the sum of several files, modulo 2^63.
    """

    file: str
    size: int
    modified: int


def sign_case(case: Case, root: Path) -> tuple[FileSignature, ...]:
    """Signatures of a case's scan and label map as they are now."""
    return tuple(_sign_path(path, root) for path in (*case.images, case.label) if path is not None)


def last_change(path: Path) -> int | None:
    """When a scan was last written, in nanoseconds (the latest of its files); None if it does not exist."""
    return max((part.stat().st_mtime_ns for part in _parts_of(path)), default=None)


def changed_files(before: Iterable[FileSignature], now: Iterable[FileSignature], root: Path) -> list[Path]:
    """Sorted paths that were changed, added or removed between two times."""
    old, new = ({each.file: each for each in signatures} for signatures in (before, now))
    return [root / file for file in sorted(old.keys() | new.keys()) if old.get(file) != new.get(file)]


def _sign_path(path: Path, root: Path) -> FileSignature:
    """Signature of a file, or of a DICOM series: its folder, one of its files, or folder and UID."""
    states = [part.stat() for part in _parts_of(path)]
    path, root = path.absolute(), root.absolute()  # the same folder may be named in another way next time
    return FileSignature(
        file=(path.relative_to(root) if path.is_relative_to(root) else path).as_posix(),
        size=sum(state.st_size for state in states),
        modified=sum(state.st_mtime_ns for state in states) % _WRAP,
    )


def _parts_of(path: Path) -> list[Path]:
    """Every file on disk that a path stands for."""
    path, _ = split_volume_number(path)
    if path.is_dir():
        return [part for part in path.iterdir() if part.is_file()]
    if not path.is_file():
        # FOLDER/SERIES-UID: nothing of that name is on the disk
        return _parts_of(path.parent) if path.parent.is_dir() and is_series_uid(path.name) else []
    if path.suffix.lower() in (".dcm", ".dicom"):
        return _parts_of(path.parent)
    if pair := pair_of(path):
        return [half for half in pair if half.is_file()]
    partners = (path.with_suffix(suffix) for suffix in _VOXEL_FILES.get(path.suffix.lower(), ()))
    return [path, *(partner for partner in partners if partner.is_file())]
