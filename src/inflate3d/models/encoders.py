"""2D backbones with a third dimension: windows of slices in, feature maps of the center slice out."""

from __future__ import annotations

import fnmatch
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import timm
import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from inflate3d.config import Inflation
from inflate3d.errors import ModelError
from inflate3d.models.backbone import RGB, Backbone
from inflate3d.models.backbones import find_backbone
from inflate3d.models.inflation import check_window
from inflate3d.models.weights import WeightsReport, load_backbone
from inflate3d.paper_encoders import PAPER_ENCODERS, resolved_weights

_ROUNDING = 1e-4


class Encoder(nn.Module):
    """An inflated backbone; :func:`create_encoder` makes it.

    Attributes:
        name: Name of the backbone, timm's where timm has it, also where a name of the paper's was asked for.
        arguments: What differs from the backbone of that name.
        depth: Slices of a window, ``D``.
        in_channels: Modalities, ``C``.
        image_size: ``(H, W)`` in pixels.
        inflation: How its stem was inflated.
        levels: Which of the backbone's feature maps it gives.
        stage_norms: Whether each map goes through a layer norm of its own.
        channels: Channels of each map.
        strides: Pixels of the image per pixel of each map.
        mean: Gray average of the mean that its 2D weights were trained with, on intensities from 0 to 1.
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
        stage_norms: bool = False,
        weights_report: WeightsReport | None = None,
    ) -> None:
        super().__init__()
        self.network = network
        self.backbone = backbone
        self.name = backbone.name
        self.arguments = dict(backbone.arguments)
        self.depth = depth
        self.in_channels = in_channels
        self.image_size = backbone.image_size
        self.inflation: Inflation = inflation
        self.levels = backbone.levels
        self.channels = backbone.channels
        self.strides = backbone.strides
        self.stage_norms = stage_norms
        self.norms = nn.ModuleList(_MapNorm(channels) for channels in backbone.channels if stage_norms)
        self.mean = backbone.gray_mean
        self.std = backbone.gray_deviation
        self.weights_report = weights_report

    def forward(self, windows: Float[Tensor, "b c d h w"]) -> list[Float[Tensor, "b _ _ _"]]:
        """Feature maps of the center slices.

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
        maps = self.backbone.feature_maps(self.network, windows)
        if not self.stage_norms:
            return maps
        return [norm(features) for norm, features in zip(self.norms, maps, strict=True)]


