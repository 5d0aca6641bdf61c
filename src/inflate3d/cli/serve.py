"""Serve cases to annotators: by a page in the browser, and to 3D Slicer by MONAI Label's protocol.

Label maps, models and uploads are kept in the folder of --annotations; the dataset's own files are only read.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from pydantic import Field
from tyro.conf import Positional

from inflate3d.cli.terminal import CommandOptions, Terminal
from inflate3d.errors import ConfigError

SHORTEST_TOKEN = 8


class Options(CommandOptions):
    """Options of ``serve``."""

    source: Positional[Path]
    """A run's folder, a model folder, or a folder of folds; a dataset's folder, to train the first model; or, with
    --classes, a folder of unlabeled scans."""
    scans: Path | None = None
    """A folder of more scans to label, with its subfolders."""
    classes: tuple[str, ...] = ()
    """Names of the classes to label in a folder of scans, without the background."""
    annotations: Path | None = None
    """Folder for label maps, models and uploads. None: annotations/NAME-OF-THE-FOLDER."""
    config: Path | None = None
    """Training settings in a YAML file, as for `inflate3d train --config`. None: those of the run."""
    host: str = "127.0.0.1"
    """Interface to listen on. Other machines can reach the server on any but the default, so it then needs a token."""
    port: int = Field(default=8000, ge=0, lt=65536)
    """Port to listen on; 0 for a free one."""
    token: str | None = None
    """Token that every request must present. None: none on this machine only, otherwise a new one."""
    max_upload: Annotated[float, Field(gt=0)] = 4.0
    """Size limit of a request in gigabytes."""
    max_memory: Annotated[float | None, Field(gt=0)] = None
    """Memory in gigabytes for prediction, in addition to the weights and the scan. None: 1.5, or less if less is free;
    on a GPU, what is free there."""
    device: str | None = None
    """Device to predict on, such as cpu or cuda:1. None: the GPU if there is one."""

    @property
    def folder(self) -> Path:
        return self.annotations or Path("annotations") / self.source.resolve().name


def run(options: Options, terminal: Terminal) -> dict[str, Any]:
    """Serves until it is stopped."""
    try:
        from inflate3d.server.serving import serve
    except ImportError as error:
        raise ConfigError(
            "the server is not installed", got=error, hint="install it with `pip install 'inflate3d[serve]'`"
        ) from error
    from inflate3d.server.guard import is_local
    from inflate3d.server.project import open_project
    from inflate3d.server.trainer import read_settings

    token = _token(options, local=is_local(options.host))
    project = open_project(options.source, options.scans, options.classes)
    terminal.log(f"{len(project.dataset.cases)} cases; label maps and models are kept in {options.folder}")
    address = serve(
        project,
        options.folder,
        host=options.host,
        port=options.port,
        token=token,
        most_bytes=int(options.max_upload * 1e9),
        training=None if options.config is None else read_settings(options.config),
        predictor={"device": options.device, "memory": options.max_memory},
        ready=lambda address: _announce(address, token, options, terminal),
    )
    return {"address": address, "annotations": str(options.folder)}


def _token(options: Options, *, local: bool) -> str | None:
    """The token that requests must present; None if any program on this machine may."""
    if options.token is None:
        from secrets import token_urlsafe

        return None if local else token_urlsafe(16)
    if len(options.token) < SHORTEST_TOKEN or not options.token.isascii() or not options.token.isprintable():
        raise ConfigError(
            "invalid --token",
            expected=f"at least {SHORTEST_TOKEN} letters, digits or punctuation marks",
            got="another one",
        )
    return options.token


def _announce(address: str, token: str | None, options: Options, terminal: Terminal) -> None:
    terminal.log(f"server: {address}")
    if token is not None:
        terminal.log(f"token:  {token}" if options.token is None else "token:  the one given by --token")
        terminal.log("the connection is not encrypted; over an untrusted network use an SSH tunnel or an HTTPS proxy")
    terminal.log("press Ctrl-C to stop")
