"""UPerNet (Xiao et al. 2018, arXiv:1807.10221): pyramid pooling of the coarsest map, a feature pyramid, and fusion."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from inflate3d.models.decoders.decoder import ConvNormAct, Decoder, group_norm, resize

POOLED_SIZES = (1, 2, 3, 6)
DROPOUT = 0.1


class PyramidPooling(nn.Module):
    """Context of the coarsest map: pooled to a few sizes, resized, concatenated (Zhao et al. 2017).

    Args:
        width: Channels of each pooled map and of the result.
    """

    def __init__(self, in_channels: int, width: int) -> None:
        super().__init__()
        self.branches = nn.ModuleList(
            ConvNormAct(in_channels, width, kernel_size=1, norm=group_norm) for _ in POOLED_SIZES
        )
        self.join = ConvNormAct(in_channels + len(POOLED_SIZES) * width, width)

    def forward(self, feature: Float[Tensor, "b c h w"]) -> Float[Tensor, "b width h w"]:
        size = (feature.shape[-2], feature.shape[-1])
        pooled = [
            resize(branch(F.adaptive_avg_pool2d(feature, bins)), size)
            for bins, branch in zip(POOLED_SIZES, self.branches, strict=True)
        ]
        return self.join(torch.cat([feature, *pooled], dim=1))


class UPerNet(Decoder):
    """The paper's decoder, at any width.

    Maps of equal strides (of a plain ViT) are first made into a pyramid. The result has the stride of the finest level.

    Attributes:
        stride: Pixels of the input per pixel of the result.
    """

    def __init__(self, channels: Sequence[int], strides: Sequence[int], *, in_channels: int = 1, width: int) -> None:
        super().__init__(channels, strides, in_channels=in_channels, width=width)
        self.pyramid, self.stride = build_pyramid(channels, strides)
        self.channels = width
        self.pooling = PyramidPooling(channels[-1], width)
        self.laterals = nn.ModuleList(ConvNormAct(c, width, kernel_size=1) for c in channels[:-1])
        self.smooth = nn.ModuleList(ConvNormAct(width, width) for _ in channels[:-1])
        self.fuse = ConvNormAct(len(channels) * width, width)
        self.dropout = nn.Dropout2d(DROPOUT)

    def forward(
        self, features: list[Tensor], windows: Float[Tensor, "b c d height width"]
    ) -> Float[Tensor, "b channels _ _"]:
        """Decodes maps ``(B, c_i, H/s_i, W/s_i)``, finest first, to ``(B, width, H/stride, W/stride)``."""
        levels = [cast(nn.Module, scale)(feature) for scale, feature in zip(self.pyramid, features, strict=True)]
        decoded = [lateral(level) for lateral, level in zip(self.laterals, levels[:-1], strict=True)]
        decoded.append(self.pooling(levels[-1]))
        for index in range(len(decoded) - 2, -1, -1):
            finer = decoded[index]
            decoded[index] = finer + resize(decoded[index + 1], (finer.shape[-2], finer.shape[-1]))
        smoothed = [smooth(level) for smooth, level in zip(self.smooth, decoded[:-1], strict=True)]
        smoothed.append(decoded[-1])
        finest = (smoothed[0].shape[-2], smoothed[0].shape[-1])
        joined = torch.cat([resize(level, finest) for level in smoothed], dim=1)
        return self.dropout(self.fuse(joined))


def build_pyramid(channels: Sequence[int], strides: Sequence[int]) -> tuple[nn.ModuleList, int]:
    """The layers that bring each map to its pyramid level.

    The maps of a plain ViT have the same stride; as in the paper, four of them are resized to 4, 2, 1 and 1/2 times
    their resolution. Hierarchical maps stay as they are.

    Returns:
        One layer per map, and the stride of the finest level (rounded down).
    """
    if len(set(strides)) > 1:
        return nn.ModuleList(nn.Identity() for _ in strides), strides[0]
    finest = max(0, len(strides) - 2)  # times two: 2, 1, 0, -1 for four maps
    layers = [_scale(c, finest - level) for level, c in enumerate(channels)]
    return nn.ModuleList(layers), max(1, strides[0] >> finest)


class _Half(nn.Module):
    """Maximum over 2 x 2 pixels; an odd map is first resized to the next even size, so that nothing is shifted."""

    def forward(self, feature: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c _ _"]:
        height, width = feature.shape[-2:]
        return F.max_pool2d(resize(feature, (height + height % 2, width + width % 2)), 2)


def _scale(channels: int, doublings: int) -> nn.Module:
    if doublings < 0:
        return _Half()
    layers: list[nn.Module] = []
    for step in range(doublings):
        if step:
            layers += [nn.BatchNorm2d(channels), nn.GELU()]
        layers.append(nn.ConvTranspose2d(channels, channels, 2, stride=2))
    return nn.Sequential(*layers)
