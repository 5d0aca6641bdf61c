"""Writing a file, or a folder, whole or not at all."""

from __future__ import annotations

import errno
import os
import re
import secrets
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from inflate3d.errors import OutputError

_HINTS = {
    errno.ENOSPC: "free some space, or choose a folder on another disk",
    errno.EDQUOT: "free some space, or choose a folder outside the quota",
    errno.EROFS: "choose a folder on a disk that can be written",
    errno.EACCES: "choose a folder that you may write in, or change its permissions",
    errno.EPERM: "choose a folder that you may write in, or change its permissions",
    errno.ENOTDIR: "a part of the path is a file; choose another path",
    errno.EEXIST: "a part of the path is a file; choose another path",
    errno.ENOTEMPTY: "choose a folder that does not exist yet, or is empty",
    errno.EISDIR: "the path is a folder; name a file in it",
    errno.ENAMETOOLONG: "choose a shorter name",
}

_TEMPORARY = re.compile(r"\.[0-9a-f]{8}-.+")


@contextmanager
def atomic_path(final: str | Path, *, refusals: tuple[type[Exception], ...] = (), flush: bool = True) -> Iterator[Path]:
    """Gives a temporary path to write to, which becomes ``final`` when the block ends well.

    Readers see either the old file or the complete new one, whatever interrupts the writing. The temporary file is
    hidden in the same folder, has the same suffix, and is removed on any failure except a kill. The folder is created
    if missing.

    Examples:
        >>> with atomic_path("plan.json") as temporary:
        ...     temporary.write_text("{}")

    Args:
        final: The file to write; an existing one is replaced.
        refusals: Exceptions besides OSError that the writing library raises when the system refuses.
        flush: Whether to wait until the file is on the disk; otherwise the caller flushes many files at once (see
            `flush_files`).

    Yields:
        The path to write to.

    Raises:
        OutputError: The file can't be written (no space, no permission, ...).
    """
    with _replacing(Path(final), "file", refusals) as temporary:
        yield temporary
        if flush:
            _sync(temporary)


@contextmanager
def atomic_folder(final: Path) -> Iterator[Path]:
    """Gives a temporary folder, which becomes ``final`` when the block ends well; as `atomic_path`.

    Args:
        final: A folder that does not exist, or is empty.

    Raises:
        OutputError: The folder can't be written, or has files.
    """
    with _replacing(final, "folder") as temporary:
        temporary.mkdir()
        yield temporary


@contextmanager
def _replacing(final: Path, kind: str, refusals: tuple[type[Exception], ...] = ()) -> Iterator[Path]:
    temporary = final.with_name(f".{secrets.token_hex(4)}-{final.name}")
    try:
        final.parent.mkdir(parents=True, exist_ok=True)
        try:
            yield temporary
            temporary.replace(final)
        except BaseException:
            with suppress(OSError):  # the folder itself is gone or read-only, which the first error reports
                shutil.rmtree(temporary) if temporary.is_dir() else temporary.unlink()
            raise
    except OutputError:
        raise  # of another file, which was written inside the block
    except (OSError, *refusals) as error:
        system = error if isinstance(error, OSError) else OSError()
        raise OutputError(
            f"the {kind} can't be written",
            got=system.strerror or error,
            hint=_HINTS.get(system.errno or 0, "check the free space there, or choose another location"),
            file=final,
        ) from error


def remove_temporaries(folder: Path) -> None:
    """Removes what killed processes have left of `atomic_path` in a folder, to which only this process writes."""
    for path in folder.glob(".*"):
        if _TEMPORARY.fullmatch(path.name):
            path.unlink(missing_ok=True)


def write_text(path: str | Path, text: str, *, flush: bool = True) -> None:
    """Writes a text file in UTF-8, whole or not at all; line ends are kept as they are. See `atomic_path`."""
    with atomic_path(path, flush=flush) as temporary:
        temporary.write_text(text, encoding="utf-8", newline="")


def flush_files(paths: Iterable[Path]) -> None:
    """Waits until files are on the disk; many at once take hardly longer than one."""
    from concurrent.futures import ThreadPoolExecutor  # slow to import

    with ThreadPoolExecutor(16) as pool:
        list(pool.map(_flush, paths))


def _sync(path: Path) -> None:
    with path.open("r+b") as written:
        os.fsync(written.fileno())


def _flush(path: Path) -> None:
    try:
        _sync(path)
    except OSError as error:
        raise OutputError("the file can't be written", got=error.strerror or error, file=path) from error
