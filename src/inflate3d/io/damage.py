"""Telling a damaged or hostile file before memory is taken for what its header claims."""

from __future__ import annotations

from pathlib import Path

from inflate3d.errors import DataError
from inflate3d.resources import total_memory

_DEFLATE_RATIO = 1032
"""No deflate stream (gzip, zlib) unpacks to more than this many times its size: one bit for up to 258 bytes."""


def unreadable(path: Path, case: str | None, *, expected: object, got: object) -> DataError:
    """The error for a file that is not what its name says, or not all of it."""
    return DataError(
        "the file can't be read",
        expected=expected,
        got=got,
        hint="fetch or export the file again; it is probably damaged or cut short",
        case=case,
        file=path,
    )


def check_claim(claimed: int, held: int, *, deflated: bool, path: Path, case: str | None) -> None:
    """Refuses a header that claims more voxels than its file can hold, or than the machine has memory for.

    Args:
        claimed: Bytes of voxels by the header.
        held: Bytes that the file has for them.
        deflated: Whether those are compressed by deflate.
        path: The file.
        case: Id of the case.

    Raises:
        DataError: It claims too much.
    """
    if claimed > held * (_DEFLATE_RATIO if deflated else 1):
        raise unreadable(
            path, case, expected=f"{claimed} bytes of voxels", got=f"{held} bytes{' compressed' if deflated else ''}"
        )
    if (memory := total_memory()) is not None and claimed > memory:
        raise DataError(
            "the scan is larger than the memory of this machine",
            expected=f"at most {memory} bytes",
            got=f"{claimed} bytes of voxels",
            hint="crop the scan, or work on a larger machine",
            case=case,
            file=path,
        )
