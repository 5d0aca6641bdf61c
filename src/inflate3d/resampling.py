"""Interpolation of volumes on other grids, and of stacks of slices at other counts.

Thick slices have a rule of their own, nnU-Net's (Isensee et al., Nature Methods 18, 203-211, 2021; its
``ANISO_THRESHOLD``): where the largest spacing is more than three times the smallest, a curve through neighboring
slices would overshoot, because they show different anatomy. So the volume is interpolated within each slice, and
from slice to slice with an order of its own.

Outside the centers of the outermost voxels, up to their outer edges, values are the outermost voxels' own. Nothing
is smoothed before voxels are made larger.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import product
from typing import Literal

import numpy as np
from jaxtyping import Bool, Float, Int, Shaped

from inflate3d.errors import ConfigError, DataError
from inflate3d.volume import Grid, Volume

THICK_RATIO = 3.0
"""Slices are thick where the largest spacing is more than this many times the smallest."""

_ROUNDING = 1e-6
"""Positions (in voxels) and shares of classes that differ by less are equal, but for rounding."""


def resample_image(
    volume: Volume, grid: Grid, *, order: Literal[1, 3] = 3, thick_order: Literal[0, 1] = 1, fill: float | int = 0
) -> Volume:
    """Interpolates an image on another grid, which may be turned against its own in any way.

    Args:
        volume: ``(C, I, J, K)``.
        grid: Where to, such as ``volume.grid.at_spacing((1.0, 1.0, 1.0))``.
        order: Of the interpolation: 1 linear, 3 cubic splines.
        thick_order: Of the interpolation from slice to slice where slices are thick: 0 nearest, 1 linear.
        fill: Value of voxels whose center lies outside the volume.

    Returns:
        The image on the grid, float32; the volume itself if it lies there already.

    Raises:
        ConfigError: An order is not one of those.
        DataError: The volume's affine can't be inverted.
    """
    _check_orders(order, (1, 3), thick_order)
    if grid == volume.grid:
        return volume
    # one order along all axes is the plain interpolation in three dimensions
    thick = None if thick_order == order else _thick_axis_between(volume.grid, grid)
    array = np.empty((len(volume.array), *grid.shape), np.float32)
    for channel, resampled in zip(volume.array, array, strict=True):
        coefficients = _spline_coefficients(channel, order, thick)
        for plane, points in _planes(volume.grid, grid, thick, resampled):
            if thick is None:
                values = _evaluate(coefficients, points, order)
            else:
                values = _evaluate_between_slices(coefficients, points, order, thick, thick_order)
            plane[...] = np.where(_is_inside(points, volume.shape), values, fill)
    return replace(volume, array=array, affine=grid.affine)


def resample_labels(labels: Volume, grid: Grid, *, order: Literal[0, 1] = 1, thick_order: Literal[0, 1] = 0) -> Volume:
    """Interpolates a label map on another grid, which may be turned against its own in any way.

    With order 1 each voxel takes the class whose mask, interpolated linearly, is largest there; of several equal
    ones the lowest number. The masks are never made: a voxel has at most eight neighbors to take from.

    Args:
        labels: ``(C, I, J, K)``, integers; C is 1 for one label map.
        grid: Where to, such as the ``grid`` of the scan that the labels are of.
        order: Of the interpolation: 0 nearest voxel, 1 linear.
        thick_order: Of the interpolation from slice to slice where slices are thick, if the order is 1: 0 or 1.

    Returns:
        The labels on the grid, of the same type, 0 where a voxel's center lies outside the volume; the volume itself
        if it lies there already.

    Raises:
        ConfigError: An order is not one of those.
        DataError: The labels are not integers, or their affine can't be inverted.
    """
    _check_orders(order, (0, 1), thick_order)
    if labels.array.dtype.kind not in "iub":
        raise DataError(
            "only whole numbers can be resampled as labels",
            expected="an array of integers",
            got=str(labels.array.dtype),
            hint="read the file with read_labels, or convert the array",
        )
    if grid == labels.grid:
        return labels
    thick = _thick_axis_between(labels.grid, grid)
    orders = [min(order, thick_order) if axis == thick else order for axis in range(3)]
    array = np.empty((len(labels.array), *grid.shape), labels.array.dtype)
    for channel, resampled in zip(labels.array, array, strict=True):
        for plane, points in _planes(labels.grid, grid, thick, resampled):
            plane[...] = np.where(_is_inside(points, labels.shape), _vote(channel, points, orders), 0)
    return replace(labels, array=array, affine=grid.affine)


def thick_axis(spacing: tuple[float, float, float]) -> int | None:
    """The axis through thick slices, or None: its spacing is more than three times the smallest, and the only largest.

    Args:
        spacing: Millimeters between voxels, in array order.
    """
    smallest, middle, largest = sorted(spacing)
    if largest <= THICK_RATIO * smallest or np.isclose(middle, largest, rtol=1e-3):
        return None
    return spacing.index(largest)


def slice_weights(
    length_from: int, length_to: int
) -> tuple[Int[np.ndarray, "to"], Int[np.ndarray, "to"], Float[np.ndarray, "to"]]:
    """How to interpolate a stack of slices linearly at another count, between the same outer edges.

    Args:
        length_from: Number of slices that there are.
        length_to: Number of slices wanted.

    Returns:
        ``lower``, ``upper`` and ``weight``, each ``(length_to,)``: slice ``n`` is ``(1 - weight[n])`` times slice
        ``lower[n]`` plus ``weight[n]`` times slice ``upper[n]`` of those that there are. The ends are repeated.
    """
    # twice the wanted count times the position, in whole numbers: equal counts give whole positions, to the bit
    scaled = (2 * np.arange(length_to) + 1) * length_from - length_to
    return _neighbors(scaled / (2 * length_to), length_from)


def nearest_slices(length_from: int, length_to: int) -> Int[np.ndarray, "to"]:
    """For each slice of a stack of another count, between the same outer edges, the nearest that there is.

    Label maps go there and back by them; to a larger count and back they come back as they were.

    Args:
        length_from: Number of slices that there are.
        length_to: Number of slices wanted.

    Returns:
        ``(length_to,)``, indices of slices that there are; halfway between two, the upper one.
    """
    lower, upper, weight = slice_weights(length_from, length_to)
    return np.where(weight < 0.5, lower, upper)


def resample_slices(array: Shaped[np.ndarray, "*batch d h w"], count: int) -> Shaped[np.ndarray, "*batch {count} h w"]:
    """Interpolates a stack of slices linearly at another count, between the same outer edges.

    Args:
        array: ``(..., D, H, W)``.
        count: Number of slices wanted.

    Returns:
        ``(..., count, H, W)``, float32, or of the array's own floating type; the array itself if it has that count.
    """
    length = array.shape[-3]
    if count == length:
        return array
    dtype = array.dtype if array.dtype.kind == "f" else np.dtype(np.float32)
    resampled = np.empty((*array.shape[:-3], count, *array.shape[-2:]), dtype)
    for index, (lower, upper, weight) in enumerate(zip(*slice_weights(length, count), strict=True)):
        below, above = (array[..., side, :, :].astype(dtype) for side in (lower, upper))
        resampled[..., index, :, :] = below * dtype.type(1 - weight) + above * dtype.type(weight)
    return resampled


def _check_orders(order: int, orders: tuple[int, ...], thick_order: int) -> None:
    for name, got, allowed in (("order", order, orders), ("thick_order", thick_order, (0, 1))):
        if got not in allowed:
            raise ConfigError(f"there is no such {name} of interpolation", expected=f"one of {allowed}", got=got)


def _thick_axis_between(source: Grid, target: Grid) -> int | None:
    """The source's axis through thick slices: its own, else the one that runs most along the target's."""
    own = thick_axis(source.spacing)
    other = thick_axis(target.spacing)
    if own is not None or other is None:
        return own
    return int(np.abs(np.linalg.solve(source.affine, target.affine)[:3, other]).argmax())


def _planes(
    source: Grid, target: Grid, thick: int | None, array: Shaped[np.ndarray, "i j k"]
) -> Iterator[tuple[Shaped[np.ndarray, "h w"], Float[np.ndarray, "3 h w"]]]:
    """The planes of an array on the target grid as views, and where their voxels lie, in voxels of the source.

    They lie along the source's thick slices as nearly as they can, so that each meets few of these.
    """
    to_source = np.linalg.solve(source.affine, target.affine)[:3]
    leading = 0 if thick is None else int(np.abs(to_source[thick, :3]).argmax())
    planes = np.moveaxis(array, leading, 0)
    first, second = (axis for axis in range(3) if axis != leading)
    rows, columns = np.indices(planes.shape[1:])
    step, down, right, origin = (to_source[:, axis, None, None] for axis in (leading, first, second, 3))
    corner = origin + down * rows + right * columns
    for index, plane in enumerate(planes):
        yield plane, corner + step * index


def _is_inside(points: Float[np.ndarray, "3 h w"], shape: tuple[int, int, int]) -> Bool[np.ndarray, "h w"]:
    """Whether points lie between the outer edges of the outermost voxels."""
    behind = np.array(shape)[:, None, None] - 0.5
    return np.all((points >= -0.5 - _ROUNDING) & (points <= behind + _ROUNDING), axis=0)


def _neighbors(
    positions: Float[np.ndarray, "*points"], length: int
) -> tuple[Int[np.ndarray, "*points"], Int[np.ndarray, "*points"], Float[np.ndarray, "*points"]]:
    """The voxels below and above positions along an axis, and the share of the one above; the ends are repeated."""
    clipped = positions.clip(0, length - 1)
    lower = clipped.astype(np.int64)
    return lower, np.minimum(lower + 1, length - 1), clipped - lower


def _nearest(positions: Float[np.ndarray, "*points"], length: int) -> Int[np.ndarray, "*points"]:
    """The voxel nearest to positions along an axis; halfway between two, the upper one."""
    return np.floor(positions + 0.5 + _ROUNDING).clip(0, length - 1).astype(np.int64)


def _spline_coefficients(
    channel: Shaped[np.ndarray, "i j k"], order: int, thick: int | None
) -> Float[np.ndarray, "i j k"]:
    """What `_evaluate` wants: the values themselves for linear interpolation; splines lie within thick slices."""
    from scipy.ndimage import spline_filter1d

    coefficients = channel.astype(np.float32)
    if order > 1:
        for axis in range(3):
            if axis != thick:
                spline_filter1d(coefficients, order, axis, output=coefficients)  # pyright: ignore[reportArgumentType]
    return coefficients


def _evaluate(
    coefficients: Float[np.ndarray, "*source"], points: Float[np.ndarray, "axes *points"], order: int
) -> Float[np.ndarray, "*points"]:
    """The spline at points, ``(axes, ...)`` in voxels; beyond the outermost centers it goes on as it is there."""
    from scipy.ndimage import map_coordinates

    last = np.array(coefficients.shape).reshape(-1, *[1] * (points.ndim - 1)) - 1
    within = points.clip(0, last)
    return map_coordinates(coefficients, within, order=order, mode="mirror", prefilter=False, output=np.float32)


def _evaluate_between_slices(
    coefficients: Float[np.ndarray, "i j k"],
    points: Float[np.ndarray, "3 h w"],
    order: int,
    thick: int,
    thick_order: int,
) -> Float[np.ndarray, "h w"]:
    """The splines of the thick slices next to each point, mixed by their nearness."""
    slices = np.moveaxis(coefficients, thick, 0)
    lower, upper, weight = _neighbors(points[thick], len(slices))
    if thick_order == 0:
        lower = upper = _nearest(points[thick], len(slices))
    in_plane = np.delete(points, thick, axis=0)
    values = np.zeros(points.shape[1:], np.float32)
    for index in range(int(lower.min()), int(upper.max()) + 1):
        share = np.where(lower == index, 1 - weight, 0) + np.where(upper == index, weight, 0)
        near = share > 0
        values[near] += share[near] * _evaluate(slices[index], in_plane[:, near], order)
    return values


def _vote(
    labels: Shaped[np.ndarray, "i j k"], points: Float[np.ndarray, "3 h w"], orders: list[int]
) -> Shaped[np.ndarray, "h w"]:
    """The class with the largest share in the voxels around each point; of several equal ones the lowest number."""
    choices = []
    for positions, length, order in zip(points, labels.shape, orders, strict=True):
        lower, upper, weight = _neighbors(positions, length)
        nearest = [(_nearest(positions, length), np.ones_like(weight))]
        choices.append(nearest if order == 0 else [(lower, 1 - weight), (upper, weight)])
    around = list(product(*choices))
    found = np.stack([labels[i, j, k] for (i, _), (j, _), (k, _) in around])
    shares = np.stack([along_i * along_j * along_k for (_, along_i), (_, along_j), (_, along_k) in around])
    winner = found[0]
    mixed = (found != winner).any(axis=0)
    winner[mixed] = _largest_share(found[:, mixed], shares[:, mixed])
    return winner


def _largest_share(
    found: Shaped[np.ndarray, "voxels points"], shares: Float[np.ndarray, "voxels points"]
) -> Shaped[np.ndarray, "points"]:
    winner, best = found[0].copy(), np.zeros(found.shape[1])
    for value in np.unique(found):
        share = np.where(found == value, shares, 0).sum(axis=0)
        is_better = share > best + _ROUNDING
        winner[is_better], best[is_better] = value, share[is_better]
    return winner
