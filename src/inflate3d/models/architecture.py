"""What a network is built from."""

from __future__ import annotations

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
