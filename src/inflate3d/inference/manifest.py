"""Which files of a folder inflate3d wrote, so that a prediction never silently replaces another file.

The hidden file ``.inflate3d`` lists the SHA-256 of each written file in the format of ``sha256sum``. A line is appended
for each, so that several processes may write into one folder; the last line of a file counts.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from pathlib import Path

from inflate3d.errors import OutputError, truncate

MANIFEST = ".inflate3d"


def record_written(*files: Path) -> None:
    """Records files as written by inflate3d."""
    for file in files:
        line = f"{_digest(file)}  {file.name}\n".encode()
        descriptor = os.open(file.parent / MANIFEST, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
        try:
            os.write(descriptor, line)  # in one piece
        finally:
            os.close(descriptor)


def written_in(folder: Path) -> set[str]:
    """Names of the files in a folder that inflate3d wrote and nobody has changed since."""
    return {name for name, digest in _read(folder).items() if _is(folder / name, digest)}


def check_replaceable(files: Sequence[Path]) -> None:
    """Raises an error if a file to be written exists and was not written by inflate3d."""
    known = {folder: _read(folder) for folder in {file.parent for file in files}}
    foreign = [file for file in files if file.exists() and not _is(file, known[file.parent].get(file.name, ""))]
    if foreign:
        raise OutputError(
            "file exists, and was not written by inflate3d or was changed since",
            got=truncate([file.name for file in foreign]),
            hint="choose another output folder, or replace it with --overwrite",
            file=foreign[0],
        )


def _read(folder: Path) -> dict[str, str]:
    try:
        text = (folder / MANIFEST).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return {}
    lines = (line.partition("  ") for line in text.splitlines())
    return {name: digest for digest, _, name in lines if name and "/" not in name}


def _is(file: Path, digest: str) -> bool:
    return bool(digest) and file.is_file() and _digest(file) == digest


def _digest(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
