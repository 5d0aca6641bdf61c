"""2D backbones with a third dimension: from windows of slices to feature maps of the center slice."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from inflate3d.config import Inflation
from inflate3d.errors import ConfigError, ModelError
from inflate3d.models.architecture import Architecture
from inflate3d.models.backbone import Backbone
from inflate3d.models.backbones import find_backbone
from inflate3d.models.checkpoint import find_model_folder, read_model_folder
from inflate3d.models.default_type import float32_by_default
from inflate3d.models.hub import local_model
from inflate3d.models.inflation import check_window
from inflate3d.models.weights import WeightsReport, load_backbone
from inflate3d.named_encoders import resolved_weights


class Encoder(nn.Module):
    """An inflated backbone, see :func:`create_encoder`.

    Attributes:
        name: Name of the backbone; timm's if timm has it, even if it was requested by another name.
        arguments: Arguments that differ from the backbone of that name.
        depth: Slices of a window, ``D``.
        in_channels: Modalities, ``C``.
        image_size: ``(H, W)`` in pixels.
        inflation: How its stem was inflated.
        levels: Numbers of the backbone's feature maps that it returns.
        stage_norms: Whether each map has an additional layer norm.
        channels: Channels of each map.
        strides: Pixels of the image per pixel of each map.
        mean: Mean of gray intensities (0 to 1) that its 2D weights were trained with. The caller normalizes windows
            with it; the encoder doesn't.
        std: The standard deviation, likewise.
        weights_report: How its 2D weights were loaded; None without 2D weights.

    Examples:
        >>> encoder = create_encoder("resnet10t", depth=3, image_size=64, weights="none")
        >>> encoder.strides, encoder.channels
        ((4, 8, 16, 32), (64, 128, 256, 512))
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
        self.std = backbone.gray_std
        self.weights_report = weights_report

    def forward(self, windows: Float[Tensor, "b c d h w"]) -> list[Float[Tensor, "b _ _ _"]]:
        """Feature maps of the center slices.

        Args:
            windows: ``(B, C, D, H, W)``.

        Returns:
            One map ``(B, channels[i], H / strides[i], W / strides[i])`` per level, finest first.

        Raises:
            ModelError: The number of modalities or slices does not match the encoder.
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


@float32_by_default()
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
    """Builds a 2D backbone and inflates it for windows of slices.

    Args:
        name: timm's name, with or without the tag of its weights (``"resnet50.a1_in1k"``), or one of
            :data:`inflate3d.named_encoders.NAMED_ENCODERS` (``"beit"``, ``"rad-dino"``, ...).
        depth: Slices of a window, odd.
        in_channels: Modalities.
        image_size: Pixels, one number or ``(H, W)``.
        inflation: How the stem's weight is spread over the slices; see
            :func:`inflate3d.models.inflation.inflate_stem`. Video Swin's kernels are 3D already, so it has no effect
            there.
        weights: ``"timm"`` for the published ones of timm or of a name that implies its own; a name that
            ``inflate3d weights`` lists; the path of a ``.safetensors`` or torch file; the folder of your own run,
            whose trained encoder is used unchanged; ``"none"`` or None for random weights, which are not inflated.
        levels: timm's numbers of the feature maps to return. None: four evenly spaced blocks of a plain transformer
            (3, 6, 9 and 12 of 12, without the final norm), the paper's blocks (4, 6, 8, 12) for the paper's names,
            and for a hierarchical backbone the last map of each stride from 4 on.
        stage_norms: Whether to add a new layer norm to each map. None: for hierarchical transformers, whose stages end
            in unnormalized sums, as in the paper's code.
        arguments: Arguments that differ from the backbone of that name, such as ``{"embed_dim": 48, "num_heads": 4}``.

    Raises:
        ModelError: The backbone is unknown or can't be inflated, or the weights are not available or don't fit.
        ConfigError: The backbone does not support this image size, depth, or these levels.

    Examples:
        >>> encoder = create_encoder("resnet10t", depth=3, in_channels=2, image_size=64, weights="none")
        >>> windows = torch.zeros(1, 2, 3, 64, 64)  # (batch, modalities, slices, rows, columns)
        >>> [tuple(each.shape) for each in encoder(windows)]
        [(1, 64, 16, 16), (1, 128, 8, 8), (1, 256, 4, 4), (1, 512, 2, 2)]
    """
    check_window(depth, in_channels)
    backbone = find_backbone(name, image_size, levels, arguments)
    network, report = backbone.build(in_channels, depth), None
    trained = find_model_folder(local_model(weights)) if weights is not None else None
    if trained is None and weights is not None and (resolved := resolved_weights(name, str(weights))) != "none":
        rgb, report = load_backbone(backbone, resolved)
        backbone.inflate(network, rgb, depth=depth, in_channels=in_channels, inflation=inflation)
    encoder = Encoder(
        network,
        backbone,
        depth=depth,
        in_channels=in_channels,
        inflation=inflation,
        stage_norms=backbone.takes_stage_norms(network) if stage_norms is None else stage_norms,
        weights_report=report,
    )
    if trained is not None:
        _load_trained(encoder, trained)
    return encoder


def _load_trained(encoder: Encoder, folder: Path) -> None:
    """Loads the encoder of a trained model, which is inflated already."""
    saved = read_model_folder(folder)
    tensors = {
        name.removeprefix("encoder."): tensor for name, tensor in saved.tensors.items() if name.startswith("encoder.")
    }
    expected = {name: tuple(tensor.shape) for name, tensor in encoder.state_dict().items()}
    found = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    about = saved.architecture
    if not isinstance(about, Architecture) or about.encoder != encoder.name or expected != found:
        raise ModelError(
            "the trained model has another encoder",
            expected=_words(encoder.name, encoder.in_channels, encoder.depth, encoder.image_size),
            got=_words(about.encoder, about.in_channels, about.depth, about.image_size)
            if isinstance(about, Architecture)
            else f"a 3D network, {about.network}",
            hint="choose the same --encoder, --depth and --image-size, and the same modalities",
            file=folder,
        )
    encoder.load_state_dict(tensors)
    names = tuple(f"network.{name}" for name in encoder.network.state_dict())
    encoder.weights_report = WeightsReport(str(folder), "a trained model", names, (), (), ())


def _words(name: str, in_channels: int, depth: int, image_size: tuple[int, int]) -> str:
    return f"{name}, {in_channels} modalities, {depth} slices, {image_size[0]} x {image_size[1]} pixels"


def checkpoint_activations(network: nn.Module, name: str) -> None:
    """Makes a backbone keep only the inputs of its blocks, and recompute the rest in the backward pass.

    This saves memory and takes more time (Chen et al. 2016, arXiv:1604.06174); gradients stay the same. timm's networks
    implement it.
    """
    holders = [module for module in network.modules() if hasattr(module, "grad_checkpointing")]
    # timm's wrapper would take whole stages; where there are blocks within them, those need less memory.
    holders = [module for module in holders if module is not network] or holders
    batch_norms = any(isinstance(module, _BatchNorm) for module in network.modules())
    if not holders or batch_norms:
        raise ConfigError(
            f"{name} does not support activation checkpointing",
            expected="a backbone of timm with blocks and without batch norm, such as ViT, BEiT, Swin or ConvNeXt",
            got="batch norm, which would see each batch twice" if batch_norms else "no blocks to recompute",
            hint="omit --checkpoint-activations; a smaller --batch-size with --accumulate saves memory, too",
        )
    for module in holders:
        module.grad_checkpointing = True  # type: ignore[assignment]
