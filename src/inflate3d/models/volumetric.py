"""MONAI's 3D networks under our protocol, for comparison: from patches to class scores."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jaxtyping import Float
from torch import Tensor, nn

from inflate3d.errors import ConfigError, ModelError
from inflate3d.models.architecture import Volumetric, VolumetricArchitecture
from inflate3d.models.card import write_model_card
from inflate3d.models.checkpoint import write_model_folder

if TYPE_CHECKING:
    from inflate3d.preparation.plan import Plan

Size = tuple[int, int, int]

MOST_VOXELS = 96**3
"""Limit of a default patch, that of the paper's UNETR."""

_USUAL_DEPTH_STEP = 8
"""The depth of a default patch is a multiple of this, so that it can be halved three times."""


@dataclass(frozen=True)
class _Kind:
    """A family of networks.

    Attributes:
        width: Channels of its first level, by its authors' choice.
        step: Slices, rows and columns of a patch are multiples of it.
        usual_step: The same for rows and columns of a default patch.
    """

    build: Callable[[VolumetricArchitecture], nn.Module]
    width: int
    width_step: int
    step: int
    usual_step: int


def _unetr(architecture: VolumetricArchitecture) -> nn.Module:
    """Hatamizadeh et al. 2022 (arXiv:2103.10504); 16 channels go with 768 of the transformer."""
    from monai.networks.nets.unetr import UNETR

    hidden = 48 * architecture.width
    network = UNETR(
        architecture.in_channels,
        architecture.num_classes,
        architecture.patch_size,
        feature_size=architecture.width,
        hidden_size=hidden,
        mlp_dim=4 * hidden,
    )
    for name, parameter in network.named_parameters():
        if "norm_cross_attn" in name:  # MONAI makes them for cross attention, which isn't there
            parameter.requires_grad_(False)
    return network


def _swin_unetr(architecture: VolumetricArchitecture) -> nn.Module:
    """Hatamizadeh et al. 2022 (arXiv:2201.01266)."""
    from monai.networks.nets.swin_unetr import SwinUNETR

    return SwinUNETR(architecture.in_channels, architecture.num_classes, feature_size=architecture.width)


def _segresnet(architecture: VolumetricArchitecture) -> nn.Module:
    """Myronenko 2018 (arXiv:1810.11654), without its variational branch."""
    from monai.networks.nets.segresnet import SegResNet

    return SegResNet(
        in_channels=architecture.in_channels, out_channels=architecture.num_classes, init_filters=architecture.width
    )


def _dynunet(architecture: VolumetricArchitecture) -> nn.Module:
    """nnU-Net's network (Isensee et al. 2021, Nature Methods 18, 203-211), its levels by nnU-Net's rule."""
    from monai.networks.nets.dynunet import DynUNet

    strides = architecture.strides
    network = DynUNet(
        3,
        architecture.in_channels,
        architecture.num_classes,
        kernel_size=architecture.kernels,
        strides=strides,
        upsample_kernel_size=strides[1:],
        filters=[min(architecture.width * 2**level, 10 * architecture.width) for level in range(len(strides))],
    )
    # Its forward path shares all layers with it; registered, every weight would stand twice in the state.
    network.__dict__["skip_layers"] = network._modules.pop("skip_layers")
    return network


_KINDS: dict[Volumetric, _Kind] = {
    "unetr": _Kind(_unetr, width=16, width_step=1, step=16, usual_step=16),
    "swin-unetr": _Kind(_swin_unetr, width=48, width_step=12, step=32, usual_step=32),
    "segresnet": _Kind(_segresnet, width=32, width_step=8, step=8, usual_step=16),
    "dynunet": _Kind(_dynunet, width=32, width_step=1, step=4, usual_step=16),
}


class VolumetricSegmenter(nn.Module):
    """Patches in, logits of all their voxels out.

    Attributes:
        plan: How scans become its patches; None until a training or a model folder sets it.
    """

    def __init__(self, architecture: VolumetricArchitecture) -> None:
        super().__init__()
        self.architecture = architecture
        self.plan: Plan | None = None
        self.network = _KINDS[architecture.network].build(architecture)

    def forward(self, patches: Float[Tensor, "b c d h w"]) -> Float[Tensor, "b k d h w"]:
        """Scores every voxel.

        Args:
            patches: ``(B, C, D, H, W)``, intensities from 0 to 1.

        Returns:
            Logits ``(B, K, D, H, W)``, background first.
        """
        wanted = (self.architecture.in_channels, *self.architecture.patch_size)
        if tuple(patches.shape[1:]) != wanted:
            raise ModelError(
                "patches do not fit the network",
                expected="(batch, modalities, slices, rows, columns) = (B, " + ", ".join(map(str, wanted)) + ")",
                got=tuple(patches.shape),
            )
        return self.network(patches)

    def save(self, folder: str | Path) -> None:
        """Writes ``model.safetensors`` and ``model.json``, all that `load_model` needs."""
        write_model_folder(Path(folder), self.architecture, self.plan, self.state_dict())
        write_model_card(Path(folder), self.architecture, self.plan)

    def summary(self) -> str:
        """One line."""
        patch = " × ".join(map(str, self.architecture.patch_size))
        parameters = sum(parameter.numel() for parameter in self.parameters())
        return f"{self.architecture.network}: {parameters / 1e6:.1f} M random weights, patches of {patch} voxels"


