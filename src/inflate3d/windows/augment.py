"""Random augmentation of a batch of training windows, on their device, all windows at once."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from jaxtyping import Bool, Float, Integer, Shaped
from torch import Tensor

from inflate3d.config import AugmentationConfig
from inflate3d.windows.datamodule import WindowBatch
from inflate3d.windows.resample import (
    field_matrices,
    follow,
    inside_slices,
    normalize_and_resample,
    resample_labels,
)


def augment_batch(
    batch: WindowBatch,
    fields: Float[Tensor, "b 2"],
    size: tuple[int, int],
    config: AugmentationConfig,
    flips: Sequence[tuple[bool, bool, bool]],
    generator: torch.Generator,
) -> tuple[Float[Tensor, "b c d height width"], Integer[Tensor, "b votes s height width"]]:
    """Makes training samples from a batch: normalizes, augments and resizes windows, and labels alike.

    Args:
        batch: Samples on their slices' own pixels.
        fields: Height and width in millimeters of what the network's input shows of each.
        flips: Of each plane, whether the (depth, row, column) axis may be mirrored.

    Returns:
        Intensities from 0 to 1, exactly 0 beyond the slices, and class numbers (see `resample_labels`).
    """
    allowed = torch.tensor(flips, device=fields.device)[batch.axes]
    drawn = random_matrices(config, allowed, fields, generator)
    matrices = follow(drawn, field_matrices(batch.sides, fields, batch.centers))
    windows = normalize_and_resample(batch.windows, batch.ranges, matrices, size, batch.extents)
    labels = resample_labels(batch.labels, matrices, size, batch.extents)
    if any(depth for depth, _, _ in flips):
        windows, labels = mirror_depth(windows, labels, allowed[:, 0], config, generator)
    windows = change_intensities(windows, config, generator)
    farthest = matrices[..., :2].abs().sum(-1) + matrices[..., 2].abs()  # of the input's corners
    framed = (farthest > 1).any(-1)
    return _change_some(
        windows, framed, lambda some, by: some * inside_slices(by, size)[:, None, None], matrices
    ), labels


def random_matrices(
    config: AugmentationConfig,
    flips: Bool[Tensor, "b 3"],
    sides: Float[Tensor, "b 2"],
    generator: torch.Generator,
) -> Float[Tensor, "b 2 3"]:
    """Draws a plane geometry for each window: zoom, rotation, shift and flips, as one matrix.

    Args:
        config: How much of each.
        flips: Whether each window's (depth, row, column) axis may be mirrored; the depth is left to `mirror_depth`.
        sides: Height and width of each slice in millimeters, so that a rotation keeps shapes.
        generator: Random numbers, on the device of ``sides``.

    Returns:
        ``(B, 2, 3)``, output to input, normalized coordinates (see :mod:`inflate3d.windows.resample`).
    """
    draw = _Draw(len(sides), generator, sides.device)
    changed = draw.chance(config.augment_probability)
    angle = draw.between(-math.radians(config.max_rotation), math.radians(config.max_rotation)) * changed
    zoom = torch.exp(draw.between(-math.log(config.max_zoom), math.log(config.max_zoom)) * changed)
    shift = torch.stack([draw.between(-2 * config.max_shift, 2 * config.max_shift) for _ in range(2)], -1)
    mirror = [1 - 2 * draw.chance(config.flip_probability) * flips[:, axis] for axis in (2, 1)]

    height, width = sides[:, 0], sides[:, 1]
    cosine, sine = torch.cos(angle) / zoom, torch.sin(angle) / zoom
    linear = torch.stack(
        [
            torch.stack([cosine * mirror[0], -sine * height / width * mirror[1]], -1),
            torch.stack([sine * width / height * mirror[0], cosine * mirror[1]], -1),
        ],
        dim=1,
    )
    return torch.cat([linear, (shift * changed[:, None])[..., None]], dim=-1)


def mirror_depth(
    windows: Float[Tensor, "b c d h w"],
    labels: Integer[Tensor, "b votes s height width"],
    allowed: Bool[Tensor, " b"],
    config: AugmentationConfig,
    generator: torch.Generator,
) -> tuple[Float[Tensor, "b c d h w"], Integer[Tensor, "b votes s height width"]]:
    """Flips some of the allowed windows and their labels along the depth; the center slice stays in place.

    On a CPU the input arrays are modified in place, which saves memory traffic.
    """
    chosen = _Draw(len(windows), generator, windows.device).chance(config.flip_probability).bool() & allowed
    return (
        _change_some(windows, chosen, lambda some: some.flip(2)),
        _change_some(labels, chosen, lambda some: some.flip(2)),
    )


def change_intensities(
    windows: Float[Tensor, "b c d h w"], config: AugmentationConfig, generator: torch.Generator
) -> Float[Tensor, "b c d h w"]:
    """Gamma, scale, shift and noise on intensities from 0 to 1, which remain in that range.

    Each is the same for all slices of a window. The input is modified in place, which saves memory traffic on a CPU.
    """
    draw = _Draw(len(windows), generator, windows.device)
    often = config.intensity_probability

    def some(values: Tensor) -> Tensor:
        return (values * draw.chance(often))[:, None, None, None, None]

    gamma = torch.exp(some(draw.between(-math.log(config.max_gamma), math.log(config.max_gamma))))
    scale = 1 + some(draw.between(-config.max_intensity_scale, config.max_intensity_scale))
    shift = some(draw.between(-config.max_intensity_shift, config.max_intensity_shift))
    noise = some(draw.between(0.0, config.max_noise))
    changed = _change_some(windows, gamma.flatten() != 1, torch.pow, gamma)
    changed = changed.mul_(scale).add_(shift)

    def add_noise(windows: Tensor, noise: Tensor) -> Tensor:
        return torch.randn(windows.shape, generator=generator, device=windows.device).mul_(noise).add_(windows)

    return _change_some(changed, noise.flatten() != 0, add_noise, noise).clamp_(0, 1)


def _change_some(
    windows: Shaped[Tensor, "b *shape"],
    chosen: Bool[Tensor, " b"],
    change: Callable[..., Tensor],
    *by: Shaped[Tensor, "b ..."],
) -> Shaped[Tensor, "b *shape"]:
    """Changes the chosen windows. On a CPU the others cost nothing; on a GPU, asking which are chosen synchronizes.

    Args:
        windows: Any array of a batch; it may be written to.
        change: Takes windows, and what belongs to each.
        by: What belongs to each.
    """
    if windows.device.type != "cpu":
        return torch.where(chosen.view(-1, *[1] * (windows.ndim - 1)), change(windows, *by), windows)
    for index in chosen.nonzero().flatten().tolist():
        one = slice(index, index + 1)
        windows[one] = change(windows[one], *(each[one] for each in by))
    return windows


class _Draw:
    """Random numbers, one for each window of a batch."""

    def __init__(self, batch: int, generator: torch.Generator, device: torch.device) -> None:
        self.batch, self.generator, self.device = batch, generator, device

    def between(self, low: float, high: float) -> Float[Tensor, " b"]:
        return low + (high - low) * torch.rand(self.batch, generator=self.generator, device=self.device)

    def chance(self, probability: float) -> Float[Tensor, " b"]:
        """1 with the given probability, otherwise 0."""
        return (self.between(0.0, 1.0) < probability).float()
