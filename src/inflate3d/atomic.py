"""Writing a file whole or not at all."""

from __future__ import annotations

import errno
import os
import secrets
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from filelock import lock_descriptor, unlock_descriptor

from inflate3d.errors import OutputError

_HINTS = {
    errno.ENOSPC: "free some space, or choose a folder on another disk",
    errno.EDQUOT: "free some space, or choose a folder outside the quota",
    errno.EROFS: "choose a folder on a disk that can be written",
    errno.EACCES: "choose a folder that you may write in, or change its permissions",
    errno.EPERM: "choose a folder that you may write in, or change its permissions",
    errno.ENOTDIR: "a part of the path is a file; choose another path",
    errno.EEXIST: "a part of the path is a file; choose another path",
    errno.EISDIR: "the path is a folder; name a file in it",
    errno.ENAMETOOLONG: "choose a shorter name",
}

_FLUSHED_AT_ONCE = 16

_MOST_WRITERS = 100
"""Of one file at the same time, whose temporary files are numbered."""


@contextmanager
def atomic_path(final: str | Path, *, refusals: tuple[type[Exception], ...] = (), flush: bool = True) -> Iterator[Path]:
    """Gives a temporary path to write to, which becomes ``final`` when the block ends well.

    Readers see the old file or the whole new one, never a part, whatever interrupts the writing. The
    temporary file lies hidden in the same folder under the same suffixes, and is removed on any failure.
    What a killed process has left of one is taken over, and so removed, when the same file is written again; the
    temporary files of living processes, which they hold by a lock, are left alone. The folder is made where it is
    missing.

    Example:
        >>> with atomic_path("plan.json") as temporary:
        ...     temporary.write_text("{}")

    Args:
        final: The file to be written; replaced where it exists.
        refusals: What the library that writes raises, besides OSError, when the system refuses.
        flush: Whether to wait until the file is on the disk, where a power cut can't harm it; without, the caller
            flushes many files at once (see `flush_files`).

    Yields:
        The path to write, closed when the block ends.

    Raises:
        OutputError: The system refuses to write (no space, no permission, ...).
    """
    final = Path(final)
    try:
        final.parent.mkdir(parents=True, exist_ok=True)
        with _temporary_beside(final) as temporary:
            try:
                yield temporary
                if flush:
                    _flush(temporary)
                temporary.replace(final)
            except BaseException:
                _remove(temporary)
                raise
    except OutputError:
        raise  # of another file, which was written inside the block
    except OSError as error:
        raise OutputError(
            "the file can't be written",
            got=error.strerror or error,
            hint=_HINTS.get(error.errno or 0, "choose another place to write to"),
            file=final,
        ) from error
    except refusals as error:
        raise OutputError(
            "the file can't be written",
            got=error,
            hint="check how much space is left there, or choose another place to write to",
            file=final,
        ) from error


def write_text(path: str | Path, text: str, *, flush: bool = True) -> None:
    """Writes a text file in UTF-8, whole or not at all.

    Args:
        path: The file to be written; replaced where it exists.
        text: All that it will hold; line ends are kept as they are.
        flush: Whether to wait until it is on the disk.

    Raises:
        OutputError: The system refuses to write.
    """
    with atomic_path(path, flush=flush) as temporary:
        temporary.write_text(text, encoding="utf-8", newline="")


def flush_files(paths: Iterable[Path]) -> None:
    """Waits until files are on the disk; many at once take hardly longer than one.

    Raises:
        OutputError: The system refuses to write.
    """
    from concurrent.futures import ThreadPoolExecutor  # slow to import

    def flush(path: Path) -> None:
        try:
            _flush(path)
        except OSError as error:
            raise OutputError("the file can't be written", got=error.strerror or error, file=path) from error

    with ThreadPoolExecutor(_FLUSHED_AT_ONCE) as pool:
        list(pool.map(flush, paths))


@contextmanager
def _temporary_beside(final: Path) -> Iterator[Path]:
    """The path of a temporary file that nobody else uses; one that a killed process left is taken over."""
    for number in range(_MOST_WRITERS):
        temporary = final.with_name(f".{number}-{final.name}")
        with temporary.open("ab") as file:
            try:
                is_free = lock_descriptor(file.fileno(), blocking=False)
            except OSError:  # a file system without locks
                _remove(temporary)
                break
            if is_free:
                try:
                    if _is_at(temporary, file):
                        yield temporary
                        return
                finally:
                    unlock_descriptor(file.fileno())  # processes forked meanwhile have the descriptor too
    yield final.with_name(f".{secrets.token_hex(4)}-{final.name}")


def _is_at(path: Path, file: BinaryIO) -> bool:
    """Whether an open file still has its path: its writer may have finished and moved it."""
    try:
        return os.path.samestat(path.stat(), os.fstat(file.fileno()))
    except FileNotFoundError:
        return False


def _flush(path: Path) -> None:
    with path.open("r+b") as written:
        os.fsync(written.fileno())


def _remove(temporary: Path) -> None:
    try:
        temporary.unlink(missing_ok=True)
    except OSError:
        return  # the folder itself is gone or read-only, which the first error reports