def create_volumetric(
    network: Volumetric,
    *,
    in_channels: int,
    num_classes: int,
    patch_size: Size,
    spacing: tuple[float, float, float] = (1.0, 1.0, 1.0),
    width: int | None = None,
) -> VolumetricSegmenter:
    """Builds a 3D network with random weights.

    Args:
        num_classes: Number of classes, background included.
        spacing: Millimeters between voxels; nnU-Net's network pools coarse axes later.
        width: Channels of its first level; by default its authors' choice.
    """
    kind = _KINDS[network]
    width = kind.width if width is None else width
    if width % kind.width_step:
        raise ConfigError(f"invalid width of {network}", expected=f"a multiple of {kind.width_step}", got=width)
    kernels, strides = _levels(patch_size, spacing) if network == "dynunet" else ((), ())
    if problem := _problem(network, patch_size, strides):
        raise ConfigError(
            f"{network} does not support this patch size", expected=problem, got=" × ".join(map(str, patch_size))
        )
    return VolumetricSegmenter(
        VolumetricArchitecture(
            network=network,
            in_channels=in_channels,
            num_classes=num_classes,
            patch_size=patch_size,
            width=width,
            kernels=kernels,
            strides=strides,
        )
    )


def usual_patch_size(network: Volumetric, shape: Size) -> Size:
    """A patch the size of the median scan, reduced along its longest sides if too large, as in nnU-Net."""
    kind = _KINDS[network]
    depth_step = max(kind.step, _USUAL_DEPTH_STEP)
    steps = (depth_step, kind.usual_step, kind.usual_step)
    least = (depth_step, 2 * kind.usual_step, 2 * kind.usual_step)
    sides = [max(low, step * math.ceil(side / step)) for side, step, low in zip(shape, steps, least, strict=True)]
    while math.prod(sides) > MOST_VOXELS:
        longest = max(range(3), key=lambda axis: sides[axis])
        sides[longest] -= steps[longest]
    slices, rows, columns = sides
    return slices, rows, columns


def _problem(network: Volumetric, patch_size: Size, strides: Sequence[Size]) -> str | None:
    """What a network requires of its patch size, if this one is invalid."""
    step = _KINDS[network].step
    if any(side < step or side % step for side in patch_size):
        return f"multiples of {step}"
    if network == "dynunet":
        return None if len(strides) > 2 else "at least one side of 16 or more"
    return None if math.prod(patch_size) > step**3 else f"more than {step} × {step} × {step}"


def _levels(patch_size: Size, spacing: tuple[float, float, float]) -> tuple[tuple[Size, ...], tuple[Size, ...]]:
    """Kernels and strides of each level of nnU-Net's network.

    An axis is halved while at least 4 voxels remain, at most 5 times, and only when the other axes are within twice its
    spacing; kernels are flat along coarser axes (nnU-Net's ``get_pool_and_conv_props``).
    """
    sides, spacings = list(patch_size), list(spacing)
    kernels: list[Size] = []
    strides: list[Size] = [(1, 1, 1)]
    flat = [True] * 3
    while True:
        flat = [was and spacings[axis] > 2 * min(spacings) for axis, was in enumerate(flat)]
        kernels.append(_triple(1 if is_flat else 3 for is_flat in flat))
        can = [axis for axis in range(3) if sides[axis] >= 8 and sides[axis] % 2 == 0]
        finest = min((spacings[axis] for axis in can), default=0.0)
        halved = [axis in can and spacings[axis] < 2 * finest for axis in range(3)]
        if not any(halved) or len(strides) > 5:
            return tuple(kernels), tuple(strides)
        stride = _triple(2 if is_halved else 1 for is_halved in halved)
        strides.append(stride)
        sides = [side // step for side, step in zip(sides, stride, strict=True)]
        spacings = [side * step for side, step in zip(spacings, stride, strict=True)]


def _triple(values: Any) -> Size:
    first, second, third = values
    return first, second, third
