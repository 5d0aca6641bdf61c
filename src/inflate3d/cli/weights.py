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


def run(options: Options, terminal: Terminal) -> dict[str, Any]:
    """Lists the files, or downloads one."""
    from inflate3d.models.published import PUBLISHED, published_path, weights_folder

    if options.action == "get":
        if options.name not in PUBLISHED:
            raise ConfigError("unknown weight file", expected=" or ".join(PUBLISHED), got=options.name)
        weights = PUBLISHED[options.name]
        terminal.log(f"{weights.file}: license {weights.license}, {weights.source}")
        path = published_path(weights)
        terminal.print(f"{path}\n  train with: --encoder {weights.encoder} --weights {options.name}")
        return {"name": options.name, "path": str(path), "encoder": weights.encoder, "license": weights.license}
    folder = weights_folder()
    found = []
    for name, weights in PUBLISHED.items():
        here = (folder / weights.file).exists()
        terminal.print(f"{name}{' (downloaded)' if here else ''}")
        terminal.print(f"  {weights.about}, --encoder {weights.encoder}, license {weights.license}\n  {weights.url}")
        found.append({"name": name, **vars(weights), "here": here})
    terminal.log(f"all other weights are timm's: name their tag, such as --encoder vit_base_patch16_224.mae ({folder})")
    return {"weights": found, "folder": str(folder)}
