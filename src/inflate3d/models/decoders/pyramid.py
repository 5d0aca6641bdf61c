"""A feature pyramid from whatever an encoder gives: hierarchical maps as they are, equal strides spread out."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn


def build_pyramid(channels: Sequence[int], strides: Sequence[int]) -> tuple[nn.ModuleList, int]:
    """Makes the layers that bring each map to its pyramid level.

    A plain ViT's maps share one stride; as in the paper four of them are spread to 4, 2, 1 and 1/2 times its
    resolution. Hierarchical maps are left as they are.

    Args:
        channels: Channels of the maps, kept by the layers.
        strides: Their strides, ascending or all equal.

    Returns:
        One layer for each map, and the stride of the finest level (rounded down).
    """
    if len(set(strides)) > 1:
        return nn.ModuleList(nn.Identity() for _ in strides), strides[0]
    finest = max(0, len(strides) - 2)  # times two: 2, 1, 0, -1 for four maps
    layers = [_scale(c, finest - level) for level, c in enumerate(channels)]
    return nn.ModuleList(layers), max(1, strides[0] >> finest)


def _scale(channels: int, doublings: int) -> nn.Module:
    if doublings < 0:
        return nn.MaxPool2d(2, ceil_mode=True)
    layers: list[nn.Module] = []
    for step in range(doublings):
        if step:
            layers += [nn.BatchNorm2d(channels), nn.GELU()]
        layers.append(nn.ConvTranspose2d(channels, channels, 2, stride=2))
    return nn.Sequential(*layers)
