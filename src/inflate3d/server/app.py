"""The web application: all routes, and one JSON document for every error."""

from __future__ import annotations

import logging
import traceback
from typing import Any

from fastapi import FastAPI, HTTPException, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel

from inflate3d.errors import Inflate3dError, plain_text
from inflate3d.server import (
    routes_datastore,
    routes_general,
    routes_infer,
    routes_page,
    routes_session,
    routes_tasks,
    routes_training,
)
from inflate3d.server.faults import as_document, status_of
from inflate3d.server.guard import Guard, Rules
from inflate3d.server.service import Service
from inflate3d.version import __version__

logger = logging.getLogger(__name__)

_ROUTES = (routes_general, routes_datastore, routes_infer, routes_session, routes_training, routes_tasks, routes_page)

_STATUSES = (400, 401, 403, 404, 408, 409, 413, 421, 422, 429)
"""Of answers that say what is wrong with a request."""


class ErrorParts(BaseModel):
    what: str
    expected: str | None = None
    got: str | None = None
    hint: str | None = None
    case: str | None = None
    file: str | None = None


class ErrorDocument(BaseModel):
    error: ErrorParts


def create_app(service: Service, rules: Rules) -> FastAPI:
    """The application for a service.

    Args:
        rules: What requests must meet.
    """
    app = FastAPI(
        title="inflate3d",
        version=__version__,
        description="Annotation server. Paths, parameters and answers are those of MONAI Label.",
        docs_url=None,  # the pages of documentation load scripts from elsewhere
        redoc_url=None,
        responses={status: {"model": ErrorDocument} for status in _STATUSES},
    )
    for routes in _ROUTES:
        app.include_router(routes.make_router(service, rules))
    app.add_exception_handler(Inflate3dError, _on_our_error)
    app.add_exception_handler(RequestValidationError, _on_invalid_request)
    app.add_exception_handler(404, _on_http_error)
    app.add_exception_handler(HTTPException, _on_http_error)
    app.add_exception_handler(405, _on_http_error)
    app.add_exception_handler(Exception, _on_fault)
    app.add_middleware(Guard, rules=rules)  # type: ignore[arg-type]
    return app


async def _on_our_error(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, Inflate3dError)
    return JSONResponse(as_document(error), status_of(error))


async def _on_invalid_request(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)
    first: dict[str, Any] = error.errors()[0]
    place = ".".join(str(part) for part in first["loc"])
    return _answer(422, f"invalid {plain_text(place)[:200]}", expected=plain_text(first["msg"])[:500])


async def _on_http_error(request: Request, error: Exception) -> JSONResponse:
    status = getattr(error, "status_code", 400)
    return _answer(status, str(getattr(error, "detail", "invalid request")), headers=getattr(error, "headers", None))


async def _on_fault(request: Request, error: Exception) -> JSONResponse:
    """Logs a fault of our own: where it happened and its kind, not its text, which may quote a file."""
    places = "".join(traceback.format_tb(error.__traceback__))
    logger.error("%s in a request\n%s", type(error).__name__, places)
    return _answer(500, f"internal error ({type(error).__name__})", hint="report what the server printed")


def _answer(status: int, what: str, *, headers: Any = None, **parts: str) -> JSONResponse:
    return JSONResponse({"error": {"what": what, **parts}}, status, headers=headers)
