"""A lock on a folder that is released when its process ends, however it ends.

The operating system manages it (see `filelock`), so that a killed process leaves none behind, and forked processes do
not hold it. It works between machines on network file systems that support locks: NFS does (unless mounted with
``nolock`` or ``local_lock``), Lustre if mounted with ``flock``.
"""

from __future__ import annotations

import errno
import logging
import os
import platform
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from inflate3d.errors import OutputError

logger = logging.getLogger(__name__)

_WITHOUT_LOCKS = frozenset({errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP})
"""Errors of file systems that do not support locks."""


@contextmanager
def locked(
    path: Path,
    folder: Path,
    *,
    doing: str = "preparing this store",
    hint: str = "wait until it has finished, or choose another --store",
    wait: float = 0.0,
    remove: bool = False,
) -> Iterator[None]:
    """Keeps other processes out of a folder.

    Args:
        path: The lock file, which its holder may remove. A file beside it names the process.
        folder: The locked folder, for the message.
        doing: The other process's activity, for the message.
        hint: What the user can do.
        wait: Seconds to wait for the other process.
        remove: Whether to remove the lock file at the end, with empty folders that were created for it.

    Raises:
        OutputError: Another process has the lock, the folder can't be written, or its file system does not support
            locks.
    """
    created = [above for above in path.parents if not above.exists()]
    holder = path.with_name(f"{path.name}.holder")
    lock = FileLock(path, timeout=wait, thread_local=False, fallback_to_soft=False)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock.acquire()
    except Timeout as error:
        raise OutputError(f"another process is {doing}", got=_read_holder(holder), hint=hint, file=folder) from error
    except OSError as error:
        if error.errno in _WITHOUT_LOCKS:
            _remove(path, created)
            raise OutputError(
                "file system has no locks",
                got=error.strerror,
                hint="choose a folder on another disk, or mount this one with locks (NFS: lock, Lustre: flock)",
                file=folder,
            ) from error
        raise OutputError("folder can't be written", got=error.strerror, file=folder) from error
    try:
        _warn_of_other_machine(_read_holder(holder), folder)
        with suppress(OSError):  # a full disk is reported by who writes to it
            holder.write_text(f"process {os.getpid()} on {platform.node()}", encoding="utf-8")
        yield
    finally:
        with suppress(OSError):
            holder.unlink(missing_ok=True)
        if remove:
            _remove(path, created)
        lock.release()


def _remove(path: Path, created: list[Path]) -> None:
    with suppress(OSError):
        path.unlink(missing_ok=True)
        for above in created:
            above.rmdir()  # until one is in use


def _warn_of_other_machine(holder: str | None, folder: Path) -> None:
    """Says that another machine has had the lock and was killed, or still has it where locks aren't shared."""
    machine = (holder or "").partition(" on ")[2]
    if machine and machine != platform.node():
        logger.warning(
            "%s was locked by %s, which was killed or still runs: if it still runs, stop one of the two, "
            "as this file system does not share locks between machines",
            folder,
            holder,
        )


def _read_holder(path: Path) -> str | None:
    try:
        return path.read_text(encoding="utf-8", errors="replace")[:100] or None
    except OSError:
        return None  # it has just started, or finished
