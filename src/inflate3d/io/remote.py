"""Files in buckets and on web servers, which are worked on in a folder of this machine: ``s3://``, ``gs://``, ``https://``.

Bytes come and go through fsspec, with the credentials that its packages find for themselves.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import quote, unquote, urlsplit

from inflate3d.errors import ConfigError, DataError, Inflate3dError, OutputError
from inflate3d.io.formats import suffix_of

_ADDRESS = re.compile(r"([a-z][a-z0-9+.-]+)://.+", re.IGNORECASE)
_WEB = ("http", "https")

_WHOLE_AT_ONCE = ("s3", "s3a", "gs", "gcs", "az", "abfs", "memory")
"""Where a file that is put is seen when it is whole, and not before; elsewhere it is put under another name first."""

_PACKAGES = {"s3": "s3fs", "s3a": "s3fs", "gs": "gcsfs", "gcs": "gcsfs", "http": "aiohttp", "https": "aiohttp"}


def is_remote(place: str) -> bool:
    """Whether a user names a place by an address, such as ``s3://bucket/scans``, and not by a path."""
    return _ADDRESS.fullmatch(place) is not None


@dataclass(frozen=True)
class RemoteFolder:
    """A folder somewhere else, and one of this machine where those of its files lie that are worked on.

    Attributes:
        address: The folder's, without a slash at its end.
        mirror: The folder of this machine; a file has the same name in both.
        query: What stands behind the name in a file's address, such as the signature of a web server.
    """

    address: str
    mirror: Path
    query: str = ""

    @classmethod
    def of(cls, place: str, mirror: Path) -> RemoteFolder:
        """A folder by its address.

        Raises:
            ConfigError: The package for this kind of address is missing, or there is none.
        """
        folder = cls(place.rstrip("/"), mirror)
        _open(folder.address)
        return folder

    @classmethod
    def around(cls, place: str, mirror: Path) -> tuple[RemoteFolder, str]:
        """The folder in which a file lies by its address, and the file's name.

        Raises:
            ConfigError: See `of`.
        """
        path, mark, query = place.partition("?") if place.lower().startswith(_WEB) else (place, "", "")
        address, _, name = path.rpartition("/")
        folder = cls(address, mirror, mark + query)
        _open(folder.address)
        return folder, folder._own_name(name)

    @property
    def is_writable(self) -> bool:
        """Whether files can be put there; web servers take none."""
        return self._protocol not in _WEB

    def address_of(self, path: Path) -> str:
        """The address of the file that a path in the mirror stands for."""
        name = path.name if self.is_writable else quote(path.name)
        return f"{self.address}/{name}{self.query}"

    def names(self) -> list[str]:
        """Names of the files there, sorted; those of sub-folders are not among them.

        Raises:
            DataError: They can't be listed.
        """
        system, inside = _open(f"{self.address}/")
        with _told("the folder can't be listed", self.address, DataError):
            found = system.ls(inside, detail=True)
        files = (entry["name"] for entry in found if entry["type"] == "file")
        return sorted(
            self._own_name(PurePosixPath(urlsplit(name).path if "://" in name else name).name) for name in files
        )

    def fetch(self, path: Path) -> None:
        """Brings a file into the mirror.

        Raises:
            DataError: It can't be read there, or has no place here.
        """
        address = self.address_of(path)
        system, inside = _open(address)
        with _told("the scan can't be fetched", address, DataError):
            path.parent.mkdir(parents=True, exist_ok=True)
            system.get_file(inside, str(path))

    def put(self, path: Path) -> None:
        """Sends a file of the mirror; whoever reads it there sees all of it, or what was there before.

        Raises:
            OutputError: It can't be written there.
        """
        address = self.address_of(path)
        system, final = _open(address)
        with _told("the file can't be sent", address, OutputError):
            if self._protocol in _WHOLE_AT_ONCE:
                system.put_file(str(path), final)
                return
            parent, _, name = final.rpartition("/")
            system.makedirs(parent, exist_ok=True)
            temporary = f"{parent}/.{name}.part"
            system.put_file(str(path), temporary)
            system.mv(temporary, final)

    def changed(self, path: Path) -> int | None:
        """When a file there was last written, in nanoseconds; 0 where the server does not say, None if it is missing.

        Raises:
            DataError: The server doesn't answer.
        """
        address = self.address_of(path)
        system, inside = _open(address)
        with _told("the file can't be looked up", address, DataError):
            system.invalidate_cache(inside)  # others may have written since it was listed
            if not system.exists(inside):
                return None
            try:
                return int(system.modified(inside).timestamp() * 1e9)
            except NotImplementedError:
                return 0

    def _own_name(self, name: str) -> str:
        """A file's own name, of how its address spells it: those of the web have %20 for a space.

        One that would lead out of the folder, by %2F for a slash, is cut to its last part.
        """
        return name if self.is_writable else PurePosixPath(unquote(name)).name

    @property
    def _protocol(self) -> str:
        return self.address.partition("://")[0].lower()


def _open(address: str) -> tuple[Any, str]:
    """The file system of an address, which fsspec keeps open, and what it calls the address."""
    from fsspec.core import url_to_fs

    protocol = address.partition("://")[0].lower()
    try:
        return url_to_fs(address)
    except ImportError as error:
        package = _PACKAGES.get(protocol)
        raise ConfigError(
            f"{package or 'a package'} is not installed, which {protocol}:// needs",
            got=str(error),
            hint="pip install 'inflate3d[remote]'" if package else "install what it names",
            file=address,
        ) from error
    except ValueError as error:
        raise ConfigError(
            "this kind of address is not known", expected="s3://, gs:// or https://", got=error, file=address
        ) from error


def check_single_file(name: str, address: str) -> None:
    """Refuses scans that are no single file: only such are fetched.

    Raises:
        DataError: It is one of a pair of header and image, or may be of a DICOM series.
    """
    suffix = suffix_of(name).lower()
    if suffix and not suffix.startswith((".hdr", ".img", ".nhdr", ".mhd")):
        return
    raise DataError(
        "only scans in a single file are fetched from elsewhere",
        expected="a name that ends in .nii.gz, .nii, .nrrd or .mha",
        got=name,
        hint="copy pairs of header and image, and DICOM series, to a disk first, and name their path",
        file=address,
    )


@contextmanager
def _told(what: str, address: str, kind: type[Inflate3dError]) -> Iterator[None]:
    try:
        yield
    except Exception as error:
        raise kind(
            what,
            got=f"{type(error).__name__}: {error}",
            hint="check the address, and that this machine may use it (credentials, network)",
            file=address,
        ) from error
