"""Turn a Lightning checkpoint of the paper's code into a model folder with the very same logits."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tyro.conf import Positional

from inflate3d.cli.terminal import CommandOptions, Terminal
from inflate3d.errors import OutputError


class Options(CommandOptions):
    """Options of ``import-checkpoint``."""

    checkpoint: Positional[Path]
    """The .ckpt file."""
    out: Positional[Path]
    """Where the model folder goes: one that is empty or not there yet."""


def run(options: Options, terminal: Terminal) -> dict[str, Any]:
    """Imports."""
    from inflate3d.models.original import import_original

    if options.out.exists() and (not options.out.is_dir() or any(options.out.iterdir())):
        raise OutputError(
            "the model folder is not empty", file=options.out, remedy="choose another, or remove what is in it"
        )
    imported = import_original(options.checkpoint)
    imported.model.save(options.out)
    about = imported.model.architecture
    size = " × ".join(map(str, about.image_size))
    terminal.say(f"{imported.encoder} with {imported.decoder}, {about.num_classes} classes")
    terminal.say(f"windows of {about.in_channels} modalities, {about.depth} slices, {size} pixels, from 0 to 1")
    terminal.say(f"{len(imported.unused)} tensors that compute nothing were left out; the model is in {options.out}")
    terminal.say("It holds no plan of how scans become windows: read it by inflate3d.load_model")
    return {
        "written": str(options.out),
        "encoder": imported.encoder,
        "decoder": imported.decoder,
        "architecture": about.model_dump(mode="json"),
        "unused": list(imported.unused),
    }
