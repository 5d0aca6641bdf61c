"""List the weight files that authors publish, or fetch one: `inflate3d weights get NAME`."""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro
from tyro.conf import Positional

from inflate3d.cli.terminal import CommandOptions, Terminal
from inflate3d.errors import ConfigError


class Options(CommandOptions):
    """Options of ``weights``."""

    action: Positional[Literal["list", "get"]] = "list"
    """What to do."""
    name: Positional[str | None] = None
    """Name of the file to get, as listed."""
    folder: Annotated[Path | None, tyro.conf.arg(name="to")] = None
    """Folder to put it in; without it torch.hub's, where `--weights NAME` looks."""


def run(options: Options, terminal: Terminal) -> dict[str, Any]:
    """Lists or fetches published weights."""
    if options.action == "list":
        return _list(terminal)
    if options.name is None:
        raise ConfigError("no weights are named", expected="`inflate3d weights get NAME`", hint=_LISTED)
    return _get(options.name, options.folder, terminal)


_LISTED = "`inflate3d weights` lists the names"


def _list(terminal: Terminal) -> dict[str, Any]:
    from inflate3d.models.published import PUBLISHED, SEE_SOURCE, weights_folder

    folder = weights_folder()
    found = []
    for name, weights in PUBLISHED.items():
        here = (folder / weights.file).exists()
        size = SEE_SOURCE if weights.bytes is None else f"{weights.bytes / 1e6:.0f} MB"
        checksum = "known" if weights.sha256 else "first use"
        facts = (weights.about, f"--encoder {weights.encoder}", f"license {weights.license}", f"size {size}")
        terminal.print(f"{name}{' (here)' if here else ''}")
        terminal.print(f"  {', '.join(facts)}, checksum {checksum}")
        terminal.print(f"  {weights.url}")
        found.append(
            {
                "name": name,
                "file": weights.file,
                "about": weights.about,
                "encoder": weights.encoder,
                "license": weights.license,
                "source": weights.source,
                "url": weights.url,
                "bytes": weights.bytes,
                "sha256": weights.sha256,
                "here": here,
            }
        )
    terminal.log(f"{len(found)} files; timm's own come by themselves with `--encoder NAME`; folder: {folder}")
    return {"weights": found, "folder": str(folder)}


def _get(name: str, folder: Path | None, terminal: Terminal) -> dict[str, Any]:
    from inflate3d.models.published import PUBLISHED, fetch_published

    if name not in PUBLISHED:
        near = difflib.get_close_matches(name, PUBLISHED, n=3, cutoff=0.4)
        raise ConfigError(
            "no published weights have this name",
            expected=" or ".join(near) if near else "a listed name",
            got=name,
            hint=_LISTED,
        )
    weights = PUBLISHED[name]
    terminal.log(f"{weights.file}: license {weights.license}, {weights.source}")
    fetched = fetch_published(weights, folder, _Tenths(terminal))
    checked = "known of the authors' file" if fetched.verified else "trusted on first use, none is known"
    terminal.print(f"{fetched.path} ({'fetched' if fetched.downloaded else 'was here'})")
    terminal.print(f"  SHA-256 {fetched.sha256}, {checked}")
    terminal.print(f"  train with: --encoder {weights.encoder} --weights {name if folder is None else fetched.path}")
    return {
        "name": name,
        "path": str(fetched.path),
        "sha256": fetched.sha256,
        "verified": fetched.verified,
        "downloaded": fetched.downloaded,
        "encoder": weights.encoder,
        "license": weights.license,
    }


class _Tenths:
    """Tells each tenth of a download.

    Args:
        terminal: Where.
    """

    def __init__(self, terminal: Terminal) -> None:
        self._terminal = terminal
        self._told = 0

    def __call__(self, here: int, total: int | None) -> None:
        """Is told bytes so far and in all."""
        tenth = 10 * here // total if total else 0
        if total and tenth > self._told:
            self._told = tenth
            self._terminal.log(f"{here / 1e6:.0f} of {total / 1e6:.0f} MB")
