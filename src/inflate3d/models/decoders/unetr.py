"""UNETR's head (Hatamizadeh et al. 2022, arXiv:2103.10504), for one layer of tokens and one predicted slice."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import ClassVar

import torch
from jaxtyping import Float
from monai.networks.blocks.dynunet_block import UnetResBlock
from torch import Tensor, nn

from inflate3d.errors import ConfigError
from inflate3d.models.decoders.decoder import Decoder, resize

_DEEPEST = 8
"""Width of the deepest level relative to the shallowest, as in MONAI's UNETR."""


class UNETR(Decoder):
    """A U-Net whose skips are the encoder's maps and, at full resolution, the window itself.

    The tokens of a window have no depth, so everything computed from them is 2D: 3D convolutions on a single slice
    would only see padding above and below. The skip connection from the image is 3D: two 3x3x3 convolutions, so the
    center slice depends on five slices.

    Maps of equal strides (of a plain ViT) are first upsampled to different levels; hierarchical maps already are
    levels.
    """

    smallest_map: ClassVar[int] = 2  # instance normalization makes one pixel nothing

    def __init__(self, channels: Sequence[int], strides: Sequence[int], *, in_channels: int, width: int) -> None:
        super().__init__(channels, strides, in_channels=in_channels, width=width)
        self.channels = max(1, width // _DEEPEST)
        levels = _levels(strides)
        if levels[0] < 1 or len(set(levels)) < len(levels):
            raise ConfigError(
                "unetr can't join these feature maps",
                expected="maps of different strides, or of one stride and no more than it can be halved",
                got=f"strides {', '.join(map(str, strides))}",
                hint="choose other levels of the encoder, or another decoder",
            )
        self.image = _residual(3, in_channels, self.channels)
        self.skips = nn.ModuleList(
            _Skip(before, self._width(level), steps=round(math.log2(stride)) - level)
            for before, stride, level in zip(channels[:-1], strides[:-1], levels[:-1], strict=True)
        )
        self.ups = nn.ModuleList()
        before = channels[-1]
        for level in range(levels[-1] - 1, -1, -1):
            after = self._width(level)
            self.ups.append(_Up(before, after, has_skip=level == 0 or level in levels))
            before = after
        self.skip_of_up = [levels.index(level) if level in levels else None for level in range(levels[-1] - 1, 0, -1)]

    def forward(
        self, features: list[Tensor], windows: Float[Tensor, "b c d height width"]
    ) -> Float[Tensor, "b channels height width"]:
        """Decodes maps ``(B, c_i, H/s_i, W/s_i)``, finest first, to ``(B, width / 8, H, W)``."""
        skips = [skip(feature) for skip, feature in zip(self.skips, features[:-1], strict=True)]
        decoded = features[-1]
        for up, index in zip(self.ups[:-1], self.skip_of_up, strict=True):
            decoded = up(decoded, None if index is None else skips[index])
        return self.ups[-1](decoded, self.image(windows)[:, :, windows.shape[2] // 2])

    def _width(self, level: int) -> int:
        """Channels at a level whose pixels cover ``2 ** level`` of the image's."""
        return self.channels * min(_DEEPEST, 2**level)


class _Skip(nn.Module):
    """Brings a map to its level by convolutions, or by upsampling and convolving step by step."""

    def __init__(self, in_channels: int, out_channels: int, *, steps: int) -> None:
        super().__init__()
        if steps == 0:
            self.layers = nn.Sequential(_residual(2, in_channels, out_channels))
            return
        self.layers = nn.Sequential(nn.ConvTranspose2d(in_channels, out_channels, 2, stride=2))
        for _ in range(steps - 1):
            self.layers.append(nn.ConvTranspose2d(out_channels, out_channels, 2, stride=2))
            self.layers.append(_residual(2, out_channels, out_channels))

    def forward(self, feature: Float[Tensor, "b c h w"]) -> Float[Tensor, "b width _ _"]:
        return self.layers(feature)


class _Up(nn.Module):
    """Upsamples a map by two and joins a skip."""

    def __init__(self, in_channels: int, out_channels: int, *, has_skip: bool) -> None:
        super().__init__()
        self.upsample = nn.ConvTranspose2d(in_channels, out_channels, 2, stride=2)
        self.join = _residual(2, 2 * out_channels if has_skip else out_channels, out_channels)

    def forward(
        self, feature: Float[Tensor, "b c h w"], skip: Float[Tensor, "b width _ _"] | None
    ) -> Float[Tensor, "b width _ _"]:
        doubled = self.upsample(feature)
        if skip is not None:
            doubled = torch.cat([resize(doubled, (skip.shape[-2], skip.shape[-1])), skip], dim=1)
        return self.join(doubled)


def _levels(strides: Sequence[int]) -> list[int]:
    """How often the image is halved to get to each map's level."""
    if len(set(strides)) > 1:
        return [round(math.log2(stride)) for stride in strides]
    coarsest = round(math.log2(strides[-1]))
    return [coarsest - behind for behind in range(len(strides) - 1, -1, -1)]


def _residual(dimensions: int, in_channels: int, out_channels: int) -> nn.Module:
    return UnetResBlock(dimensions, in_channels, out_channels, kernel_size=3, stride=1, norm_name="instance")
