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

TIMM_ERRORS = (
    RuntimeError,
    AssertionError,
    TypeError,
    ValueError,
    LookupError,
    AttributeError,
    NotImplementedError,
)
"""What timm raises when a backbone can't do what is asked; it has no error class of its own."""

RGB = 3
"""Channels of the images that the backbones were made for."""

_PLAIN_LEVELS = 4
_FINEST_STRIDE = 4
_SIZES_TRIED = 16
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
        image_size: Pixels, one number or ``(H, W)``; none for the size that it was trained at.
        levels: Which of its feature maps to take. None takes four evenly spaced blocks of a plain transformer
            (blocks 3, 6, 9, 12 of 12), and of a hierarchical backbone the last map of each stride from 4 on.

    Raises:
        ModelError: There is no such backbone, or it has no feature maps of whole strides.
        ConfigError: It can't take this image size, or has no such levels.
    """
    size = _default_size(name)
    maps = _all_feature_maps(name, size)
    chosen = _default_levels([entry["reduction"] for entry in maps]) if levels is None else tuple(levels)
    if (
        not chosen
        or any(not 0 <= level < len(maps) for level in chosen)
        or list(chosen) != sorted(set(chosen))
    ):
        raise ConfigError(
            f"levels of {name} can't be used",
            expected=f"ascending numbers from 0 to {len(maps) - 1}",
            got=chosen,
        )
    if image_size is not None:
        size = (image_size, image_size) if isinstance(image_size, int) else (image_size[0], image_size[1])
    backbone = Backbone(
        name,
        size,
        chosen,
        channels=tuple(maps[level]["num_chs"] for level in chosen),
        strides=tuple(maps[level]["reduction"] for level in chosen),
    )
    if problem := _problem(backbone):
        _raise_unfit(backbone, problem)
    return backbone


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
    # Only timm's graph extractor, for convolutional backbones alone, doesn't state a layout.
    if getattr(network, "output_fmt", Format.NCHW) == Format.NHWC:
        return [features.permute(0, 3, 1, 2) for features in maps]
    return list(maps)


def _create(name: str, image_size: tuple[int, int], **arguments: Any) -> nn.Module:
    if published_settings(name).fixed_input_size:
        arguments["img_size"] = image_size
    return timm.create_model(name, **arguments)


def _default_size(name: str) -> tuple[int, int]:
    """Size that the weights were trained at. The first look at a name, so it tells of a wrong one."""
    known = timm.list_models()
    architecture, _, tag = name.partition(".")
    if architecture not in known:
        raise ModelError(
            f"no backbone is named {name}",
            expected=_nearest(architecture, known),
            remedy="`inflate3d encoders` lists all names",
        )
    tags = timm.list_models(f"{architecture}.*", include_tags=True)
    if tag and name not in tags:
        raise ModelError(f"no weights of {architecture} are named {tag}", expected=", ".join(tags))
    _, height, width = published_settings(name).input_size
    return height, width


def _nearest(name: str, known: list[str]) -> str:
    nearest = difflib.get_close_matches(name, known, n=5, cutoff=0.5)
    return "a name that timm knows" + (f", such as {', '.join(nearest)}" if nearest else "")


def _all_feature_maps(name: str, size: tuple[int, int]) -> list[dict[str, Any]]:
    try:
        with torch.device("meta"):
            info = getattr(_create(name, size), "feature_info", None)
    except TIMM_ERRORS as error:
        raise ModelError(f"timm can't build {name}", got=error) from error
    if not info:
        raise ModelError(
            f"{name} can't be an encoder", expected="feature maps", got="timm extracts none from it"
        )
    return list(info)


def _default_levels(strides: list[int]) -> tuple[int, ...]:
    if len(set(strides)) == 1:
        count = min(_PLAIN_LEVELS, len(strides))
        return tuple((part + 1) * len(strides) // count - 1 for part in range(count))
    last_of_stride = {stride: level for level, stride in enumerate(strides) if stride >= _FINEST_STRIDE}
    return tuple(last_of_stride.values())


def _problem(backbone: Backbone) -> str | None:
    """Why the backbone can't be run at its size; none when it can."""
    height, width = backbone.image_size
    step = max(backbone.strides)
    if height < step or width < step or height % step or width % step:
        return f"not a multiple of {step}, its largest stride"
    try:
        with torch.no_grad():
            maps = feature_maps(
                backbone.build_weightless().eval(), torch.empty(1, RGB, height, width, device="meta")
            )
    except TIMM_ERRORS as error:
        return f"timm says: {error}"
    expected = [
        (1, channels, height // stride, width // stride)
        for channels, stride in zip(backbone.channels, backbone.strides, strict=True)
    ]
    found = [tuple(features.shape) for features in maps]
    return None if found == expected else f"feature maps are {found} instead of {expected}"


def _raise_unfit(backbone: Backbone, problem: str) -> None:
    step = max(backbone.strides)
    height, width = backbone.image_size
    below = [(height // step - n, width // step - n) for n in range(_SIZES_TRIED)]
    above = [(-(-height // step) + n, -(-width // step) + n) for n in range(_SIZES_TRIED)]
    nearest = [size for steps in (below, above) if (size := _first_fit(backbone, step, steps))]
    if not nearest:
        raise ModelError(f"{backbone.name} can't be an encoder", got=problem)
    raise ConfigError(
        f"{backbone.name} can't take this image size",
        expected=" or ".join(f"{rows} x {columns}" for rows, columns in dict.fromkeys(nearest)),
        got=f"{height} x {width}: {problem}",
    )


def _first_fit(backbone: Backbone, step: int, steps: list[tuple[int, int]]) -> tuple[int, int] | None:
    for rows, columns in steps:
        size = (rows * step, columns * step)
        if _problem(dataclasses.replace(backbone, image_size=size)) is None:
            return size
    return None


def nearest_image_size(name: str, wanted: tuple[int, int]) -> tuple[int, int]:
    """The size nearest to a wanted one that a backbone can take; the larger of two equally near.

    Args:
        name: timm's name.
        wanted: ``(H, W)`` in pixels.

    Raises:
        ModelError: There is no such backbone, or it can't be an encoder.
        ConfigError: It can take no size near that.
    """
    step = max(find_backbone(name).strides)
    rows, columns = (max(1, math.floor(side / step + 0.5)) for side in wanted)
    offsets = [0, *(sign * n for n in range(1, _SIZES_TRIED) for sign in (1, -1))]
    for offset in offsets:
        size = ((rows + offset) * step, (columns + offset) * step)
        if min(size) > 0:
            try:
                return find_backbone(name, size).image_size
            except ConfigError:
                continue
    raise ConfigError(
        f"{name} can take no image size near {wanted[0]} x {wanted[1]}", remedy="give --image-size"
    )
