"""timm's backbones as makers of feature maps: which exist, what they give, which image sizes they take."""

from __future__ import annotations

import dataclasses
import difflib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import timm
import torch
from jaxtyping import Float
from timm.layers.format import Format
from timm.layers.std_conv import ScaledStdConv2d, ScaledStdConv2dSame, StdConv2d, StdConv2dSame
from timm.models import PretrainedCfg
from torch import Tensor, nn

from inflate3d.errors import ConfigError, ModelError

TIMM_ERRORS = (RuntimeError, AssertionError, TypeError, ValueError, LookupError, AttributeError)
"""What timm raises when a backbone can't do what is asked; it has no error class of its own."""

RGB = 3
"""Channels of the images that the backbones were made for."""

_PLAIN_LEVELS = 4
_FINEST_STRIDE = 4
_SIZES_TRIED = 8
_STANDARDIZED = (StdConv2d, StdConv2dSame, ScaledStdConv2d, ScaledStdConv2dSame)


@dataclass(frozen=True)
class Backbone:
    """A timm backbone at one image size.

    Attributes:
        name: timm's name, with or without a tag (``"resnet50"``, ``"resnet50.a1_in1k"``).
        image_size: ``(H, W)`` in pixels.
        levels: Which of its feature maps are taken, as timm's ``out_indices``.
        channels: Channels of each map.
        strides: Pixels of the image per pixel of each map.
    """

    name: str
    image_size: tuple[int, int]
    levels: tuple[int, ...]
    channels: tuple[int, ...]
    strides: tuple[int, ...]

    def build(self, in_channels: int, **arguments: Any) -> nn.Module:
        """Builds the network that maps ``(B, in_channels, H, W)`` to a list of feature maps.

        Args:
            in_channels: Channels of the image.
            **arguments: More for :func:`timm.create_model`, such as ``pretrained``.
        """
        return _create(
            self.name,
            self.image_size,
            in_chans=in_channels,
            features_only=True,
            out_indices=self.levels,
            **arguments,
        )

    def build_weightless(self) -> nn.Module:
        """Builds the network for RGB on torch's meta device: names and shapes, no numbers."""
        with torch.device("meta"):
            return self.build(RGB)


def find_backbone(
    name: str, image_size: int | tuple[int, int] | None = None, levels: Sequence[int] | None = None
) -> Backbone:
    """Looks a backbone up and makes sure that it takes an image size; nothing is computed.

    Args:
        name: timm's name, with or without a tag.
        image_size: Pixels, one number or ``(H, W)``; none for about the size that it was trained at.
        levels: Which of its feature maps to take. None takes four evenly spaced blocks of a plain transformer
            (blocks 3, 6, 9, 12 of 12), and of a hierarchical backbone the last map of each stride from 4 on.

    Raises:
        ModelError: There is no such backbone, or it has no RGB convolution or no feature maps.
        ConfigError: It can't take this image size, or has no such levels.
    """
    backbone = _look_up(name, image_size, levels)
    if problem := _problem(backbone):
        raise ConfigError(
            f"{name} can't take this image size",
            expected=" or ".join(_text(size) for size in _sizes_around(backbone)),
            got=f"{_text(backbone.image_size)}: {problem}",
        )
    return backbone


def nearest_image_size(name: str, image_size: int | tuple[int, int]) -> tuple[int, int]:
    """The image size that a backbone takes and that is nearest to a wanted one.

    Args:
        name: timm's name, with or without a tag.
        image_size: Pixels, one number or ``(H, W)``.

    Returns:
        ``(H, W)`` in pixels.

    Raises:
        ModelError: There is no such backbone, or it can't be an encoder.
    """
    backbone = _look_up(name, image_size, None)
    height, width = backbone.image_size
    step = backbone.strides[-1]
    rounded = (max(1, round(height / step)) * step, max(1, round(width / step)) * step)
    if _problem(dataclasses.replace(backbone, image_size=rounded)) is None:
        return rounded
    return min(_sizes_around(backbone), key=lambda size: abs(size[0] - height) + abs(size[1] - width))


def published_settings(name: str) -> PretrainedCfg:
    """What timm keeps of a backbone's published weights: where they are, input size, mean and deviation."""
    settings = timm.get_pretrained_cfg(name)
    assert settings is not None, f"{name} is a name that timm knows"
    return settings


def stem_names(network: nn.Module, name: str) -> tuple[str, ...]:
    """Names of the convolutions that read the image: in a network for RGB, those of three input channels.

    Most backbones have one; a re-parameterized stem has several in parallel.

    Raises:
        ModelError: There is none, or it standardizes its own weight: inflation would change its result.
    """
    stems = {
        path: module
        for path, module in network.named_modules()
        if isinstance(module, nn.Conv2d) and module.in_channels == RGB
    }
    if not stems:
        raise ModelError(
            f"{name} can't be inflated",
            expected="a convolution that reads the RGB image",
            got="no such layer",
        )
    for path, module in stems.items():
        if isinstance(module, _STANDARDIZED):
            raise ModelError(
                f"{name} can't be inflated",
                expected="a first convolution that uses its weight as it is",
                got=f"{path} is a {type(module).__name__}, which standardizes its weight",
            )
    return tuple(stems)


