"""A web server for one page, for this machine only: a few files in memory, at an address that can't be guessed."""

from __future__ import annotations

import secrets
from contextlib import suppress
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from inflate3d.viewer.page import Files
from inflate3d.viewer.policy import HEADERS

HOST = "127.0.0.1"


class PageServer(ThreadingHTTPServer):
    """Serves files by their names under a random token, and nothing else.

    It reads nothing from the disk: a path names one of the files in memory or nothing, so none leads to another file
    or a listing. Requests under another host's name are refused, so that no website can reach it through its own name.
    """

    daemon_threads = True

    def __init__(self, files: Files) -> None:
        super().__init__((HOST, 0), _Handler)
        token = secrets.token_urlsafe(16)
        self.files = {f"/{token}/{name}": file for name, file in files.items()}
        self.hosts = {f"{name}:{self.server_port}" for name in (HOST, "localhost")}
        self.address = f"http://{HOST}:{self.server_port}/{token}/"


class _Handler(BaseHTTPRequestHandler):
    server_version, sys_version = "inflate3d", ""
    protocol_version = "HTTP/1.1"
    timeout = 30

    def do_GET(self) -> None:
        self._answer(with_body=True)

    def do_HEAD(self) -> None:
        self._answer(with_body=False)

    def _answer(self, *, with_body: bool) -> None:
        server = self.server
        assert isinstance(server, PageServer)
        file = server.files.get(self.path) if self.headers.get("Host") in server.hosts else None
        body, kind = file or (b"not found\n", "text/plain")
        self.send_response(HTTPStatus.OK if file else HTTPStatus.NOT_FOUND)
        own = {"Content-Type": f"{kind}; charset=utf-8", "Content-Length": str(len(body))}
        for name, value in {**own, **HEADERS}.items():
            self.send_header(name, value)
        self.end_headers()
        if with_body:
            self.wfile.write(body)

    def handle(self) -> None:
        """Answers a client; one that disconnects early is not an error."""
        try:
            super().handle()
        except (ConnectionError, TimeoutError):
            self.close_connection = True

    def finish(self) -> None:
        """Closes the connection unless the client has."""
        with suppress(ConnectionError):
            super().finish()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's name
        """Logs nothing: the address contains the token."""
