"""How a scan is predicted by the paper's code, and by networks that slide a window over it.

The paper's code keeps the logits of all slices, and then takes the largest: classes × voxels in float32. MONAI's
sliding window keeps them too, and nnU-Net's predictor in float16.
"""

from __future__ import annotations

from dataclasses import dataclass
from types import SimpleNamespace

import numpy as np
import torch
from torch import Tensor, nn

OVERLAP = 0.5
"""Of neighboring patches: nnU-Net's default, and what MONAI's examples for UNETR and SwinUNETR take at best."""

MONAI_PATCH = (96, 96, 96)

NNUNET_PATCH = (28, 256, 256)
"""What nnU-Net plans for thick CT slices of 512×512 pixels on a GPU of 8 GB."""


@torch.inference_mode()
def predict_all_at_once(model: nn.Module, windows: Tensor, shape: tuple[int, int]) -> Tensor:
    """Logits of every window one by one, all of them brought to the slices' own pixels, then one argmax."""
    logits = torch.cat([model(window[None]).float() for window in windows])
    return nn.functional.interpolate(logits, shape, mode="bilinear").argmax(1)


@dataclass(frozen=True)
class Sliding:
    """A 3D network that slides a window over a scan.

    Attributes:
        network: With random weights.
        patch: Slices, rows and columns of the window.
        classes: How many it tells apart.
        is_nnunet: Whether nnU-Net's own predictor does it, or MONAI's function.
    """

    network: nn.Module
    patch: tuple[int, int, int]
    classes: int
    is_nnunet: bool = False

    def patches(self, shape: tuple[int, int, int]) -> int:
        """How many windows a scan has."""
        return int(np.prod([_steps(length, size) for length, size in zip(shape, self.patch, strict=True)]))

    @torch.inference_mode()
    def predict(self, scan: Tensor, device: torch.device) -> Tensor:
        """Class numbers of every voxel of a scan ``(1, D, H, W)``."""
        self.network.eval().to(device)
        logits = self._nnunet(scan, device) if self.is_nnunet else self._monai(scan, device)
        return logits.argmax(0)

    def _monai(self, scan: Tensor, device: torch.device) -> Tensor:
        from monai.inferers.utils import sliding_window_inference

        logits = sliding_window_inference(
            scan[None],
            self.patch,
            1,
            self.network,
            overlap=OVERLAP,
            mode="gaussian",
            sw_device=device,
            device="cpu",
        )
        assert isinstance(logits, Tensor)
        return logits[0]

    def _nnunet(self, scan: Tensor, device: torch.device) -> Tensor:
        from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor

        predictor = nnUNetPredictor(OVERLAP, use_mirroring=False, device=device, allow_tqdm=False)
        predictor.network = self.network
        predictor.configuration_manager = SimpleNamespace(patch_size=self.patch)
        predictor.label_manager = SimpleNamespace(num_segmentation_heads=self.classes)
        return predictor.predict_sliding_window_return_logits(scan)


def monai_network(name: str, classes: int) -> Sliding:
    """MONAI's UNETR, or SwinUNETR of 48 channels, as published."""
    from monai.networks.nets.swin_unetr import SwinUNETR
    from monai.networks.nets.unetr import UNETR

    if name == "UNETR":
        network: nn.Module = UNETR(in_channels=1, out_channels=classes, img_size=MONAI_PATCH)
    else:
        network = SwinUNETR(in_channels=1, out_channels=classes, feature_size=48)
    return Sliding(network, MONAI_PATCH, classes)


def nnunet_network(classes: int) -> Sliding:
    """nnU-Net's default network (PlainConvUNet) of a ``3d_fullres`` plan for thick slices.

    Raises:
        ImportError: nnU-Net is not installed.
    """
    import nnunetv2.inference.predict_from_raw_data  # noqa: F401 - it must be there
    from dynamic_network_architectures.architectures.unet import PlainConvUNet

    network = PlainConvUNet(
        input_channels=1,
        n_stages=7,
        features_per_stage=[32, 64, 128, 256, 320, 320, 320],
        conv_op=nn.Conv3d,
        kernel_sizes=[[1, 3, 3], [1, 3, 3], *[[3, 3, 3]] * 5],
        strides=[[1, 1, 1], [1, 2, 2], [1, 2, 2], [2, 2, 2], [2, 2, 2], [1, 2, 2], [1, 2, 2]],
        n_conv_per_stage=[2] * 7,
        num_classes=classes,
        n_conv_per_stage_decoder=[2] * 6,
        conv_bias=True,
        norm_op=nn.InstanceNorm3d,
        norm_op_kwargs={"eps": 1e-5, "affine": True},
        nonlin=nn.LeakyReLU,
        nonlin_kwargs={"inplace": True},
    )
    return Sliding(network, NNUNET_PATCH, classes, is_nnunet=True)


def _steps(length: int, size: int) -> int:
    """Windows along an axis; both predictors count alike."""
    return max(0, int(np.ceil((length - size) / (size * (1 - OVERLAP))))) + 1
