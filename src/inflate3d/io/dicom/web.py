"""Series on DICOMweb servers: ``dicomweb+https://host/dicom-web/studies/UID/series/UID``, by dicomweb-client.

Credentials come from the environment (``DICOMWEB_TOKEN``, or ``DICOMWEB_USER`` and ``DICOMWEB_PASSWORD``) or from
``.netrc``, never from the address, so that they are in no history and no log.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from pydicom import dcmread

from inflate3d.errors import ConfigError, DataError, Inflate3dError, OutputError

DICOMWEB = "dicomweb+"

_ADDRESS = re.compile(
    rf"{re.escape(DICOMWEB)}(?P<server>https?://[^?#]+?)/studies/(?P<study>[\d.]+)/series/(?P<series>[\d.]+)/?"
)
_TIMEOUT = (10.0, 60.0)
"""Seconds to wait for a connection, and for the next part of an answer."""

_ATTEMPTS = 3
"""Of a request that a server is too busy for; storing one object twice is storing it once."""

_INSTANCE = "00080018"
"""SOP Instance UID, in DICOM's JSON."""


def is_dicomweb(path: str) -> bool:
    """Whether the user gave an address of a DICOMweb server."""
    return path.lower().startswith(DICOMWEB)


@dataclass(frozen=True)
class WebSeries:
    """A series on a DICOMweb server.

    Attributes:
        server: Address of the service, such as ``https://pacs.example/dicom-web``.
        study: Study Instance UID.
        series: Series Instance UID.
    """

    server: str
    study: str
    series: str

    @classmethod
    def parse(cls, address: str) -> WebSeries:
        """Reads an address; one that holds a password is refused, and not repeated."""
        parts = urlsplit(address.removeprefix(DICOMWEB))
        if parts.username is not None or parts.password is not None:
            raise ConfigError(
                "the address holds a user name or a password",
                expected="an address without them",
                hint="put them into .netrc, or into DICOMWEB_USER and DICOMWEB_PASSWORD",
            )
        match = _ADDRESS.fullmatch(address)
        if match is None:
            raise ConfigError(
                "invalid address of a DICOM series on a server",
                expected=f"{DICOMWEB}https://HOST/PATH/studies/UID/series/UID",
                got=address,
            )
        return cls(**match.groupdict())

    @property
    def address(self) -> str:
        return f"{DICOMWEB}{self.server}/studies/{self.study}/series/{self.series}"

    def fetch(self, folder: Path) -> Path:
        """Downloads all images of the series, one file each.

        Args:
            folder: Where to put the series' folder.

        Returns:
            The folder of the series, named by its UID.

        Raises:
            DataError: The server can't be reached, refuses, is too slow, or does not give all images that it lists.
        """
        place = folder / self.series
        place.mkdir(parents=True)
        with _one_message("the series can't be fetched", self, DataError):
            answers = self._client.search_for_instances(self.study, self.series, get_remaining=True)
            listed = {str(answer[_INSTANCE]["Value"][0]) for answer in answers}
            found: set[str] = set()
            for image in self._client.iter_series(self.study, self.series):
                if (image.get("StudyInstanceUID"), image.get("SeriesInstanceUID")) != (self.study, self.series):
                    raise DataError(
                        "the server sent an image of another series", got=image.get("SeriesInstanceUID"),
                        file=self.address,
                    )  # fmt: skip
                found.add(str(image.SOPInstanceUID))
                image.save_as(place / f"{len(found):06d}.dcm", enforce_file_format=True)
        if not listed:
            raise DataError("the server has no such series", got="no image", hint="check the UIDs", file=self.address)
        if missing := listed - found:
            raise DataError(
                "the server sent only part of the series",
                expected=f"{len(listed)} images, as it lists",
                got=f"{len(found)}",
                hint=f"try again; the first missing image is {min(missing)}",
                file=self.address,
            )
        return place

    def store(self, file: Path) -> str:
        """Stores a DICOM object in the study of the series.

        Returns:
            Its SOP Instance UID.

        Raises:
            OutputError: The server can't be reached, refuses it, or does not confirm that it has it.
        """
        instance = dcmread(file)
        uid = str(instance.SOPInstanceUID)
        with _one_message("the prediction can't be stored", self, OutputError):
            answer = self._client.store_instances([instance], self.study)
        stored = [str(item.ReferencedSOPInstanceUID) for item in answer.get("ReferencedSOPSequence", [])]
        if uid not in stored:
            reasons = [f"{item.get('FailureReason', 0):04X}" for item in answer.get("FailedSOPSequence", [])]
            raise OutputError(
                "the server did not store the prediction",
                expected=f"that it confirms {uid}",
                got=f"failure reason {', '.join(reasons)} (hexadecimal)" if reasons else "no confirmation",
                hint="see the server's log",
                file=self.address,
            )
        return uid

    @cached_property
    def _client(self) -> Any:
        try:
            from dicomweb_client import DICOMwebClient
            from requests import Session
        except ModuleNotFoundError as error:
            raise ConfigError(
                "DICOMweb needs the package dicomweb-client", hint="pip install 'inflate3d[dicom]'", got="not installed"
            ) from error
        session = Session()  # reads .netrc by itself
        if token := os.environ.get("DICOMWEB_TOKEN"):
            session.auth = _Bearer(token)
        elif user := os.environ.get("DICOMWEB_USER"):
            session.auth = (user, os.environ.get("DICOMWEB_PASSWORD", ""))
        client = DICOMwebClient(self.server, session, timeout=_TIMEOUT)
        client.set_http_retry_params(max_attempts=_ATTEMPTS)
        return client


@dataclass(frozen=True, repr=False)
class _Bearer:
    """Adds a token to each request; an entry in ``.netrc`` does not replace it."""

    token: str

    def __call__(self, request: Any) -> Any:
        request.headers["Authorization"] = f"Bearer {self.token}"
        return request


@contextmanager
def _one_message(what: str, series: WebSeries, kind: type[DataError] | type[OutputError]) -> Iterator[None]:
    """Turns the errors of the network and of the server into one of ours."""
    from requests import ConnectionError as Unreachable
    from requests import HTTPError, RequestException, Timeout
    from requests.exceptions import SSLError

    try:
        yield
    except Inflate3dError:
        raise
    except Timeout as error:
        got, hint = "no answer in time", "try again when the server is less busy"
        raise kind(what, got=got, hint=hint, file=series.address) from error
    except HTTPError as error:
        status = error.response.status_code if error.response is not None else None
        hints = {
            401: "set DICOMWEB_USER and DICOMWEB_PASSWORD, or DICOMWEB_TOKEN, or add the host to .netrc",
            403: "the account may not do this: ask the administrator of the server",
            404: "check the address and the UIDs",
        }
        got = f"HTTP status {status}"
        raise kind(what, got=got, hint=hints.get(status or 0), file=series.address) from error
    except SSLError as error:
        got, hint = (
            "a certificate that is not trusted",
            "set REQUESTS_CA_BUNDLE to the file of the certificate that signed it",
        )
        raise kind(what, got=got, hint=hint, file=series.address) from error
    except Unreachable as error:
        got, hint = "the server can't be reached", "check the address and the network"
        raise kind(what, got=got, hint=hint, file=series.address) from error
    except (RequestException, ValueError, LookupError, AttributeError) as error:
        got = f"{type(error).__name__}, in place of a DICOMweb answer"
        raise kind(
            what, got=got, hint="check that the address is that of a DICOMweb service", file=series.address
        ) from error
