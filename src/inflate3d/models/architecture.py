"""The description from which a network is built, as in ``model.json``: everything but the weights."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from inflate3d.config import DecoderName, DepthMixing, Inflation, Volumetric
from inflate3d.settings import FrozenModel

Count = Annotated[int, Field(ge=1, le=65_536)]
"""Larger than any network's number of classes, channels or pixels."""


class Architecture(FrozenModel):
    """Everything needed to build a network again, except its weights."""

    encoder: str
    depth: Annotated[int, Field(ge=1, le=1_001)]
    in_channels: Count
    image_size: tuple[Count, Count]
    inflation: Inflation
    levels: tuple[int, ...] | None
    decoder: DecoderName
    decoder_channels: Count
    detail_channels: Annotated[int, Field(ge=0, le=65_536)]
    num_classes: Count
    input_mean: Annotated[float, Field(ge=-1e6, le=1e6)]
    input_std: Annotated[float, Field(ge=1e-6, le=1e6)]
    stage_norms: bool = False
    encoder_arguments: dict[str, bool | int | float | tuple[int, ...]] = Field(default_factory=dict)
    depth_mixing: DepthMixing = "none"
    pooling_norm: Literal["group", "batch"] = "group"
    """Norms of UPerNet's pooled maps; batch norms where the weights come from the paper's code."""


class VolumetricArchitecture(FrozenModel):
    """Everything needed to build a 3D network again, except its weights.

    Attributes:
        patch_size: Slices, rows and columns of its input.
        kernels: Kernel of each level of nnU-Net's network; empty for others.
    """

    network: Volumetric
    in_channels: Count
    num_classes: Count
    patch_size: tuple[Count, Count, Count]
    width: Annotated[int, Field(ge=1, le=1_024)]
    kernels: tuple[tuple[int, int, int], ...] = ()
    strides: tuple[tuple[int, int, int], ...] = ()

    @property
    def image_size(self) -> tuple[int, int]:
        """Rows and columns of a patch."""
        return self.patch_size[1:]
