"""The catalog of backbones: their names, sizes and costs, and whether inflation keeps what they compute."""

from __future__ import annotations

import fnmatch
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import timm
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from inflate3d.config import Inflation
from inflate3d.errors import ModelError
from inflate3d.models.backbone import RGB
from inflate3d.models.backbones import find_backbone
from inflate3d.models.inflation import check_window
from inflate3d.named_encoders import NAMED_ENCODERS

_ROUNDING = 1e-6


@dataclass(frozen=True)
class InflationReport:
    """How exactly an inflated backbone reproduces its 2D original.

    Attributes:
        depth: Slices of a window.
        image_size: ``(H, W)`` in pixels.
        errors: Largest relative error of a feature map, per inflation method.
    """

    name: str
    depth: int
    in_channels: int
    image_size: tuple[int, int]
    errors: dict[Inflation, float]


def check_inflation(
    name: str,
    *,
    depth: int = 5,
    in_channels: int = 1,
    image_size: int | tuple[int, int] | None = None,
    methods: Sequence[Inflation] = ("center", "average"),
    arguments: Mapping[str, Any] | None = None,
) -> InflationReport:
    """Checks that an inflated backbone computes what the 2D backbone does, with random weights.

    With ``"center"``, the features of a window are those of its center slice as a gray RGB image, whatever
    the other slices show. With ``"average"``, the features of one slice repeated are those of that slice.
    Both hold for every feature map if all modalities are equal. Video Swin is a video network: its features are
    compared with those that the original computes from the whole window as a gray RGB clip.

    Everything is computed in float64, with batch norms that halve their input, so that deep networks do not amplify
    rounding errors.

    Args:
        name: timm's name of the backbone, or one of :data:`inflate3d.named_encoders.NAMED_ENCODERS`.
        depth: Slices of a window.
        in_channels: Modalities.
        image_size: Pixels, one number or ``(H, W)``; None: about the size it was trained at.
        methods: Which inflations to check.
        arguments: Arguments that differ from the backbone of that name, as for :func:`inflate3d.create_encoder`.

    Raises:
        ModelError: The backbone is unknown, can't be inflated, or computes something else when inflated.
        ConfigError: The backbone does not support this image size or depth.

    Examples:
        >>> report = check_inflation("resnet10t", depth=3, image_size=64)
        >>> max(report.errors.values()) < 1e-6
        True
    """
    check_window(depth, in_channels)
    backbone = find_backbone(name, image_size, arguments=arguments)
    rgb = backbone.build(RGB).double().eval()
    network = backbone.build(in_channels, depth).double().eval()
    window = torch.randn(1, 1, depth, *backbone.image_size, dtype=torch.float64)
    _dampen(rgb)
    center = window[:, :, depth // 2 : depth // 2 + 1]
    windows = {"center": window, "average": center.expand_as(window)}
    errors: dict[Inflation, float] = {}
    with torch.no_grad():
        for method in methods:
            gray = windows[method]
            expected = backbone.feature_maps(rgb, backbone.as_original(gray))
            backbone.inflate(network, rgb, depth=depth, in_channels=in_channels, inflation=method)
            found = backbone.feature_maps(network, gray.expand(-1, in_channels, -1, -1, -1))
            errors[method] = max(_relative_error(*pair) for pair in zip(found, expected, strict=True))
    for method, error in errors.items():
        if not error <= _ROUNDING:
            raise ModelError(
                f"{method} inflation changes what {name} computes",
                expected=f"the 2D backbone's feature maps, to a relative {_ROUNDING:g}",
                got=f"{error:.3g}",
            )
    return InflationReport(name, depth, in_channels, backbone.image_size, errors)


def _dampen(rgb: nn.Module) -> None:
    """Halves the weights of batch norms: without their statistics, activations of deep networks would explode."""
    for module in rgb.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm) and module.affine:
            nn.init.constant_(module.weight, 0.5)


@dataclass(frozen=True)
class EncoderDescription:
    """Cost and feature maps of a backbone at one image size.

    Attributes:
        image_size: ``(H, W)`` in pixels.
        channels: Channels of each map.
        strides: Pixels of the image per pixel of each map.
        parameters: Number of parameters in 2D; inflation adds to the stem only.
        multiply_adds: Multiply-accumulate operations for one RGB image, in matrix products, convolutions and
            attention; inflation adds to the stem only. For Video Swin: for a clip of two images, its smallest.
        about: Meaning of a name that is not timm's; empty for timm's.
    """

    name: str
    image_size: tuple[int, int]
    levels: tuple[int, ...]
    channels: tuple[int, ...]
    strides: tuple[int, ...]
    parameters: int
    multiply_adds: int
    pretrained: bool
    about: str


def list_encoders(pattern: str = "*") -> list[str]:
    """Names that match a shell pattern, such as ``"*dinov2*"``: the paper's, medical ones, then timm's backbones.

    A few of them can't be inflated; :func:`describe_encoder` rejects these, in a fraction of a second each.

    Examples:
        >>> list_encoders("vit_*_patch14_dinov2")
        ['vit_base_patch14_dinov2', 'vit_giant_patch14_dinov2', 'vit_large_patch14_dinov2', 'vit_small_patch14_dinov2']
    """
    return [*fnmatch.filter(NAMED_ENCODERS, pattern), *timm.list_models(pattern)]


def describe_encoder(name: str, image_size: int | tuple[int, int] | None = None) -> EncoderDescription:
    """Size, cost and feature maps of a backbone, without computing anything.

    Args:
        image_size: Pixels, one number or ``(H, W)``; None: about the size it was trained at.
    """
    backbone = find_backbone(name, image_size)
    network = backbone.build_weightless().eval()
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        backbone.feature_maps(network, torch.empty(1, RGB, 1, *backbone.image_size, device="meta"))
    named = NAMED_ENCODERS.get(name)
    return EncoderDescription(
        name,
        backbone.image_size,
        backbone.levels,
        backbone.channels,
        backbone.strides,
        parameters=sum(weight.numel() for weight in network.parameters()),
        multiply_adds=counter.get_total_flops() // 2,
        pretrained=named.weights != "none" if named else timm.is_model_pretrained(name),
        about=named.about if named else "",
    )


def _relative_error(found: Tensor, expected: Tensor) -> float:
    return ((found - expected).abs().max() / expected.abs().max()).item()
