"""A lock on a file that dies with its process, however that ends; several may share one.

The system keeps it (``flock``), so a process that is killed leaves none behind. On network file systems it holds
between machines where they hand such locks on: NFS does (unless mounted with ``nolock`` or ``local_lock``), Lustre if
mounted with ``flock``, BeeGFS if told to; elsewhere it holds between the processes of one machine. Windows, and file
systems without locks, have none: there nothing is refused.
"""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from inflate3d.errors import OutputError

WITHOUT_LOCKS = frozenset({errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP})
"""What file systems say that know no locks."""

_held: set[int] = set()
"""Descriptors of this process's locks."""


@contextmanager
def locked(
    path: Path,
    folder: Path,
    *,
    doing: str = "preparing this store",
    hint: str = "wait until it has finished, or choose another --store",
    shared: bool = False,
    remove: bool = False,
) -> Iterator[None]:
    """Keeps other processes from what this one does in a folder.

    Args:
        path: The lock's file, which whoever holds the lock may remove.
        folder: What is locked, for the message.
        doing: What the other process is told to be doing.
        hint: What its user can do.
        shared: Whether others may hold it too, who share it likewise.
        remove: Whether its file is removed at the end, and folders that were made for it and are empty; not of one
            that others may share.

    Raises:
        OutputError: Another process holds it, or the file can't be made.
    """
    file: int | None = None
    made = [above for above in path.parents if not above.exists()]
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = _open_locked(path, shared)
    except BlockingIOError as error:
        raise OutputError(f"another process is {doing}", got=_read_holder(path), hint=hint, file=folder) from error
    except OSError as error:
        if error.errno not in WITHOUT_LOCKS:
            raise OutputError("folder can't be written", got=error.strerror, file=folder) from error
    try:
        yield
    finally:
        if file is not None:
            if remove:
                _remove(path, made)
            release_file(file)


def lock_file(path: Path, *, shared: bool = False) -> int:
    """Opens a file, which is made where it is missing, and locks it; processes forked meanwhile don't hold the lock.

    Returns:
        The file's descriptor, for `release_file`.

    Raises:
        BlockingIOError: Another process, or another part of this one, holds it.
        OSError: The file can't be opened, or the system has no locks (see `WITHOUT_LOCKS`).
    """
    if sys.platform == "win32":
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))
    import fcntl

    while True:
        file = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        _held.add(file)
        try:
            fcntl.flock(file, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
            if os.path.samestat(path.stat(), os.fstat(file)):
                return file
        except FileNotFoundError:
            pass  # its holder has finished, and removed it while we opened it
        except BaseException:
            release_file(file)
            raise
        release_file(file)


def release_file(file: int) -> None:
    """Gives a lock back."""
    _held.discard(file)
    os.close(file)


def _open_locked(path: Path, shared: bool) -> int:
    file = lock_file(path, shared=shared)
    os.ftruncate(file, 0)
    os.pwrite(file, f"process {os.getpid()} on {os.uname().nodename}".encode(), 0)
    return file


def _remove(path: Path, folders: list[Path]) -> None:
    path.unlink(missing_ok=True)
    with suppress(OSError):  # it is in use
        for folder in folders:
            folder.rmdir()


def _read_holder(path: Path) -> str | None:
    try:
        return path.read_text(encoding="utf-8", errors="replace")[:100] or None
    except OSError:
        return None  # it has finished this very moment


def _let_go() -> None:
    """Locks are the parent's alone: a loader process that outlives it for seconds must not hold them."""
    for file in _held:
        os.close(file)
    _held.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_let_go)
