"""What every decoder is to the rest of the network."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import ClassVar

from jaxtyping import Float
from torch import Tensor, nn


class Decoder(nn.Module, ABC):
    """Feature maps of the center slices in, one map out, which a classifier turns into logits.

    Args:
        channels: Channels of the encoder's maps.
        strides: Their strides, ascending or all equal.
        in_channels: Modalities of the windows.
        width: Channels of the decoder at its widest.

    Attributes:
        channels: Channels of the result.
        smallest_map: Pixels that the encoder's coarsest map must have at least.
    """

    smallest_map: ClassVar[int] = 1
    channels: int

    @abstractmethod
    def __init__(self, channels: Sequence[int], strides: Sequence[int], *, in_channels: int, width: int) -> None:
        super().__init__()

    @abstractmethod
    def forward(
        self, features: list[Tensor], windows: Float[Tensor, "b c d height width"]
    ) -> Float[Tensor, "b channels _ _"]:
        """Decodes maps ``(B, c_i, H/s_i, W/s_i)``, finest first.

        Args:
            features: What the encoder gives.
            windows: What the encoder saw, for decoders that look at the image again.
        """

    def classifier(self, num_classes: int) -> nn.Module:
        """Makes the layer that scores each pixel of the result."""
        return nn.Conv2d(self.channels, num_classes, 1)
