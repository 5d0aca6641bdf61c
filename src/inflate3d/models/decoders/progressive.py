"""Decoders that use only the coarsest map and double its size step by step: SETR-PUP and transposed convolutions."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import ClassVar

from jaxtyping import Float
from torch import Tensor, nn

from inflate3d.models.decoders.decoder import Decoder, resize


class SetrPup(Decoder):
    """Convolve, normalize, upsample by two, up to half the resolution (Zheng et al. 2021, arXiv:2012.15840, "PUP").

    As in the paper's code: 3x3 convolutions with instance normalization and ReLU, four of them at a stride of 16.
    """

    smallest_map: ClassVar[int] = 2  # instance normalization makes one pixel nothing

    def __init__(self, channels: Sequence[int], strides: Sequence[int], *, in_channels: int = 1, width: int) -> None:
        super().__init__(channels, strides, in_channels=in_channels, width=width)
        self.channels = width
        widths = [channels[-1]] + [width] * doublings(strides[-1])
        self.stages = nn.ModuleList(
            nn.Sequential(nn.Conv2d(before, after, 3, padding=1), nn.InstanceNorm2d(after), nn.ReLU(inplace=True))
            for before, after in itertools.pairwise(widths)
        )

    def forward(
        self, features: list[Tensor], windows: Float[Tensor, "b c d height width"]
    ) -> Float[Tensor, "b channels _ _"]:
        """Decodes the last map, ``(B, c, H/s, W/s)``, to ``(B, width, H/2, W/2)``."""
        decoded = features[-1]
        for index, stage in enumerate(self.stages):
            if index:
                decoded = resize(decoded, (2 * decoded.shape[-2], 2 * decoded.shape[-1]))
            decoded = stage(decoded)
        return decoded


class ConvTranspose(Decoder):
    """Normalize and upsample by a transposed convolution; the classifier does the last step.

    As in the paper's code: four transposed convolutions at a stride of 16, instance normalization and ReLU before
    each.
    """

    smallest_map: ClassVar[int] = 2  # instance normalization makes one pixel nothing

    def __init__(self, channels: Sequence[int], strides: Sequence[int], *, in_channels: int = 1, width: int) -> None:
        super().__init__(channels, strides, in_channels=in_channels, width=width)
        self.stages = nn.ModuleList()
        self.channels = channels[-1]
        for _ in range(doublings(strides[-1]) - 1):
            self.stages.append(nn.ConvTranspose2d(self.channels, width, 2, stride=2))
            self.channels = width

    def forward(
        self, features: list[Tensor], windows: Float[Tensor, "b c d height width"]
    ) -> Float[Tensor, "b channels _ _"]:
        """Decodes the last map, ``(B, c, H/s, W/s)``, to ``(B, width, H/2, W/2)``."""
        decoded = nn.functional.relu(nn.functional.instance_norm(features[-1]))
        for double in self.stages:
            decoded = nn.functional.relu(nn.functional.instance_norm(double(decoded)))
        return decoded

    def classifier(self, num_classes: int) -> nn.Module:
        """The layer that upsamples for the last time and scores each pixel."""
        return nn.ConvTranspose2d(self.channels, num_classes, 2, stride=2)


def doublings(stride: int) -> int:
    """How often a map has to be doubled to reach the image's size or exceed it; at least once."""
    return max(1, math.ceil(math.log2(stride)))
