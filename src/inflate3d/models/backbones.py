"""The available backbones, timm's and others with their own names, and the image sizes that they accept."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from inflate3d.errors import ConfigError, ModelError
from inflate3d.models.backbone import RGB, Backbone
from inflate3d.models.timm_backbones import BUILD_ERRORS, look_up_timm
from inflate3d.models.video_swin import look_up_video_swin
from inflate3d.named_encoders import NAMED_ENCODERS, VIDEO_SWIN

_SIZES_TRIED = 8


def find_backbone(
    name: str,
    image_size: int | tuple[int, int] | None = None,
    levels: Sequence[int] | None = None,
    arguments: Mapping[str, Any] | None = None,
) -> Backbone:
    """Looks up a backbone and checks that it supports an image size; computes nothing.

    Args:
        name: A name of :data:`inflate3d.named_encoders.NAMED_ENCODERS`, or timm's, with or without a tag.
        image_size: Pixels, one number or ``(H, W)``; None: about the size it was trained at.
        levels: Numbers of its feature maps to use. None: the paper's for the paper's names; otherwise four evenly
            spaced blocks of a plain transformer (3, 6, 9 and 12 of 12), or the last map of each stride from 4 on of a
            hierarchical backbone.
        arguments: Arguments that differ from the backbone of that name, such as ``{"embed_dim": 48, "num_heads": 4}``.
    """
    backbone = _look_up(name, image_size, levels, arguments or {})
    if problem := _problem(backbone):
        if image_size is None:
            return dataclasses.replace(backbone, image_size=_nearest(backbone))
        raise ConfigError(
            f"{name} does not support this image size",
            expected=" or ".join(_text(size) for size in _sizes_around(backbone)),
            got=f"{_text(backbone.image_size)}: {problem}",
        )
    return backbone


def nearest_image_size(name: str, image_size: int | tuple[int, int]) -> tuple[int, int]:
    """The supported image size nearest to a given one.

    Args:
        name: As for :func:`find_backbone`.
        image_size: Pixels, one number or ``(H, W)``.

    Returns:
        ``(H, W)`` in pixels.
    """
    backbone = _look_up(name, image_size, None, {})
    height, width = backbone.image_size
    step = backbone.strides[-1]
    rounded = (max(1, round(height / step)) * step, max(1, round(width / step)) * step)
    return rounded if _problem(dataclasses.replace(backbone, image_size=rounded)) is None else _nearest(backbone)


def _look_up(
    name: str, image_size: int | tuple[int, int] | None, levels: Sequence[int] | None, arguments: Mapping[str, Any]
) -> Backbone:
    named = NAMED_ENCODERS.get(name)
    if named:
        name, levels = named.backbone, named.levels if levels is None else levels
    if name == VIDEO_SWIN:
        return look_up_video_swin(image_size, levels, arguments)
    backbone = look_up_timm(name, image_size, levels, arguments)
    return dataclasses.replace(backbone, intensities=named.intensities) if named else backbone


def _problem(backbone: Backbone) -> str | None:
    """Why the backbone can't be run at its image size; None if it can."""
    height, width = backbone.image_size
    step = backbone.strides[-1]
    if min(height, width) < step or not _is_regular(backbone):
        return f"not a multiple of {step}, its largest stride"
    windows = torch.empty(1, RGB, 1, height, width, device="meta")
    try:
        with torch.no_grad():
            maps = backbone.feature_maps(backbone.build_weightless().eval(), windows)
    except BUILD_ERRORS as error:
        return f"it can't be built: {str(error) or type(error).__name__}"
    expected = [
        (1, channels, height // stride, width // stride)
        for channels, stride in zip(backbone.channels, backbone.strides, strict=True)
    ]
    found = [tuple(features.shape) for features in maps]
    return None if _almost_equal(found, expected) else f"feature maps are {found} instead of {expected}"


def _is_regular(backbone: Backbone) -> bool:
    """Whether a size is a multiple of the largest stride, or of the size that the backbone was trained at."""
    steps = (backbone.strides[-1], backbone.strides[-1]), backbone.trained_at
    return any(all(side % step == 0 for side, step in zip(backbone.image_size, pair, strict=True)) for pair in steps)


def _almost_equal(found: list[tuple[int, ...]], expected: list[tuple[int, int, int, int]]) -> bool:
    """Whether maps have the right channels and, to a pixel, the right size: unpadded stems lose a border pixel."""
    return len(found) == len(expected) and all(
        len(a) == 4 and a[:2] == b[:2] and min(a) > 0 and max(abs(a[2] - b[2]), abs(a[3] - b[3])) <= 1
        for a, b in zip(found, expected, strict=True)
    )


def _nearest(backbone: Backbone) -> tuple[int, int]:
    height, width = backbone.image_size
    return min(_sizes_around(backbone), key=lambda size: abs(size[0] - height) + abs(size[1] - width))


def _sizes_around(backbone: Backbone) -> list[tuple[int, int]]:
    """The nearest supported image sizes, one at or below the backbone's and one at or above it."""
    problems: list[str] = []
    step = backbone.strides[-1]
    around = _nearest_fits(backbone, (step, step), problems) or _nearest_fits(backbone, backbone.trained_at, problems)
    if not around:
        raise ModelError(
            f"{backbone.name} can't be an encoder",
            expected="feature maps as large as the image divided by their strides",
            got=problems[-1],
        )
    return around


def _nearest_fits(backbone: Backbone, unit: tuple[int, int], problems: list[str]) -> list[tuple[int, int]]:
    """The nearest multiples of a size that work, below and above the backbone's."""
    height, width = (side / step for side, step in zip(backbone.image_size, unit, strict=True))
    below = [(math.floor(height) - n, math.floor(width) - n) for n in range(_SIZES_TRIED)]
    above = [(math.ceil(height) + n, math.ceil(width) + n) for n in range(_SIZES_TRIED)]
    around: list[tuple[int, int]] = []
    for multiples in (below, above):
        for rows, columns in multiples:
            size = (rows * unit[0], columns * unit[1])
            if min(size) < 1:
                continue
            problem = _problem(dataclasses.replace(backbone, image_size=size))
            if problem is None:
                around.append(size)
                break
            problems.append(f"at {_text(size)}: {problem}")
    return list(dict.fromkeys(around))


def _text(image_size: tuple[int, int]) -> str:
    height, width = image_size
    return f"{height} x {width}"
