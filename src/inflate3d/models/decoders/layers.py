"""The few layers that decoders are made of."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F


class ConvNormAct(nn.Sequential):
    """Convolution that keeps the size, batch normalization, ReLU.

    Args:
        in_channels: Channels in.
        out_channels: Channels out.
        kernel_size: Odd side of the kernel.
    """

    def __init__(self, in_channels: int, out_channels: int, kernel_size: int = 3) -> None:
        super().__init__(
            nn.Conv2d(in_channels, out_channels, kernel_size, padding=kernel_size // 2, bias=False),
            nn.BatchNorm2d(out_channels),
            nn.ReLU(inplace=True),
        )


def resize(feature: Float[Tensor, "b c h w"], size: tuple[int, int]) -> Float[Tensor, "b c height width"]:
    """Bilinear, to ``(H, W)``, pixel edges aligned (not pixel centers)."""
    if feature.shape[-2:] == size:
        return feature
    return F.interpolate(feature, size=size, mode="bilinear", align_corners=False)
