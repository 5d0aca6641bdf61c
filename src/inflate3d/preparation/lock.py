"""A lock on a folder that dies with its process, however that ends; several may share one."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from inflate3d.errors import OutputError


@contextmanager
def locked(path: Path, store: Path, *, shared: bool = False) -> Iterator[None]:
    """Keeps other processes from preparing a store; on Windows it does not.

    Args:
        path: The lock's file, which whoever holds the lock may remove.
        store: The store's folder, for the message.
        shared: Whether others may hold it too, who share it likewise.

    Raises:
        OutputError: Another process holds it.
    """
    if sys.platform == "win32":
        yield
        return
    file = _open_locked(path, store, shared)
    try:
        yield
    finally:
        os.close(file)


def _open_locked(path: Path, store: Path, shared: bool) -> int:
    import fcntl

    while True:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.flock(file, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
        except BlockingIOError as error:
            holder = os.pread(file, 100, 0).decode(errors="replace")
            os.close(file)
            raise OutputError(
                "another process is preparing this store",
                got=holder or None,
                remedy="wait until it has finished, or choose another --store",
                file=store,
            ) from error
        if path.exists() and os.path.samestat(path.stat(), os.fstat(file)):
            os.ftruncate(file, 0)
            os.pwrite(file, f"process {os.getpid()} on {os.uname().nodename}".encode(), 0)
            return file
        os.close(file)  # its holder has finished, and removed it while we opened it
