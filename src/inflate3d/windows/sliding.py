"""Scoring a whole scan patch by patch, with MONAI's sliding window and Gaussian blending."""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

from inflate3d.windows.patches import PlaneGrid
from inflate3d.windows.resample import field_matrices, normalize, resample_windows

OVERLAP = 0.5
"""Overlap of neighboring patches as a fraction of their size, as in nnU-Net."""


@torch.inference_mode()
def volume_logits(
    network: Callable[[Tensor], Tensor],
    image: Float[Tensor, "c d h w"],
    ranges: Float[Tensor, "c 2"],
    sides: Float[Tensor, "1 2"],
    grid: PlaneGrid,
    *,
    patch_size: tuple[int, int, int],
    device: torch.device,
    batch_size: int,
) -> Float[Tensor, "k d height width"]:
    """Scores every voxel of a scan on the network's grid.

    Patches are computed on the device; the array of classes x voxels that they are blended into is in main memory.

    Args:
        network: Maps patches ``(B, C, D, H, W)`` to logits ``(B, K, D, H, W)``.
        image: Voxel values in model space, ``(C, D, H, W)``.
        ranges: For each modality the voxel values that become 0 and 1.
        sides: Height and width of a slice in millimeters.
        grid: The grid in plane to which its slices are resampled.

    Returns:
        Logits ``(K, D, *grid.size)``, float32, on the CPU.
    """
    from monai.inferers.utils import sliding_window_inference

    windows = normalize(image[None].cpu(), ranges[None].cpu())
    windows = resample_windows(windows, field_matrices(sides.cpu(), plane_sides(grid)), grid.size)
    logits = sliding_window_inference(
        windows, patch_size, batch_size, network, overlap=OVERLAP, mode="gaussian", sw_device=device, device="cpu"
    )
    assert isinstance(logits, Tensor)
    return logits[0]


def plane_sides(grid: PlaneGrid) -> Float[Tensor, "1 2"]:
    """Height and width of a grid in millimeters."""
    return torch.tensor([[pixels * side for pixels, side in zip(grid.size, grid.spacing, strict=True)]])
