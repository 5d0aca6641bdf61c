"""2D backbones with a third dimension: windows of slices in, feature maps of the centre slice out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import timm
import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from inflate3d.config import Inflation
from inflate3d.errors import ModelError
from inflate3d.models.backbones import (
    RGB,
    Backbone,
    feature_maps,
    find_backbone,
    published_settings,
    stem_names,
)
from inflate3d.models.inflation import check_window, flatten_depth, inflate_stem
from inflate3d.models.weights import WeightsReport, load_backbone

_ROUNDING = 1e-4


class Encoder(nn.Module):
    """An inflated backbone; :func:`create_encoder` makes it.

    Attributes:
        name: timm's name of the backbone.
        depth: Slices of a window, ``D``.
        in_channels: Modalities, ``C``.
        image_size: ``(H, W)`` in pixels.
        inflation: How its stem was inflated.
        levels: Which of the backbone's feature maps it gives.
        channels: Channels of each map.
        strides: Pixels of the image per pixel of each map.
        mean: Grey average of the mean that its 2D weights were trained with, on intensities from 0 to 1.
            The caller scales windows with it; the encoder doesn't.
        std: The same of the standard deviation.
        weights_report: What became of its 2D weights; none where there were none.
    """

    def __init__(
        self,
        network: nn.Module,
        backbone: Backbone,
        *,
        depth: int,
        in_channels: int,
        inflation: Inflation,
        weights_report: WeightsReport | None,
    ) -> None:
        super().__init__()
        self.network = network
        self.name = backbone.name
        self.depth = depth
        self.in_channels = in_channels
        self.image_size = backbone.image_size
        self.inflation: Inflation = inflation
        self.levels = backbone.levels
        self.channels = backbone.channels
        self.strides = backbone.strides
        trained = published_settings(backbone.name)
        self.mean = sum(trained.mean) / len(trained.mean)
        self.std = sum(trained.std) / len(trained.std)
        self.weights_report = weights_report

    def forward(self, windows: Float[Tensor, "b c d h w"]) -> list[Float[Tensor, "b _ _ _"]]:
        """Feature maps of the centre slices.

        Args:
            windows: ``(B, C, D, H, W)``.

        Returns:
            One map ``(B, channels[i], H / strides[i], W / strides[i])`` a level, finest first.

        Raises:
            ModelError: Modalities or slices are not the encoder's own.
        """
        if tuple(windows.shape[1:3]) != (self.in_channels, self.depth):
            raise ModelError(
                f"windows do not fit the encoder {self.name}",
                expected=f"(B, {self.in_channels}, {self.depth}, H, W)",
                got=tuple(windows.shape),
            )
        return feature_maps(self.network, flatten_depth(windows))


def create_encoder(
    name: str,
    *,
    depth: int = 5,
    in_channels: int = 1,
    image_size: int | tuple[int, int] = 224,
    inflation: Inflation = "center",
    weights: str | Path | None = "timm",
    levels: Sequence[int] | None = None,
) -> Encoder:
    """Builds a 2D backbone of timm's and inflates it to windows of slices.

    Args:
        name: timm's name, with or without a tag that chooses among its weights (``"resnet50.a1_in1k"``).
        depth: Slices of a window, odd.
        in_channels: Modalities.
        image_size: Pixels, one number or ``(H, W)``.
        inflation: How the stem's weight is spread over the slices; see
            :func:`inflate3d.models.inflation.inflate_stem`.
        weights: ``"timm"`` for those that timm publishes, the path of a ``.safetensors`` or torch file, or
            ``"none"`` or None for random ones, which are not inflated.
        levels: Which feature maps to give, by timm's number. None gives four evenly spaced blocks of a plain
            transformer (blocks 3, 6, 9, 12 of 12; without the final norm), and of a hierarchical backbone the
            last map of each stride from 4 on.

    Raises:
        ModelError: There is no such backbone, it can't be inflated, or the weights can't be had or don't fit.
        ConfigError: The backbone can't take this image size, depth, or levels.
    """
    check_window(depth, in_channels)
    backbone = find_backbone(name, image_size, levels)
    network, report = backbone.build(in_channels * depth), None
    if weights is not None and weights != "none":
        rgb, report = load_backbone(backbone, weights)
        _inflate(network, rgb, name, depth=depth, in_channels=in_channels, inflation=inflation)
    return Encoder(network, backbone, depth=depth, in_channels=in_channels, inflation=inflation, weights_report=report)


@dataclass(frozen=True)
class InflationReport:
    """How exactly an inflated backbone repeats its 2D original.

    Attributes:
        name: timm's name of the backbone.
        depth: Slices of a window.
        in_channels: Modalities.
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
) -> InflationReport:
    """Measures that an inflated backbone computes what its 2D original does, with random weights.

    With ``"center"``, the features of a window are those of its centre slice as a grey RGB image, whatever
    the other slices show. With ``"average"``, the features of one slice repeated are those of that slice.
    Both hold to float32 rounding for every feature map, where all modalities show the same.

    Args:
        name: timm's name.
        depth: Slices of a window.
        in_channels: Modalities.
        image_size: Pixels, one number or ``(H, W)``; none for about the size it was trained at.
        methods: What to check.

    Raises:
        ModelError: There is no such backbone, it can't be inflated, or an identity is broken.
        ConfigError: The backbone can't take this image size or depth.
    """
    check_window(depth, in_channels)
    backbone = find_backbone(name, image_size)
    rgb = backbone.build(RGB).eval()
    network = backbone.build(in_channels * depth).eval()
    slices = torch.randn(1, 1, depth, *backbone.image_size).expand(-1, in_channels, -1, -1, -1)
    centre = slices[:, :, depth // 2]
    windows = {"center": slices, "average": centre.unsqueeze(2).expand_as(slices)}
    errors: dict[Inflation, float] = {}
    with torch.no_grad():
        wanted = feature_maps(rgb, centre[:, :1].expand(-1, RGB, -1, -1))
        for method in methods:
            _inflate(network, rgb, name, depth=depth, in_channels=in_channels, inflation=method)
            found = feature_maps(network, flatten_depth(windows[method]))
            errors[method] = max(_relative_error(*pair) for pair in zip(found, wanted, strict=True))
    for method, error in errors.items():
        if not error <= _ROUNDING:
            raise ModelError(
                f"inflating {name} by {method} changes what it computes",
                expected=f"feature maps of the 2D backbone to a relative {_ROUNDING:g}",
                got=f"{error:.3g}",
            )
    return InflationReport(name, depth, in_channels, backbone.image_size, errors)


@dataclass(frozen=True)
class EncoderDescription:
    """What a backbone costs and gives, at one image size.

    Attributes:
        name: timm's name.
        image_size: ``(H, W)`` in pixels.
        levels: Which of the backbone's feature maps it gives.
        channels: Channels of each map.
        strides: Pixels of the image per pixel of each map.
        parameters: Number of weights, in 2D; inflation adds to the stem alone.
        multiply_adds: Multiply-accumulate operations for one RGB image, in matrix products, convolutions and
            attention; inflation adds to the stem alone.
        pretrained: Whether timm publishes weights.
    """

    name: str
    image_size: tuple[int, int]
    levels: tuple[int, ...]
    channels: tuple[int, ...]
    strides: tuple[int, ...]
    parameters: int
    multiply_adds: int
    pretrained: bool


def list_encoders(pattern: str = "*") -> list[str]:
    """Names of timm's backbones that match a shell pattern, such as ``"*dinov2*"``.

    A few of them can't be inflated; :func:`describe_encoder` tells, in a fraction of a second for each.
    """
    return timm.list_models(pattern)


def describe_encoder(name: str, image_size: int | tuple[int, int] | None = None) -> EncoderDescription:
    """Size, cost and feature maps of a backbone, without computing anything.

    Args:
        name: timm's name.
        image_size: Pixels, one number or ``(H, W)``; none for about the size it was trained at.

    Raises:
        ModelError: There is no such backbone, or it can't be inflated.
        ConfigError: The backbone can't take this image size.
    """
    backbone = find_backbone(name, image_size)
    network = backbone.build_weightless().eval()
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        network(torch.empty(1, RGB, *backbone.image_size, device="meta"))
    return EncoderDescription(
        name,
        backbone.image_size,
        backbone.levels,
        backbone.channels,
        backbone.strides,
        parameters=sum(weight.numel() for weight in network.parameters()),
        multiply_adds=counter.get_total_flops() // 2,
        pretrained=timm.is_model_pretrained(name),
    )


def _inflate(
    network: nn.Module, rgb: nn.Module, name: str, *, depth: int, in_channels: int, inflation: Inflation
) -> None:
    """Copies all weights of ``rgb``, the backbone for RGB images, and inflates those of its stem."""
    weights = rgb.state_dict()
    for stem in stem_names(rgb, name):
        inflated = inflate_stem(weights[f"{stem}.weight"], depth, in_channels, inflation)
        weights[f"{stem}.weight"] = flatten_depth(inflated)
    network.load_state_dict(weights)


def _relative_error(found: Tensor, wanted: Tensor) -> float:
    return ((found - wanted).abs().max() / wanted.abs().max()).item()