class _MapNorm(nn.LayerNorm):
    """A layer norm over the channels of a feature map."""

    def forward(self, input: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:  # noqa: A002 - torch's name
        return super().forward(input.movedim(1, -1)).movedim(-1, 1)


def create_encoder(
    name: str,
    *,
    depth: int = 5,
    in_channels: int = 1,
    image_size: int | tuple[int, int] = 224,
    inflation: Inflation = "center",
    weights: str | Path | None = "timm",
    levels: Sequence[int] | None = None,
    stage_norms: bool | None = None,
    arguments: Mapping[str, Any] | None = None,
) -> Encoder:
    """Builds a 2D backbone and inflates it to windows of slices.

    Args:
        name: timm's name, with or without a tag that chooses among its weights (``"resnet50.a1_in1k"``), or a name
            of the paper's (:data:`inflate3d.paper_encoders.PAPER_ENCODERS`: ``"beit"``, ``"swint"``, ...).
        depth: Slices of a window, odd.
        in_channels: Modalities.
        image_size: Pixels, one number or ``(H, W)``.
        inflation: How the stem's weight is spread over the slices; see
            :func:`inflate3d.models.inflation.inflate_stem`. Video Swin's kernels have a depth of their own, so that
            it makes no difference there.
        weights: ``"timm"`` for those that timm publishes, or that a name of the paper's stands for; a name that
            ``inflate3d weights`` lists; the path of a ``.safetensors`` or torch file; ``"none"`` or None for random
            ones, which are not inflated.
        levels: Which feature maps to give, by timm's number. None gives four evenly spaced blocks of a plain
            transformer (blocks 3, 6, 9, 12 of 12; without the final norm), the paper's blocks (4, 6, 8, 12) for its
            names, and of a hierarchical backbone the last map of each stride from 4 on.
        stage_norms: Whether each map goes through a fresh layer norm of its channels. None does so, as the paper's
            code, for hierarchical transformers, whose stages end in unnormalized sums.
        arguments: What shall differ from the backbone of that name, such as ``{"embed_dim": 48, "num_heads": 4}``.

    Raises:
        ModelError: There is no such backbone, it can't be inflated, or the weights can't be had or don't fit.
        ConfigError: The backbone can't take this image size, depth, or levels.
    """
    check_window(depth, in_channels)
    backbone = find_backbone(name, image_size, levels, arguments)
    network, report = backbone.build(in_channels, depth), None
    if weights is not None and (resolved := resolved_weights(name, str(weights))) != "none":
        rgb, report = load_backbone(backbone, resolved)
        backbone.inflate(network, rgb, depth=depth, in_channels=in_channels, inflation=inflation)
    return Encoder(
        network,
        backbone,
        depth=depth,
        in_channels=in_channels,
        inflation=inflation,
        stage_norms=backbone.takes_stage_norms(network) if stage_norms is None else stage_norms,
        weights_report=report,
    )


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
    """Measures that an inflated backbone computes what its original does, with random weights.

    With ``"center"``, the features of a window are those of its center slice as a gray RGB image, whatever
    the other slices show. With ``"average"``, the features of one slice repeated are those of that slice.
    Video Swin is no image's network: with either, they are those that its original gives of the whole window as a
    gray RGB clip. All hold to float32 rounding for every feature map, where all modalities show the same.

    Args:
        name: timm's name, or the paper's.
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
    network = backbone.build(in_channels, depth).eval()
    window = torch.randn(1, 1, depth, *backbone.image_size)
    center = window[:, :, depth // 2 : depth // 2 + 1]
    windows = {"center": window, "average": center.expand_as(window)}
    errors: dict[Inflation, float] = {}
    with torch.no_grad():
        for method in methods:
            gray = windows[method]
            wanted = backbone.feature_maps(rgb, backbone.as_original(gray))
            backbone.inflate(network, rgb, depth=depth, in_channels=in_channels, inflation=method)
            found = backbone.feature_maps(network, gray.expand(-1, in_channels, -1, -1, -1))
            errors[method] = max(_relative_error(*pair) for pair in zip(found, wanted, strict=True))
    for method, error in errors.items():
        if not error <= _ROUNDING:
            raise ModelError(
                f"inflating {name} by {method} changes what it computes",
                expected=f"feature maps of the original to a relative {_ROUNDING:g}",
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
            attention; inflation adds to the stem alone. For Video Swin: for a clip of two, the least it sees.
        pretrained: Whether weights are published.
        about: What a name of the paper's stands for; empty for timm's.
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
    """Names that match a shell pattern, such as ``"*dinov2*"``: the paper's first, then timm's backbones.

    A few of them can't be inflated; :func:`describe_encoder` tells, in a fraction of a second for each.
    """
    return [*fnmatch.filter(PAPER_ENCODERS, pattern), *timm.list_models(pattern)]


def describe_encoder(name: str, image_size: int | tuple[int, int] | None = None) -> EncoderDescription:
    """Size, cost and feature maps of a backbone, without computing anything.

    Args:
        name: timm's name, or the paper's.
        image_size: Pixels, one number or ``(H, W)``; none for about the size it was trained at.

    Raises:
        ModelError: There is no such backbone, or it can't be inflated.
        ConfigError: The backbone can't take this image size.
    """
    backbone = find_backbone(name, image_size)
    network = backbone.build_weightless().eval()
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        backbone.feature_maps(network, torch.empty(1, RGB, 1, *backbone.image_size, device="meta"))
    paper = PAPER_ENCODERS.get(name)
    return EncoderDescription(
        name,
        backbone.image_size,
        backbone.levels,
        backbone.channels,
        backbone.strides,
        parameters=sum(weight.numel() for weight in network.parameters()),
        multiply_adds=counter.get_total_flops() // 2,
        pretrained=paper.weights != "none" if paper else timm.is_model_pretrained(name),
        about=paper.about if paper else "",
    )


def _relative_error(found: Tensor, wanted: Tensor) -> float:
    return ((found - wanted).abs().max() / wanted.abs().max()).item()
