"""What every request passes: its host, origin, token and size are checked, and its outcome is logged."""

from __future__ import annotations

import asyncio
import ipaddress
import json
import secrets
import time
from collections import deque
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http import HTTPStatus
from http.cookies import CookieError, SimpleCookie
from typing import Any
from urllib.parse import urlsplit

from fastapi import HTTPException

from inflate3d.viewer.policy import HEADERS

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

COOKIE = "inflate3d-token"
"""Cookie in which a browser keeps the token."""

OPEN = frozenset({"/", "/auth/", "/auth/token"})
"""Paths that need no token: the page without any data, and where a token is asked for."""

OPEN_FOLDER = "/static/"
"""Begin of the paths of the page's own files."""

LOG_LINES = 1000

_SAFE = frozenset({"GET", "HEAD", "OPTIONS"})


@dataclass
class Rules:
    """What requests must meet.

    Attributes:
        token: What every request must present; None if any program on this machine may.
        any_host: Whether requests may name the server by any name; otherwise only by one of this machine.
        most_bytes: Size limit of a request's body.
        patience: Seconds that a client may take for the next part of a body.
        log: The last requests, without anything that could name a case.
    """

    token: str | None = None
    any_host: bool = False
    most_bytes: int = 4 << 30
    patience: float = 60.0
    log: deque[str] = field(default_factory=lambda: deque(maxlen=LOG_LINES))

    def accepts(self, token: str | None) -> bool:
        if self.token is None:
            return True
        return token is not None and secrets.compare_digest(token.encode(), self.token.encode())


class Guard:
    """An ASGI middleware that answers requests against the rules itself.

    A website that a browser shows can send requests to programs on the same machine. So writes must come from the
    server's own page or from a program that is no browser, and the server must be addressed by a name of this machine,
    which a website's name that leads here (DNS rebinding) is not.
    """

    def __init__(self, app: App, rules: Rules) -> None:
        self.app, self.rules = app, rules

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
            return
        if scope["type"] != "http":
            raise RuntimeError("only HTTP is served")
        started, status = time.perf_counter(), 0

        async def answer(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                given = {name.lower() for name, _ in message.get("headers", [])}
                own = [(name.encode(), value.encode()) for name, value in HEADERS.items()]
                message["headers"] = [
                    *message.get("headers", []),
                    *(pair for pair in own if pair[0].lower() not in given),
                ]
            await send(message)

        refusal = self._refusal(scope)
        if refusal:
            await _refuse(answer, *refusal)
        else:
            await self.app(scope, self._limited(receive), answer)
        route = getattr(scope.get("route"), "path", "-")
        stamp = datetime.now(UTC).strftime("%Y-%m-%d %H:%M:%S")
        seconds = time.perf_counter() - started
        self.rules.log.append(f"{stamp} {scope['method']} {route} {status} {seconds:.3f} s")

    def _refusal(self, scope: Scope) -> tuple[HTTPStatus, str, str] | None:
        headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]}
        host, rules = headers.get("host", ""), self.rules
        if not rules.any_host and not is_local(host):
            return HTTPStatus.MISDIRECTED_REQUEST, "unknown host name", "address the server as 127.0.0.1 or localhost"
        if scope["method"] not in _SAFE and _is_foreign(headers, scope.get("scheme", "http"), host):
            return HTTPStatus.FORBIDDEN, "request of another website", "send it from the server's own page"
        path = scope["path"]
        if not (path in OPEN or path.startswith(OPEN_FOLDER) or rules.accepts(token_of(headers))):
            return HTTPStatus.UNAUTHORIZED, "invalid token", "send the header `Authorization: Bearer TOKEN`"
        length = headers.get("content-length", "0")
        if not length.isascii() or not length.isdecimal() or len(length) > 18:
            return HTTPStatus.BAD_REQUEST, "invalid Content-Length", "send the number of bytes"
        if int(length) > rules.most_bytes:
            return HTTPStatus.REQUEST_ENTITY_TOO_LARGE, _too_large(rules.most_bytes), "restart with --max-upload"
        return None

    def _limited(self, receive: Receive) -> Receive:
        """The parts of a body, up to the limits of size and time."""
        received = 0

        async def limited() -> Message:
            nonlocal received
            try:
                message = await asyncio.wait_for(receive(), self.rules.patience)
            except TimeoutError as error:
                raise HTTPException(HTTPStatus.REQUEST_TIMEOUT, "the rest of the request did not arrive") from error
            received += len(message.get("body", b""))
            if received > self.rules.most_bytes:
                raise HTTPException(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, _too_large(self.rules.most_bytes))
            return message

        return limited


def token_of(headers: Mapping[str, str]) -> str | None:
    """The token in a request's header or cookie."""
    kind, _, token = headers.get("authorization", "").partition(" ")
    if kind.lower() == "bearer" and token:
        return token.strip()
    try:
        cookie = SimpleCookie(headers.get("cookie", "")).get(COOKIE)
    except CookieError:
        return None
    return cookie.value if cookie else None


def is_local(host: str) -> bool:
    """Whether a ``Host`` header, or the name of an interface, stands for this machine only."""
    name = host
    if host.startswith("["):
        name = host[1:].partition("]")[0]
    elif host.count(":") == 1:
        name = host.partition(":")[0]
    if name.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False


def _is_foreign(headers: Mapping[str, str], scheme: str, host: str) -> bool:
    """Whether a browser says that a request comes from another site."""
    if headers.get("sec-fetch-site", "same-origin") not in ("same-origin", "none"):
        return True
    origin = headers.get("origin")
    if origin is None:
        return False
    parts = urlsplit(origin)
    return (parts.scheme, parts.netloc) != (scheme, host)


def _too_large(most: int) -> str:
    return f"the request has more than {most} bytes"


async def _refuse(send: Send, status: HTTPStatus, what: str, hint: str) -> None:
    body = json.dumps({"error": {"what": what, "hint": hint}}).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    if status == HTTPStatus.UNAUTHORIZED:
        headers.append((b"www-authenticate", b"Bearer"))
    headers.append((b"connection", b"close"))  # the body is not read
    await send({"type": "http.response.start", "status": int(status), "headers": headers})
    await send({"type": "http.response.body", "body": body})