def feature_maps(network: nn.Module, images: Float[Tensor, "b n h w"]) -> list[Float[Tensor, "b c _ _"]]:
    """Runs a network from :meth:`Backbone.build`; channels come first, whatever its own layout is."""
    maps = network(images)
    # The extractors of EfficientNet, MobileNet and HRNet state no layout; theirs is the usual one.
    if getattr(network, "output_fmt", Format.NCHW) == Format.NHWC:
        return [features.permute(0, 3, 1, 2) for features in maps]
    return list(maps)


def _look_up(name: str, image_size: int | tuple[int, int] | None, levels: Sequence[int] | None) -> Backbone:
    _check_name(name)
    _, *trained_at = published_settings(name).input_size
    maps = _all_feature_maps(name, (trained_at[0], trained_at[1]))
    strides = [entry["reduction"] for entry in maps]
    chosen = _default_levels(strides) if levels is None else tuple(levels)
    if not chosen or list(chosen) != sorted(set(chosen)) or not set(chosen) <= set(range(len(maps))):
        raise ConfigError(
            f"levels of {name} can't be used",
            expected=f"ascending numbers from 0 to {len(maps) - 1}",
            got=chosen,
        )
    step = strides[chosen[-1]]
    if image_size is None:
        height, width = (-(-side // step) * step for side in trained_at)
    else:
        height, width = (image_size, image_size) if isinstance(image_size, int) else image_size
    return Backbone(
        name,
        image_size=(height, width),
        levels=chosen,
        channels=tuple(maps[level]["num_chs"] for level in chosen),
        strides=tuple(strides[level] for level in chosen),
    )


def _check_name(name: str) -> None:
    architectures = timm.list_models()
    architecture, _, tag = name.partition(".")
    if architecture not in architectures:
        similar = difflib.get_close_matches(architecture, architectures, n=5, cutoff=0.5)
        raise ModelError(
            f"no backbone is named {name}",
            expected="a name that timm knows" + (f", such as {', '.join(similar)}" if similar else ""),
            remedy="`inflate3d encoders` lists all names",
        )
    tagged = timm.list_models(f"{architecture}.*", include_tags=True)
    if tag and name not in tagged:
        raise ModelError(f"no weights of {architecture} are named {tag}", expected=", ".join(tagged))


def _all_feature_maps(name: str, image_size: tuple[int, int]) -> list[dict[str, Any]]:
    """What timm says of every feature map that it can extract, coarsest last."""
    try:
        with torch.device("meta"):
            network = _create(name, image_size, in_chans=RGB)
    except TIMM_ERRORS as error:
        raise ModelError(f"timm can't build {name}", got=error) from error
    maps = getattr(network, "feature_info", None)
    if not maps:
        raise ModelError(f"{name} can't be an encoder", expected="feature maps", got="timm extracts none from it")
    stem_names(network, name)
    return list(maps)


def _create(name: str, image_size: tuple[int, int], **arguments: Any) -> nn.Module:
    if published_settings(name).fixed_input_size:
        arguments["img_size"] = image_size
    return timm.create_model(name, **arguments)


def _default_levels(strides: list[int]) -> tuple[int, ...]:
    if len(set(strides)) == 1:
        count = min(_PLAIN_LEVELS, len(strides))
        return tuple((part + 1) * len(strides) // count - 1 for part in range(count))
    last_of_stride = {stride: level for level, stride in enumerate(strides) if stride >= _FINEST_STRIDE}
    return tuple(last_of_stride.values())


def _problem(backbone: Backbone) -> str | None:
    """Why the backbone can't be run at its image size; none when it can."""
    height, width = backbone.image_size
    step = backbone.strides[-1]
    if min(height, width) < step or height % step or width % step:
        return f"not a multiple of {step}, its largest stride"
    images = torch.empty(1, RGB, height, width, device="meta")
    try:
        with torch.no_grad():
            maps = feature_maps(backbone.build_weightless().eval(), images)
    except TIMM_ERRORS as error:
        return f"timm says: {str(error) or type(error).__name__}"
    expected = [
        (1, channels, height // stride, width // stride)
        for channels, stride in zip(backbone.channels, backbone.strides, strict=True)
    ]
    found = [tuple(features.shape) for features in maps]
    return None if found == expected else f"feature maps are {found} instead of {expected}"


def _sizes_around(backbone: Backbone) -> list[tuple[int, int]]:
    """The image sizes that fit next at or below the backbone's and at or above it, one or two."""
    step = backbone.strides[-1]
    height, width = (side / step for side in backbone.image_size)
    below = [(math.floor(height) - n, math.floor(width) - n) for n in range(_SIZES_TRIED)]
    above = [(math.ceil(height) + n, math.ceil(width) + n) for n in range(_SIZES_TRIED)]
    around: list[tuple[int, int]] = []
    problems: list[str] = []
    for steps in (below, above):
        for rows, columns in steps:
            size = (rows * step, columns * step)
            problem = _problem(dataclasses.replace(backbone, image_size=size))
            if problem is None:
                around.append(size)
                break
            problems.append(f"at {_text(size)}: {problem}")
    if not around:
        raise ModelError(
            f"{backbone.name} can't be an encoder",
            expected="feature maps as large as the image divided by their strides",
            got=problems[-1],
        )
    return list(dict.fromkeys(around))


def _text(image_size: tuple[int, int]) -> str:
    height, width = image_size
    return f"{height} x {width}"
