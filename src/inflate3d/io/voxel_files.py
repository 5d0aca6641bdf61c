"""The data files that an NRRD or MetaImage header names: only those in its own folder are allowed."""

from __future__ import annotations

import re
from pathlib import Path, PurePosixPath, PureWindowsPath

from inflate3d.errors import DataError

MOST_FILES = 1 << 16
"""Most files that voxels may be spread over."""

_NUMBERED = re.compile(r"[^%]*%0?[0-9]{0,2}d[^%]*")
"""A file name with one number in C's format, and nothing else that C's functions would interpret."""

_INTEGER = re.compile(r"-?[0-9]{1,9}")


def named_file(header: Path, name: str) -> Path:
    """The file that a header names."""
    path, windows = PurePosixPath(name), PureWindowsPath(name)
    leads_out = path.is_absolute() or windows.drive or windows.root or ".." in (*path.parts, *windows.parts)
    if not name or not name.isprintable() or leads_out:
        raise DataError(
            "the header names a data file outside its folder, which is not read",
            expected="a file beside the header",
            got=repr(name[:80]),
            hint="move the data file beside the header, and name it there without a folder",
            file=header,
        )
    return header.parent / path


def listed_files(header: Path, names: list[str]) -> list[Path]:
    """The files that a header lists, a name in a line."""
    if not 0 < len(names) <= MOST_FILES:
        raise ValueError(f"a list of {len(names)} data files")
    return [named_file(header, name) for name in names]


def numbered_files(header: Path, pattern: str) -> list[Path]:
    """The files that a header names by a pattern such as ``slice%03d.raw 1 20 1``: name, first, last, step.

    Args:
        pattern: The pattern as in the header; anything after the step is ignored.
    """
    name, *words = pattern.split()
    numbers = [int(word) for word in words[:4] if _INTEGER.fullmatch(word)]
    if len(numbers) != len(words) or len(numbers) < 3 or numbers[2] == 0 or not _NUMBERED.fullmatch(name):
        raise ValueError(f"the data files {pattern[:80]!r}")
    first, last, step = numbers[:3]
    wanted = range(first, last + (1 if step > 0 else -1), step)
    if not 0 < len(wanted) <= MOST_FILES:
        raise ValueError(f"the data files {pattern[:80]!r}, which are {len(wanted)}")
    return [named_file(header, name % number) for number in wanted]
