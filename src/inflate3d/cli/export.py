"""Export a trained model for programs without inflate3d: ONNX, OpenVINO or torch.export."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from tyro.conf import Positional

from inflate3d.cli.terminal import CommandOptions, Terminal


class Options(CommandOptions):
    """Options of ``export``."""

    run: Positional[Path]
    """The run's folder, or a model folder."""
    out: Positional[Path]
    """The new folder; it must be empty or not exist."""
    format: Literal["onnx", "openvino", "torch-export"] = "onnx"
    """ONNX, OpenVINO's own files, or torch's exported program."""
    half: bool = False
    """Keep the weights in 16 bits: half the size, and logits that differ in the third digit."""
    int8: bool = False
    """Calculate in 8 bits (--format openvino), calibrated on the run's training cases; refused if the mean Dice of its
    held-out cases falls by 0.002 or more."""


def run(options: Options, terminal: Terminal) -> dict[str, Any]:
    """Exports."""
    from inflate3d.export.export import export_model

    exported = export_model(
        options.run,
        options.out,
        format=options.format,
        half=options.half,
        int8=options.int8,
        progress=terminal.progress,
    )
    file = options.out / exported.file
    check = exported.check
    terminal.print(
        f"{file}: {check.program} gives the logits of torch to {check.largest_difference:.1e} of the largest logit"
    )
    if exported.int8:
        dice = exported.int8
        terminal.print(
            f"mean Dice of {dice.cases} held-out cases: {dice.dice_int8:.4f} in 8 bits, {dice.dice_float32:.4f} in 32"
        )
    return {
        "written": str(options.out),
        "file": str(file),
        "format": exported.format,
        "weights": exported.weights,
        "check": check.model_dump(),
        "int8": exported.int8.model_dump() if exported.int8 else None,
    }
