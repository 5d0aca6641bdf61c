"""Inflation: how a 2D first convolution gets a depth."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor

from inflate3d.config import Inflation
from inflate3d.errors import ConfigError, ModelError


def inflate_stem(
    weight: Float[Tensor, "o rgb h w"], depth: int, in_channels: int, method: Inflation = "center"
) -> Float[Tensor, "o c d h w"]:
    """Inflates the weight of a backbone's first convolution from an RGB image to a window of slices.

    RGB is summed to one gray channel, which is copied to the ``C`` modalities and divided by ``C``. Then
    ``"center"`` puts it on the middle slice and zeros on the others, and ``"average"`` puts it on every slice, divided
    by ``D``. ``"random"`` discards it: a new weight, initialized as torch initializes convolutions.
    Source: Zhang et al., ML4H 2022, PMLR 193:391-404.

    Args:
        weight: ``(O, 3, h, w)``, or ``(O, 1, h, w)`` for a gray stem.
        depth: Slices of a window, ``D``; odd, so that there is a center slice.
        in_channels: Modalities, ``C``.
        method: How the gray channel is spread.

    Returns:
        ``(O, C, D, h, w)``, in the data type of ``weight``.

    Raises:
        ConfigError: ``depth`` is even or below 1, or ``in_channels`` is below 1.
        ModelError: The convolution reads neither RGB nor gray.

    Examples:
        >>> rgb = torch.ones(8, 3, 7, 7)
        >>> stem = inflate_stem(rgb, depth=5, in_channels=2)
        >>> stem.shape, stem[0, 0, :, 0, 0].tolist()  # 3 colors summed, halved for 2 modalities, on the center slice
        (torch.Size([8, 2, 5, 7, 7]), [0.0, 0.0, 1.5, 0.0, 0.0])
    """
    check_window(depth, in_channels)
    if weight.shape[1] not in (1, 3):
        raise ModelError(
            "the first convolution can't be inflated",
            expected="a 2D convolution of RGB or gray, (O, 3, h, w) or (O, 1, h, w)",
            got=tuple(weight.shape),
        )
    gray = weight.sum(dim=1) / in_channels
    inflated = gray.new_zeros(gray.shape[0], in_channels, depth, *gray.shape[1:])
    if method == "random":
        torch.nn.init.kaiming_uniform_(inflated, a=math.sqrt(5))
    elif method == "center":
        inflated[:, :, depth // 2] = gray[:, None]
    else:
        inflated[:] = gray[:, None, None] / depth
    return inflated


def flatten_depth(tensor: Float[Tensor, "n c d h w"]) -> Float[Tensor, "n c*d h w"]:
    """Views ``(N, C, D, H, W)`` as ``(N, C·D, H, W)``: slice ``d`` of modality ``c`` is channel ``c·D + d``.

    A 3D convolution with a kernel as deep as the window equals a 2D convolution of the flattened weight and windows.
    """
    return torch.flatten(tensor, 1, 2)


def check_window(depth: int, in_channels: int) -> None:
    """Rejects windows that no stem can be inflated to."""
    if depth < 1 or depth % 2 == 0:
        raise ConfigError(
            "invalid depth of the window",
            expected="an odd number of slices, 1 or more: the middle one is predicted",
            got=depth,
        )
    if in_channels < 1:
        raise ConfigError("invalid number of modalities", expected="1 or more", got=in_channels)
