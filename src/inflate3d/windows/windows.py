"""Windows: a few neighboring slices, the ends repeated at the volume's edges."""

from __future__ import annotations

from jaxtyping import Float, Integer, Shaped
from torch import Tensor


def window_slices(center: int, depth: int, length: int, stride: int = 1) -> list[int]:
    """Indices of the slices in a window, ascending; at the volume's ends the last slice stands repeatedly.

    Args:
        center: Index of the center slice.
        depth: Slices in a window, odd.
        length: Slices in the volume.
        stride: Steps from one slice of the window to the next; 1 takes neighbors.
    """
    reach = stride * (depth // 2)
    return [min(max(index, 0), length - 1) for index in range(center - reach, center + reach + 1, stride)]


def center_logits(logits: Float[Tensor, "b k *s h w"]) -> Float[Tensor, "b k h w"]:
    """Those of the windows' center slices, whether a network predicts these alone or all slices."""
    return logits if logits.ndim == 4 else logits[:, :, logits.shape[2] // 2]


def cut_windows(
    volume: Shaped[Tensor, "c slices h w"], centers: Integer[Tensor, " b"], depth: int, stride: int = 1
) -> Shaped[Tensor, "b c depth h w"]:
    """Cuts a window round each center slice out of a volume, on the device where the volume lies.

    Args:
        volume: ``(C, D, H, W)``.
        centers: Indices of the center slices, ``(B,)``.
        depth: Slices in a window, odd.
        stride: Steps from one slice of the window to the next.
    """
    import torch

    reach = stride * (depth // 2)
    offsets = torch.arange(-reach, reach + 1, stride, device=volume.device)
    indices = (centers[:, None] + offsets).clamp(0, volume.shape[1] - 1)
    return volume[:, indices].movedim(0, 1)
