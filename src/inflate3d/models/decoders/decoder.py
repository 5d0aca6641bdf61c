"""The interface of all decoders."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import ClassVar

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F


class Decoder(nn.Module, ABC):
    """Feature maps of the center slices in, one map out, which a classifier turns into logits.

    Args:
        channels: Channels of the encoder's maps.
        strides: Their strides, ascending or all equal.
        in_channels: Modalities of the windows.
        width: Channels of the decoder at its widest.

    Attributes:
        channels: Channels of its output.
        smallest_map: Least number of pixels of the encoder's coarsest map.
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
            features: The encoder's feature maps.
            windows: The encoder's input, for decoders that use the image.
        """

    def classifier(self, num_classes: int) -> nn.Module:
        """Makes the layer that scores each pixel of the result."""
        return nn.Conv2d(self.channels, num_classes, 1)


class ConvNormAct(nn.Sequential):
    """Convolution that keeps the size, normalization, ReLU.

    Args:
        kernel_size: Odd side of the kernel.
        norm: Creates the normalization layer for a number of channels.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int = 3,
        norm: Callable[[int], nn.Module] = nn.BatchNorm2d,
    ) -> None:
        super().__init__(
            nn.Conv2d(in_channels, out_channels, kernel_size, padding=kernel_size // 2, bias=False),
            norm(out_channels),
            nn.ReLU(inplace=True),
        )


def group_norm(channels: int) -> nn.GroupNorm:
    """Normalizes each map by itself (Wu & He 2018, arXiv:1803.08494): one pixel a window is too few for a batch norm.

    Groups have at least four channels: for a single pixel, smaller ones would leave little but signs.
    """
    return nn.GroupNorm(next((groups for groups in (8, 4, 2) if channels % (4 * groups) == 0), 1), channels)


def use_batch_norms(module: nn.Module) -> None:
    """Replaces group norms by batch norms, as in the paper's own decoders."""
    for path, norm in list(module.named_modules()):
        if isinstance(norm, nn.GroupNorm):
            module.set_submodule(path, nn.BatchNorm2d(norm.num_channels))


def resize(feature: Float[Tensor, "b c h w"], size: tuple[int, int]) -> Float[Tensor, "b c height width"]:
    """Bilinear, to ``(H, W)``, with pixel edges aligned (not pixel centers)."""
    if feature.shape[-2:] == size:
        return feature
    return F.interpolate(feature, size=size, mode="bilinear", align_corners=False)
