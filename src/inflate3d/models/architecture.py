"""What a network is built from."""

from __future__ import annotations

from pydantic import Field

from inflate3d.config import DecoderName, FrozenModel, Inflation


class Architecture(FrozenModel):
    """All that is needed to build a network anew, without its weights."""

    encoder: str
    depth: int
    in_channels: int
    image_size: tuple[int, int]
    inflation: Inflation
    levels: tuple[int, ...] | None
    decoder: DecoderName
    decoder_channels: int
    detail_channels: int
    num_classes: int
    input_mean: float
    input_deviation: float
    stage_norms: bool = False
    encoder_arguments: dict[str, int | float | tuple[int, ...]] = Field(default_factory=dict)
