"""Fetching a large file over HTTP: goes on where it stopped, honours proxies, checks what came."""

from __future__ import annotations

import hashlib
import http.client
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from inflate3d import __version__
from inflate3d.errors import ModelError, OutputError

Progress = Callable[[int, int | None], None]
"""Is told the bytes that are here, and how many there will be where the server says so."""

_BLOCK = 1 << 20
_TIMEOUT_SECONDS = 30
_TRIES = 3
_RANGE_NOT_SATISFIABLE = 416


class NoConnectionError(ModelError):
    """The server can't be reached, refuses, or stops in the middle."""


def download(url: str, path: Path, *, sha256: str | None = None, progress: Progress | None = None) -> str:
    """Fetches a file, whole or not at all.

    What came before an interruption is kept beside it, hidden, and the next call goes on from there where the server
    still has the same file (HTTP Range and If-Range). Proxies are those of the environment (``https_proxy``).

    Args:
        url: Its address.
        path: Where it goes; the folder is made where it is missing.
        sha256: What its checksum has to be; none takes any.
        progress: Is told how far it is.

    Returns:
        Its SHA-256 checksum.

    Raises:
        NoConnectionError: The server can't be reached, refuses, or stopped again and again.
        ModelError: The checksum is another.
        OutputError: The file can't be written.
    """
    from filelock import FileLock

    partial = path.with_name(f".{path.name}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(path.with_name(f".{path.name}.lock")):  # of several processes that want it, one fetches
            if not path.exists():
                _fetch(url, partial, progress)
                _check_arrived(partial, sha256, path)
                partial.replace(path)
                _etag_path(partial).unlink(missing_ok=True)
            checksum = sha256_of(path)
    except OSError as error:
        raise OutputError("the file can't be written", got=error.strerror or error, file=path) from error
    check_sha256(checksum, sha256, path)
    return checksum


def sha256_of(path: Path) -> str:
    """The SHA-256 checksum of a file, as hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def check_sha256(found: str, wanted: str | None, path: Path) -> None:
    """Refuses a file of another checksum.

    Raises:
        ModelError: The checksums differ.
    """
    if wanted is not None and found != wanted:
        raise ModelError(
            "weight file is not the one that it should be",
            expected=f"SHA-256 {wanted}",
            got=f"SHA-256 {found}",
            hint="remove it and fetch it again; if it stays so, the source has changed: don't use it unseen",
            file=path,
        )


def _check_arrived(partial: Path, sha256: str | None, path: Path) -> None:
    try:
        check_sha256(sha256_of(partial), sha256, path)
    except ModelError:
        partial.unlink()  # no use to go on from it
        raise


def _fetch(url: str, partial: Path, progress: Progress | None) -> None:
    for left in reversed(range(_TRIES)):
        try:
            return _go_on(url, partial, progress)
        except NoConnectionError:
            if not left or not partial.exists():
                raise


def _go_on(url: str, partial: Path, progress: Progress | None) -> None:
    """Fetches what is missing of a partial file."""
    here = partial.stat().st_size if partial.exists() else 0
    etag = _read_etag(partial)
    response = _open(url, here if etag else 0, etag)
    with response:
        if response.status == http.client.PARTIAL_CONTENT:
            mode = "ab"
        else:
            mode, here = "wb", 0
        length = response.headers.get("Content-Length")
        total = None if length is None else here + int(length)
        _write_etag(partial, response.headers.get("ETag"))
        with partial.open(mode) as file:
            for block in _blocks(response):
                file.write(block)
                here += len(block)
                if progress:
                    progress(here, total)
    if total is not None and here < total:
        raise NoConnectionError("a download was interrupted", got=f"{here} of {total} bytes came from {url}")


def _open(url: str, start: int, etag: str | None) -> Any:
    headers = {"User-Agent": f"inflate3d/{__version__}"}
    if start and etag:
        headers |= {"Range": f"bytes={start}-", "If-Range": etag}
    try:
        request = urllib.request.Request(url, headers=headers)  # noqa: S310 - addresses are our own table's
        return urllib.request.build_opener().open(request, timeout=_TIMEOUT_SECONDS)  # with the proxies of now
    except urllib.error.HTTPError as error:
        error.close()
        if error.code == _RANGE_NOT_SATISFIABLE and start:
            return _open(url, 0, None)
        raise NoConnectionError("the server refuses", got=f"{error.code} {error.reason} from {url}") from error
    except (OSError, http.client.HTTPException) as error:
        raise NoConnectionError("the server can't be reached", got=f"{getattr(error, 'reason', error)}") from error


def _blocks(response: Any) -> Iterator[bytes]:
    try:
        while block := response.read(_BLOCK):
            yield block
    except (OSError, http.client.HTTPException) as error:
        raise NoConnectionError("a download was interrupted", got=f"{type(error).__name__}: {error}") from error


def _etag_path(partial: Path) -> Path:
    return partial.with_name(f"{partial.name}.etag")


def _read_etag(partial: Path) -> str | None:
    """The server's mark of the file that a partial one is of; none where it gave none that is sure."""
    path = _etag_path(partial)
    return path.read_text(encoding="utf-8") if partial.exists() and path.exists() else None


def _write_etag(partial: Path, etag: str | None) -> None:
    if etag and not etag.startswith("W/"):
        _etag_path(partial).write_text(etag, encoding="utf-8")
    else:
        _etag_path(partial).unlink(missing_ok=True)
