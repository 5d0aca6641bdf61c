"""Files in buckets and on web servers (``s3://``, ``gs://``, ``https://``), used through local copies.

All transfers use fsspec, with the credentials that its packages find: scans through its ``simplecache``, label maps
with its ``put``.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory
from typing import Any
from urllib.parse import quote, unquote, urlsplit

from inflate3d.errors import ConfigError, DataError, Inflate3dError, OutputError

_ADDRESS = re.compile(r"([a-z][a-z0-9+.-]+)://.+", re.IGNORECASE)
_WEB = ("http", "https")

_ATOMIC = ("s3", "s3a", "gs", "gcs", "az", "abfs", "memory")
"""Protocols where an uploaded file appears only when complete; elsewhere it is uploaded under another name and
renamed."""

_PACKAGES = {"s3": "s3fs", "s3a": "s3fs", "gs": "gcsfs", "gcs": "gcsfs", "http": "aiohttp", "https": "aiohttp"}


def is_remote(path: str) -> bool:
    """Whether the user gave an address such as ``s3://bucket/scans`` rather than a path."""
    return _ADDRESS.fullmatch(path) is not None


@dataclass(frozen=True)
class RemoteFolder:
    """A folder in a bucket or on a web server.

    Attributes:
        address: Address without a trailing slash.
        query: The part of a file's address after the name, such as a web server's signature.
    """

    address: str
    query: str = ""

    @classmethod
    def of(cls, address: str) -> RemoteFolder:
        """The folder at an address."""
        folder = cls(address.rstrip("/"))
        _file_system(folder.address)
        return folder

    @classmethod
    def of_file(cls, address: str) -> tuple[RemoteFolder, str]:
        """The folder of the file at an address, and the file's name."""
        path, mark, query = address.partition("?") if address.lower().startswith(_WEB) else (address, "", "")
        parent, _, name = path.rpartition("/")
        folder = cls(parent, mark + query)
        _file_system(folder.address)
        return folder, folder._own_name(name)

    @property
    def is_writable(self) -> bool:
        """Whether files can be uploaded; web servers are only read from."""
        return self._protocol not in _WEB

    @property
    def local(self) -> Path:
        """The folder for local copies; each process has its own, which is removed when it exits."""
        return Path(_local_folder(self.address).name)

    def address_of(self, name: str) -> str:
        return f"{self.address}/{name if self.is_writable else quote(name)}{self.query}"

    def names(self) -> list[str]:
        """Sorted names of the files there, without subfolders."""
        system, inside = _file_system(f"{self.address}/")
        with _raised_as("folder can't be listed", self.address, DataError):
            found = system.ls(inside, detail=True)
        files = (entry["name"] for entry in found if entry["type"] == "file")
        return sorted(
            self._own_name(PurePosixPath(urlsplit(name).path if "://" in name else name).name) for name in files
        )

    def fetch(self, name: str) -> Path:
        """Downloads a file and returns its local copy."""
        from fsspec import filesystem

        address = self.address_of(name)
        system, inside = _file_system(address)
        with _raised_as("scan can't be downloaded", address, DataError):
            cache = filesystem("simplecache", fs=system, cache_storage=str(self.local))
            with cache.open(inside, "rb") as copy:
                return Path(copy.name).replace(self.local / name)

    def put(self, path: Path) -> None:
        """Uploads a file; readers see the old file or all of the new one."""
        address = self.address_of(path.name)
        system, final = _file_system(address)
        with _raised_as("file can't be uploaded", address, OutputError):
            if self._protocol in _ATOMIC:
                system.put_file(str(path), final)
                return
            parent, _, name = final.rpartition("/")
            system.makedirs(parent, exist_ok=True)
            temporary = f"{parent}/.{name}.part"
            system.put_file(str(path), temporary)
            system.mv(temporary, final)

    def changed(self, name: str) -> int | None:
        """When a file was last written, in nanoseconds; 0 if the server does not say, None if there is no file."""
        address = self.address_of(name)
        system, inside = _file_system(address)
        with _raised_as("file can't be looked up", address, DataError):
            system.invalidate_cache(inside)  # others may have written since it was listed
            if not system.exists(inside):
                return None
            try:
                return int(system.modified(inside).timestamp() * 1e9)
            except NotImplementedError:
                return 0

    def _own_name(self, name: str) -> str:
        """A file's name from the way its address spells it: in a URL a space is %20.

        If it would lead out of the folder, with %2F for a slash, only its last part is used.
        """
        return name if self.is_writable else PurePosixPath(unquote(name)).name

    @property
    def _protocol(self) -> str:
        return self.address.partition("://")[0].lower()


@cache
def _local_folder(address: str) -> TemporaryDirectory[str]:
    del address  # folders of one address share a local one
    return TemporaryDirectory(prefix="inflate3d-")


def _file_system(address: str) -> tuple[Any, str]:
    """The file system of an address (fsspec caches it), and the path within it."""
    try:
        from fsspec.core import url_to_fs

        return url_to_fs(address)
    except ImportError as error:
        package = _PACKAGES.get(address.partition("://")[0].lower())
        raise ConfigError(
            f"{package or 'a package'} is not installed",
            got=str(error),
            hint="pip install 'inflate3d[remote]'" if package else "install the package that the message names",
            file=address,
        ) from error
    except ValueError as error:
        raise ConfigError(
            "unknown kind of address", expected="s3://, gs:// or https://", got=error, file=address
        ) from error


@contextmanager
def _raised_as(what: str, address: str, kind: type[Inflate3dError]) -> Iterator[None]:
    try:
        yield
    except Exception as error:
        raise kind(
            what,
            got=f"{type(error).__name__}: {error}",
            hint="check the address, and that this machine has access (credentials, network)",
            file=address,
        ) from error
