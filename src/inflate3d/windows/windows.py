"""Windows: a few neighbouring slices, the ends repeated at the volume's edges."""

from __future__ import annotations

from jaxtyping import Integer, Shaped
from torch import Tensor


def window_slices(centre: int, depth: int, length: int) -> list[int]:
    """Indices of the slices in a window, ascending; at the volume's ends the last slice stands repeatedly.

    Args:
        centre: Index of the centre slice.
        depth: Slices in a window, odd.
        length: Slices in the volume.
    """
    half = depth // 2
    return [min(max(index, 0), length - 1) for index in range(centre - half, centre + half + 1)]


def cut_windows(
    volume: Shaped[Tensor, "c slices h w"], centres: Integer[Tensor, " b"], depth: int
) -> Shaped[Tensor, "b c depth h w"]:
    """Cuts a window round each centre slice out of a volume, on the device where the volume lies.

    Args:
        volume: ``(C, D, H, W)``.
        centres: Indices of the centre slices, ``(B,)``.
        depth: Slices in a window, odd.
    """
    import torch

    half = depth // 2
    offsets = torch.arange(-half, half + 1, device=volume.device)
    indices = (centres[:, None] + offsets).clamp(0, volume.shape[1] - 1)
    return volume[:, indices].movedim(0, 1)
