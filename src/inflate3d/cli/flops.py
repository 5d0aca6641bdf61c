"""Count what a network costs: floating-point operations of encoder and decoder, and parameters."""

from __future__ import annotations

from functools import partial
from typing import Annotated, Any

from pydantic import Field

from inflate3d.cli.terminal import CommandOptions, Terminal
from inflate3d.config import DecoderName, Depth
from inflate3d.errors import ConfigError


class Options(CommandOptions):
    """Options of ``flops``."""

    encoder: str = "beit_base_patch16_224"
    """The backbone; `inflate3d encoders` lists them."""
    decoder: DecoderName = "fpn-lite"
    """The decoder, which turns feature maps into a label map."""
    decoder_channels: Annotated[int, Field(ge=8)] | None = None
    """Width of the decoder. None: its default."""
    detail_channels: Annotated[int, Field(ge=0)] | None = None
    """Width of the full-resolution path. None: the decoder's default."""
    image_size: tuple[int, ...] = (512,)
    """In-plane size in pixels: rows and columns, or one number for both."""
    depth: Depth = 5
    """Slices in a window."""
    modalities: Annotated[int, Field(ge=1)] = 1
    """Modalities of a scan."""
    classes: Annotated[int, Field(ge=2)] = 14
    """Classes, including background."""
    slices: Annotated[int, Field(ge=1)] | None = None
    """Number of slices of a volume, to count its whole prediction, too."""


def run(options: Options, terminal: Terminal) -> dict[str, Any]:
    from inflate3d.models.flops import measure_cost

    measured = partial(
        measure_cost,
        options.encoder,
        image_size=_image_size(options.image_size),
        in_channels=options.modalities,
        num_classes=options.classes,
        decoder=options.decoder,
        decoder_channels=options.decoder_channels,
        detail_channels=options.detail_channels,
    )
    flat, cost = measured(depth=1), measured(depth=options.depth)
    rows = [
        ["encoder, a window of 1 slice", flat.encoder, None],
        [f"encoder, a window of {options.depth} slices", cost.encoder, cost.encoder_parameters],
        [f"decoder ({options.decoder})", cost.decoder, cost.decoder_parameters],
        ["whole network", cost.model, cost.parameters],
    ]
    document: dict[str, Any] = {
        "encoder": {
            "flops_2d": flat.encoder,
            "flops_3d": cost.encoder,
            "parameters": cost.encoder_parameters,
        },
        "decoder": cost.decoder,
        "model": cost.model,
        "parameters": cost.parameters,
    }
    if options.slices is not None:  # a window for each slice gives that slice
        rows.append([f"a volume of {options.slices} slices", options.slices * cost.model, None])
        document["volume"] = {"slices": options.slices, "flops": options.slices * cost.model}
    size = " × ".join(map(str, _image_size(options.image_size)))
    columns = ["for each predicted slice", "FLOPs", "GFLOP", "weights"]
    terminal.table(f"{options.encoder}, {size} pixels", columns, [_cells(*row) for row in rows])
    return document


def _cells(part: str, flops: int, parameters: int | None) -> list[str]:
    return [part, str(flops), f"{flops / 1e9:,.1f}", "" if parameters is None else f"{parameters:,}"]


def _image_size(given: tuple[int, ...]) -> tuple[int, int]:
    if len(given) not in (1, 2) or min(given) < 1:
        raise ConfigError(
            "image size can't be read",
            expected="rows and columns, or one number for both, such as `--image-size 512`",
            got=" ".join(map(str, given)) or "nothing",
        )
    return given[0], given[-1]
