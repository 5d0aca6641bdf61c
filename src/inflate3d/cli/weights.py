"""List the weight files that timm does not publish, or download one: `inflate3d weights get NAME`."""

from __future__ import annotations

from typing import Any, Literal

from tyro.conf import Positional

from inflate3d.cli.terminal import CommandOptions, Terminal
from inflate3d.errors import ConfigError


class Options(CommandOptions):
    """Options of ``weights``."""

    action: Positional[Literal["list", "get"]] = "list"
    """What to do."""
    name: Positional[str | None] = None
    """Name of the file to download, as listed."""
    accept_license: bool = False
    """Accept a license with conditions, which the list names."""


def run(options: Options, terminal: Terminal) -> dict[str, Any]:
    """Lists the files, or downloads one."""
    from inflate3d.models.published import PUBLISHED, downloaded_path, published_path, weights_folder

    if options.action == "get":
        if options.name is None or options.name not in PUBLISHED:
            raise ConfigError("unknown weight file", expected=" or ".join(PUBLISHED), got=options.name)
        weights = PUBLISHED[options.name]
        terminal.log(f"{weights.file}: {weights.size}, license {weights.license}, {weights.source}")
        path = published_path(options.name, accept_license=options.accept_license)
        terminal.print(f"{path}\n  train with: --encoder {weights.encoder} --weights {options.name}")
        return {"name": options.name, "path": str(path), "encoder": weights.encoder, "license": weights.license}
    found = []
    for name, weights in PUBLISHED.items():
        here = downloaded_path(weights) is not None
        conditions = f" (to be accepted: {weights.terms})" if weights.terms else ""
        terminal.print(
            f"{name}{' (downloaded)' if here else ''}\n  {weights.about}; {weights.data}\n"
            f"  --encoder {weights.encoder}, {weights.size}, license {weights.license}{conditions}\n"
            f"  {weights.place}"
        )
        found.append({"name": name, **vars(weights), "here": here})
    terminal.log("all other weights are timm's: name their tag, such as --encoder vit_base_patch16_224.mae")
    return {"weights": found, "folder": str(weights_folder())}
