"""Errors of requests, beside those of `inflate3d.errors`, and the response to each."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from inflate3d.errors import DataError, Inflate3dError, OutputError


class RequestError(Inflate3dError):
    """A request that is not answered.

    Attributes:
        status: The HTTP status.
    """

    status = 400


class NotFoundError(RequestError, DataError):
    status = 404


class ConflictError(RequestError, DataError):
    """A request that contradicts the state of a case or model."""

    status = 409


class BusyError(RequestError):
    """Too many requests of a kind at once."""

    status = 429


class TooLargeError(RequestError, DataError):
    status = 413


def status_of(error: Inflate3dError) -> int:
    """The HTTP status for an error: whose mistake it is."""
    if isinstance(error, RequestError):
        return error.status
    return 507 if isinstance(error, OutputError) else 400


def as_document(error: Inflate3dError) -> dict[str, Any]:
    """The error as ``--json`` shows it, without the server's folders."""
    parts = error.to_dict()
    if "file" in parts:
        parts["file"] = Path(parts["file"]).name
    return {"error": parts}
