"""Sessions: scans that a client sends once to predict them several times, and that are not kept."""

from __future__ import annotations

import secrets
import shutil
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from inflate3d.errors import DataError
from inflate3d.io import read_images
from inflate3d.server.faults import BusyError, NotFoundError
from inflate3d.server.uploads import copy_to, upload_suffix
from inflate3d.volume import Volume

LONGEST = 24 * 3600
"""Seconds after which a session ends at the latest."""

USUAL = 3600

MOST = 50
"""Sessions at a time."""


@dataclass
class Session:
    """A scan that is kept for a while.

    Attributes:
        id: Random, so that nobody can guess it.
        image: A file, or the folder of a DICOM series.
        created: Seconds since 1970.
        used: When it was last used.
        expiry: Seconds without use after which it ends.
    """

    id: str
    image: Path
    created: float
    used: float
    expiry: int

    def to_dict(self) -> dict[str, Any]:
        return {
            "name": self.id,
            "path": "",
            "image": self.image.name,
            "meta": {},
            "create_ts": int(self.created),
            "last_access_ts": int(self.used),
            "expiry": self.expiry,
        }


class Sessions:
    """All sessions; safe to use from several threads.

    Args:
        folder: For their files; what a server that was killed left there is removed.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._sessions: dict[str, Session] = {}
        self._lock = threading.RLock()
        shutil.rmtree(folder, ignore_errors=True)

    def add(self, files: Sequence[tuple[BinaryIO, str | None]], expiry: int = 0) -> Session:
        """Begins a session.

        Args:
            files: A scan's file, or the files of a DICOM series, each with its name, of which only the suffix counts.
            expiry: Seconds without use after which it ends; 0 for an hour.

        Raises:
            DataError: It is no scan.
            BusyError: There are too many sessions.
        """
        self._remove_expired()
        with self._lock:
            if len(self._sessions) >= MOST:
                raise BusyError("too many sessions", expected=f"at most {MOST}", hint="delete some, or try again later")
        name = secrets.token_hex(16)
        folder = self._folder / name
        try:
            image = _write(files, folder)
            read_images((image,))
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise
        now = time.time()
        session = Session(name, image, now, now, min(max(expiry, 0) or USUAL, LONGEST))
        with self._lock:
            self._sessions[name] = session
        return session

    def get(self, name: str, *, use: bool = False) -> Session:
        """A session by its id.

        Args:
            use: Whether to count it as used now.

        Raises:
            NotFoundError: There is none, or it has ended.
        """
        self._remove_expired()
        with self._lock:
            session = self._sessions.get(name)
            if session is None:
                raise NotFoundError("session not found", hint="it may have ended; send the scan again")
            if use:
                session.used = time.time()
            return session

    def read(self, name: str) -> Volume:
        """The scan of a session."""
        return read_images((self.get(name, use=True).image,))

    def remove(self, name: str) -> Session:
        """Ends a session."""
        with self._lock:
            session = self.get(name)
            del self._sessions[name]
        shutil.rmtree(self._folder / name, ignore_errors=True)
        return session

    def _remove_expired(self) -> None:
        now = time.time()
        with self._lock:
            ended = [session.id for session in self._sessions.values() if session.used + session.expiry < now]
            for name in ended:
                del self._sessions[name]
        for name in ended:
            shutil.rmtree(self._folder / name, ignore_errors=True)


def _write(files: Sequence[tuple[BinaryIO, str | None]], folder: Path) -> Path:
    """Writes what was sent; several files are those of a DICOM series."""
    if not files:
        raise DataError("no scan was sent", expected="a file, or the files of a DICOM series")
    if len(files) == 1 and not _may_be_dicom(files[0][1]):
        stream, name = files[0]
        return copy_to(stream, folder / f"scan{upload_suffix(name)}")
    if wrong := [name for _, name in files if not _may_be_dicom(name)]:
        raise DataError(
            "several files that are not a DICOM series", expected="files that end in .dcm", got=repr(wrong[0])
        )
    for number, (stream, _) in enumerate(files):
        copy_to(stream, folder / f"{number:05d}.dcm")
    return folder


def _may_be_dicom(name: str | None) -> bool:
    suffix = Path(name or "").suffix.lower()
    return suffix in ("", ".dcm", ".dicom", ".ima") or suffix[1:].isdecimal()
