"""List the backbones that can be inflated, the paper's names first; a short list also shows size and cost."""

from __future__ import annotations

import difflib
from typing import Any

from tyro.conf import Positional

from inflate3d.cli.terminal import CommandOptions, Terminal
from inflate3d.errors import Inflate3dError, ModelError

DESCRIBED = 60
"""Longer lists show names only: each description takes a fraction of a second."""


class Options(CommandOptions):
    """Options of ``encoders``."""

    pattern: Positional[str] = "*"
    """Shell pattern that names must match, such as 'dino*'."""


def run(options: Options, terminal: Terminal) -> dict[str, Any]:
    from inflate3d.models.catalog import describe_encoder, list_encoders

    names = list_encoders(options.pattern)
    if not names:
        near = difflib.get_close_matches(options.pattern, list_encoders(), n=5, cutoff=0.5)
        raise ModelError(
            "no backbone matches this name",
            expected=" or ".join(near) or None,
            got=options.pattern,
            hint="try a pattern, such as '*vit*'",
        )
    if len(names) > DESCRIBED:
        terminal.print("\n".join(names))
        terminal.log(f"{len(names)} backbones; a narrower pattern also shows size and cost")
        return {"encoders": [{"name": name} for name in names]}
    rows, found = [], []
    for name in terminal.progress(iter(names), len(names), "looking at backbones"):
        try:
            about = describe_encoder(name)
        except Inflate3dError as error:
            found.append({"name": name, "problem": error.what})
            rows.append([name, error.what, "", "", "", ""])
            continue
        size = "×".join(map(str, about.image_size))
        strides = "/".join(map(str, dict.fromkeys(about.strides)))  # a plain transformer has one
        cost = [f"{about.parameters / 1e6:.1f}", f"{2 * about.multiply_adds / 1e9:.1f}"]
        rows.append([name, size, strides, *cost, "yes" if about.pretrained else "no"])
        found.append(
            {
                "name": name,
                "image_size": about.image_size,
                "strides": about.strides,
                "channels": about.channels,
                "parameters": about.parameters,
                "flops_2d": 2 * about.multiply_adds,
                "pretrained": about.pretrained,
                "about": about.about,
            }
        )
    columns = ["backbone", "image size", "strides", "M weights", "GFLOP a slice", "2D weights published"]
    terminal.table("2D backbones", columns, rows)
    for encoder in found:
        if encoder.get("about"):
            terminal.print(f"{encoder['name']}: {encoder['about']}")
    return {"encoders": found}
