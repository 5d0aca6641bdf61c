"""Recognizes damaged and hostile files before memory is allocated for what their headers claim."""

from __future__ import annotations

from pathlib import Path

from inflate3d.errors import DataError
from inflate3d.resources import free_memory, total_memory

_DEFLATE_RATIO = 1032
"""Largest ratio at which deflate (gzip, zlib) can compress: one bit for up to 258 bytes."""


_COPIES = 2
"""Number of copies of the voxels in memory while a scan is read and converted."""

_UNPACK = "unpack it, and give what is in it"
_PICTURE = "give the scan that the picture was made of"

_FOREIGN = (
    (
        "an HTML page, as a failed download leaves",
        "download the file again",
        (b"<!doctype", b"<html", b"<head", b"<?xml"),
    ),
    ("a Git LFS pointer", "run `git lfs pull`", (b"version https://git-lfs",)),
    ("a zip archive", _UNPACK, (b"pk\x03\x04", b"pk\x05\x06")),
    ("a bzip2 file", _UNPACK, (b"bzh",)),
    ("an xz file", _UNPACK, (b"\xfd7zxz\0",)),
    ("a zstd file", _UNPACK, (b"\x28\xb5\x2f\xfd",)),
    ("a 7-Zip archive", _UNPACK, (b"7z\xbc\xaf\x27\x1c",)),
    ("a RAR archive", _UNPACK, (b"rar!\x1a\x07",)),
    ("a PNG picture", _PICTURE, (b"\x89png",)),
    ("a JPEG picture", _PICTURE, (b"\xff\xd8\xff",)),
    ("a PDF document", "give the scan itself", (b"%pdf",)),
    ("an HDF5 file", "convert it to .nii.gz", (b"\x89hdf\r\n\x1a\n",)),
)
"""Files often found under the name of a scan or of weights: how they begin (in lower case), and what to do about it."""


def foreign_file(start: bytes) -> tuple[str, str] | None:
    """Identifies a file that is often found under the name of a scan or of weights: what it is, and a hint.

    Args:
        start: Its first 64 bytes or more.
    """
    if not start:
        return "an empty file", "copy or download the file again"
    start = start.removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    return next(((what, hint) for what, hint, marks in _FOREIGN if start.startswith(marks)), None)


def unreadable(
    path: Path,
    case: str | None,
    *,
    expected: object,
    got: object,
    hint: str = "fetch or export the file again; it is probably damaged or cut short",
) -> DataError:
    """The error for a file that is not what its name says, or not all of it."""
    return DataError("the file can't be read", expected=expected, got=got, hint=hint, case=case, file=path)


def check_claim(claimed: int, held: int, *, deflated: bool, path: Path, case: str | None) -> None:
    """Refuses a header that claims more voxels than its file can hold, or than there is free memory for.

    Args:
        claimed: Size of the voxels in bytes according to the header.
        held: Bytes in the file for them.
    """
    if claimed > held * (_DEFLATE_RATIO if deflated else 1):
        raise unreadable(
            path, case, expected=f"{claimed} bytes of voxels", got=f"{held} bytes{' compressed' if deflated else ''}"
        )
    if (free := free_memory() or total_memory()) is not None and _COPIES * claimed > free:
        raise not_enough_memory(
            path, case, expected=f"{_COPIES * claimed} free bytes: {_COPIES} times what its voxels take", got=free
        )


def not_enough_memory(path: Path, case: str | None, *, expected: object = None, got: object = None) -> DataError:
    """The error for a sound scan that this machine, or the limit of a container or batch system, has no memory for."""
    return DataError(
        "not enough memory to read the scan",
        expected=expected,
        got=got,
        hint="close other programs, raise the memory limit, use fewer --jobs, or crop the scan",
        case=case,
        file=path,
    )
