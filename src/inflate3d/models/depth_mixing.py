"""Depth mixing: the features of a slab's slices exchange along the depth, in layers that start as the identity."""

from __future__ import annotations

from collections.abc import Sequence

from jaxtyping import Float
from torch import SymInt, Tensor, nn
from torch.nn import functional as F

from inflate3d.models.decoders.decoder import group_norm

DILATIONS = (1, 2)
"""Slices between a kernel's taps, layer by layer."""

REACH = sum(DILATIONS)
"""How many slices away a slice is that still changes a slice's features."""


class DepthMixer(nn.Module):
    """Residual layers ``p + W2 GELU(W1 DW(GN(p)))``, where ``DW`` is a depthwise convolution over three slices.

    ``W2`` starts at 0, so that a new mixer changes nothing; its gradient is not 0. Beyond the first and the last slice
    of the slab these are repeated, as windows repeat them. The rest of the layer is that of ConvNeXt (Liu et al. 2022,
    arXiv:2201.03545), with the kernel along the depth.

    Args:
        channels: Channels of the features.
        dilations: Slices between the taps of each layer's kernel.

    Examples:
        >>> import torch
        >>> features = torch.randn(2 * 8, 16, 28, 28)  # two slabs of eight slices
        >>> torch.equal(DepthMixer(16)(features, slices=8), features)
        True
    """

    def __init__(self, channels: int, dilations: Sequence[int] = DILATIONS) -> None:
        super().__init__()
        self.layers = nn.ModuleList(_Layer(channels, dilation) for dilation in dilations)

    def forward(self, features: Float[Tensor, "bt c h w"], slices: int | SymInt) -> Float[Tensor, "bt c h w"]:
        """Mixes features of slabs.

        Args:
            features: ``(B * T, C, H, W)``, the slices of a slab one after another.
            slices: ``T``.
        """
        for layer in self.layers:
            features = layer(features, slices)
        return features


class _Layer(nn.Module):
    def __init__(self, channels: int, dilation: int) -> None:
        super().__init__()
        self.dilation = dilation
        self.norm = group_norm(channels)
        self.along_depth = nn.Conv3d(channels, channels, (3, 1, 1), dilation=(dilation, 1, 1), groups=channels)
        self.widen = nn.Conv2d(channels, 2 * channels, 1)
        self.narrow = nn.Conv2d(2 * channels, channels, 1)
        nn.init.zeros_(self.narrow.weight)
        assert self.narrow.bias is not None
        nn.init.zeros_(self.narrow.bias)

    def forward(self, features: Tensor, slices: int | SymInt) -> Tensor:
        stacked = self.norm(features).unflatten(0, (-1, slices)).movedim(1, 2)  # (B, C, T, H, W)
        padded = F.pad(stacked, (0, 0, 0, 0, self.dilation, self.dilation), mode="replicate")
        mixed = self.along_depth(padded).movedim(2, 1).flatten(0, 1)
        return features + self.narrow(F.gelu(self.widen(mixed)))
