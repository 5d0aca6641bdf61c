"""Predicting scans patch by patch, with MONAI's sliding window and Gaussian blending."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from inflate3d.inference.mirrors import UNMIRRORED, Mirror, mean_over_mirrors
from inflate3d.models.volumetric import VolumetricSegmenter
from inflate3d.windows.patches import PlaneGrid
from inflate3d.windows.resample import field_matrices, normalize, resample_windows

OVERLAP = 0.5
"""Part of a patch that the next one shows, too; nnU-Net's."""


@torch.inference_mode()
def volume_logits(
    model: VolumetricSegmenter,
    image: Float[Tensor, "c d h w"],
    ranges: Float[Tensor, "c 2"],
    sides: Float[Tensor, "1 2"],
    grid: PlaneGrid,
    *,
    device: torch.device,
    patches_at_once: int,
    mirrors: tuple[Mirror, ...] = UNMIRRORED,
) -> Float[Tensor, "k d height width"]:
    """Scores every voxel of a scan on the network's grid.

    Patches are computed on the device; what they are blended into, classes × voxels, lies in main memory.

    Args:
        model: The network.
        image: Voxel values in the model's frame, ``(C, D, H, W)``.
        ranges: For each modality the voxel values that become 0 and 1.
        sides: Height and width of a slice in millimeters.
        grid: What its slices are brought to.
        device: Where the network is.
        patches_at_once: Patches in a batch.
        mirrors: Mirror images of each patch to take the mean over.

    Returns:
        Logits ``(K, D, *grid.size)``, float32, on the CPU.
    """
    from monai.inferers.utils import sliding_window_inference

    windows = normalize(image[None].cpu(), ranges[None].cpu())
    windows = resample_windows(windows, field_matrices(sides.cpu(), plane_sides(grid)), grid.size)
    logits = sliding_window_inference(
        windows,
        model.architecture.patch_size,
        patches_at_once,
        lambda patches: mean_over_mirrors(model, patches, mirrors),
        overlap=OVERLAP,
        mode="gaussian",
        sw_device=device,
        device="cpu",
    )
    assert isinstance(logits, Tensor)
    return logits[0]


def plane_sides(grid: PlaneGrid) -> Float[Tensor, "1 2"]:
    """Height and width of a grid in millimeters."""
    return torch.tensor([[pixels * side for pixels, side in zip(grid.size, grid.spacing, strict=True)]])
