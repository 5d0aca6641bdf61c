"""Turn a Lightning checkpoint of the paper's code into a model folder with the very same logits."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tyro.conf import Positional

from inflate3d.cli.terminal import CommandOptions, Terminal
from inflate3d.errors import OutputError
from inflate3d.preparation.plan import Plan


class Options(CommandOptions):
    """Options of ``import-checkpoint``."""

    checkpoint: Positional[Path]
    """The .ckpt file."""
    out: Positional[Path]
    """Where the model folder goes: one that is empty or not there yet."""
    plan: Path | None = None
    """A prepared store or its plan.json, of the data that it learned: how scans become its windows, for `predict`."""


def run(options: Options, terminal: Terminal) -> dict[str, Any]:
    """Imports."""
    from inflate3d.models.original import import_original
    from inflate3d.models.original_plan import read_plan

    if options.out.exists() and (not options.out.is_dir() or any(options.out.iterdir())):
        raise OutputError(
            "the model folder is not empty", file=options.out, hint="choose another, or remove what is in it"
        )
    imported = import_original(options.checkpoint)
    about = imported.model.architecture
    if options.plan is not None:
        imported.model.plan = read_plan(options.plan, about)
    imported.model.save(options.out)
    size = " × ".join(map(str, about.image_size))
    terminal.print(f"{imported.encoder} with {imported.decoder}, {about.num_classes} classes")
    terminal.print(f"windows of {about.in_channels} modalities, {about.depth} slices, {size} pixels, from 0 to 1")
    terminal.print(f"{len(imported.unused)} tensors that compute nothing were left out; the model is in {options.out}")
    terminal.print(_told(imported.model.plan, options))
    return {
        "written": str(options.out),
        "encoder": imported.encoder,
        "decoder": imported.decoder,
        "architecture": about.model_dump(mode="json"),
        "unused": list(imported.unused),
        "plan": None if imported.model.plan is None else imported.model.plan.model_dump(mode="json"),
    }


def _told(plan: Plan | None, options: Options) -> str:
    if plan is None:
        return (
            "It holds no plan of how scans become windows: read it by inflate3d.load_model, or give --plan to predict"
        )
    classes = ", ".join(f"{value} {name}" for value, name in plan.classes.items())
    return (
        f"taken to be in its order: {', '.join(plan.modalities)}; {classes}\n"
        "Scans are turned to RAS+. The paper's code reads slices as files store them: if those that it learned from\n"
        "were stored otherwise, the network sees mirrored slices; score it on labeled cases before you rely on it.\n"
        f"next:  inflate3d predict {options.out} SCAN OUT"
    )
