"""Export a trained model for other programs: ONNX, OpenVINO, torch.export or a MONAI Bundle."""

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
    format: Literal["onnx", "openvino", "torch-export", "bundle"] = "onnx"
    """ONNX, OpenVINO's own files, torch's exported program, or a MONAI Bundle, which needs inflate3d to run."""
    half: bool = False
    """Store the weights in 16 bits: half the size, and logits that differ in the third digit."""
    int8: bool = False
    """Calculate in 8 bits (--format openvino), calibrated on the run's training cases; refused if the mean Dice of its
    held-out cases drops by 0.002 or more."""


def run(options: Options, terminal: Terminal) -> dict[str, Any]:
    """Exports."""
    if options.format == "bundle":
        return _export_bundle(options, terminal)
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
        f"{file}: {check.program} matches torch's logits to {check.largest_difference:.1e} of the largest logit"
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


def _export_bundle(options: Options, terminal: Terminal) -> dict[str, Any]:
    from inflate3d.errors import ConfigError
    from inflate3d.export.bundle import export_bundle

    if options.half or options.int8:
        raise ConfigError(
            "a bundle contains the model's own weights",
            got="--format bundle" + " --half" * options.half + " --int8" * options.int8,
            hint="leave out --half and --int8, or choose another format",
        )
    file = export_bundle(options.run, options.out)
    terminal.print(f"{options.out} is a MONAI Bundle; its docs/README.md has the command to run it")
    return {
        "written": str(options.out),
        "file": str(file),
        "format": "bundle",
        "weights": "float32",
        "check": None,
        "int8": None,
    }
