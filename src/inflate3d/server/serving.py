"""Runs the server until it is stopped."""

from __future__ import annotations

import socket
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import uvicorn

from inflate3d.errors import ConfigError
from inflate3d.server.app import create_app
from inflate3d.server.guard import Rules, is_local
from inflate3d.server.project import Project
from inflate3d.server.service import Service

if TYPE_CHECKING:
    from inflate3d.inference.predictor import PredictorSettings

GRACE = 5
"""Seconds that running requests have to finish when the server is stopped."""


def serve(
    project: Project,
    folder: Path,
    *,
    host: str,
    port: int,
    token: str | None,
    most_bytes: int,
    predictor: PredictorSettings,
    training: dict[str, Any] | None,
    ready: Callable[[str], object],
) -> str:
    """Serves a project until SIGINT or SIGTERM.

    Args:
        project: What is annotated.
        folder: The folder of the annotations.
        host: Interface to listen on.
        port: Port to listen on; 0 for a free one.
        token: What requests must present; None only where ``host`` is of this machine.
        most_bytes: Size limit of a request.
        predictor: How to predict.
        training: Sections of settings for trainings; those of the project's run by default.
        ready: Called with the server's address when it accepts connections.

    Returns:
        The address.

    Raises:
        ConfigError: The interface or the port is not available.
        OutputError: Another server uses the folder, or it can't be written.
    """
    local = is_local(host)
    assert local or token is not None, "what other machines can reach needs a token"
    rules = Rules(token=token, any_host=not local, most_bytes=most_bytes)
    with (
        Service.open(project, folder, predictor, local=local, training=training) as service,
        _listen(host, port) as listener,
    ):
        shown = f"[{host}]" if ":" in host else host
        address = f"http://{shown}:{listener.getsockname()[1]}/"
        config = uvicorn.Config(
            create_app(service, rules),
            log_config=None,
            access_log=False,
            server_header=False,
            timeout_keep_alive=30,
            timeout_graceful_shutdown=GRACE,
            h11_max_incomplete_event_size=1 << 16,
        )
        ready(address)
        uvicorn.Server(config).run(sockets=[listener])
    return address


def _listen(host: str, port: int) -> socket.socket:
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        return socket.create_server((host, port), family=family)
    except (OSError, OverflowError) as error:
        raise ConfigError(
            "can't listen on this address",
            expected="an interface of this machine, and a free port",
            got=f"{host}:{port}: {error}",
            hint="choose another --port, or 0 for a free one",
        ) from error
