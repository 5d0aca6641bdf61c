"""Files that clients send: only the suffix of their names is used."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from inflate3d.errors import OutputError
from inflate3d.io import suffix_of
from inflate3d.server.faults import RequestError

UPLOAD_SUFFIXES = (".nii.gz", ".nii", ".nrrd", ".mha")
"""Scans and label maps that clients may send: formats of a single file, which names no other."""

_ARCHIVES = (".zip", ".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz", ".7z", ".rar")


def upload_suffix(name: str | None) -> str:
    """The suffix of a file that a client sends.

    Raises:
        RequestError: It is not one of `UPLOAD_SUFFIXES`.
    """
    suffix = suffix_of(name or "").lower()
    if suffix in UPLOAD_SUFFIXES:
        return suffix
    is_archive = (name or "").lower().endswith(_ARCHIVES)
    raise RequestError(
        "archives are refused" if is_archive else "unknown file format",
        expected=f"a name that ends in {', '.join(UPLOAD_SUFFIXES)}",
        got=repr((name or "")[-40:]),
    )


def copy_to(stream: BinaryIO, file: Path) -> Path:
    """Writes what a client sends to a file."""
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with file.open("wb") as target:
            shutil.copyfileobj(stream, target, 1 << 20)
    except OSError as error:
        raise OutputError("the file can't be written", got=error.strerror or error, file=file) from error
    return file


@contextmanager
def received(stream: BinaryIO, name: str | None, place: Path) -> Iterator[Path]:
    """A file that a client sends, while it is looked at.

    Args:
        name: As the client says.
        place: Folder for it.

    Raises:
        RequestError: It is no file of a scan or of a label map, such as an archive.
    """
    suffix = upload_suffix(name)
    place.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=place, ignore_cleanup_errors=True) as folder:
        yield copy_to(stream, Path(folder) / f"file{suffix}")
