"""What a network is built from."""

from __future__ import annotations

from pydantic import Field

from inflate3d.config import DecoderName, Inflation, Target
from inflate3d.settings import FrozenModel


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
    pad_then_shift: bool = False
    encoder_arguments: dict[str, bool | int | float | tuple[int, ...]] = Field(default_factory=dict)
    target: Target = "center"

    @property
    def label_slices(self) -> int:
        """Slices of a window that are predicted."""
        return self.depth if self.target == "all" else 1
