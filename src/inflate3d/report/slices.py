"""Pictures of slices, as PNG files in memory: outlines of classes, and areas of wrong predictions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Bool, Float, Integer, Shaped, UInt8

from inflate3d.datasets.classes import IGNORED
from inflate3d.report.drawing import DPI, class_color, class_dashes, new_figure, png

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

LONGEST_SIDE = 360
"""Pixels along the longer side of a slice's picture."""

_POINTS = 72 / DPI
_BAND, _RIM = 6.5 * _POINTS, 1.6 * _POINTS
_DIMMED = 0.55
"""Brightness of scans under areas."""

MISSED, EXTRA, CONFUSED = 1, 2, 3
ERRORS = {MISSED: "#e69f00", EXTRA: "#56b4e9", CONFUSED: "#e08dbb"}
"""Errors and their colors: labeled and not predicted, predicted and not labeled, predicted as another class."""

SOFT_TISSUE = (-160.0, 240.0)
"""Window for soft tissue in Hounsfield units: level 40, width 400."""

_AIR, _NOT_AIR = -500.0, 100.0
_SAMPLE = 1_000_000


def upright(array: Shaped[np.ndarray, "h w *channels"]) -> Shaped[np.ndarray, "..."]:
    """Turns a slice of the model's frame to radiological orientation; a view.

    Axial slices have the front up, others the head; the patient's left is on the right of the picture, and in sagittal
    slices the front is on the left. Rows and columns of the frame run to the right, front or head, so that the same
    rotation applies to all three.
    """
    return array.swapaxes(0, 1)[::-1, ::-1]


def draw_slice(
    image: Float[np.ndarray, "h w"],
    label: Integer[np.ndarray, "h w"],
    prediction: Integer[np.ndarray, "h w"],
    spacing: tuple[float, float],
) -> bytes:
    """Draws a slice with outlines: the label's as wide pale bands, the prediction's as thin lines on top.

    Args:
        image: Intensities from 0 (black) to 1 (white), upright.
        label: Class numbers, 0 is background.
        spacing: Millimeters between rows and between columns.

    Returns:
        A PNG file whose sides have the slice's proportions in millimeters.
    """
    figure, axes = _picture(image, spacing)
    for number in _classes(label):
        draw_outline(axes, label == number, spacing, class_color(number), band=True)
    for number in _classes(prediction):
        draw_outline(axes, prediction == number, spacing, class_color(number), class_dashes(number))
    return png(figure)


def draw_areas(
    image: Float[np.ndarray, "h w"],
    areas: Integer[np.ndarray, "h w"],
    colors: Mapping[int, str],
    label: Integer[np.ndarray, "h w"],
    spacing: tuple[float, float],
) -> bytes:
    """Draws a dimmed slice with colored areas and the label's outlines as thin white lines.

    Args:
        image: Intensities from 0 (black) to 1 (white), upright.
        areas: Numbers of areas; those without a color are not drawn.
        colors: Color of each number, as ``#rrggbb``.
        label: Class numbers, 0 is background.
        spacing: Millimeters between rows and between columns.

    Returns:
        A PNG file like that of `draw_slice`.
    """
    figure, axes = _picture(image * _DIMMED, spacing)
    painted = np.zeros((*areas.shape, 4), np.float32)
    for number, color in colors.items():
        painted[areas == number] = [*(int(color[at : at + 2], 16) / 255 for at in (1, 3, 5)), 0.9]
    axes.imshow(painted, extent=axes.images[0].get_extent(), interpolation="nearest", aspect="auto")
    for number in _classes(label):
        draw_outline(axes, label == number, spacing, "#ffffff", width=0.8)
    return png(figure)


def draw_outline(
    axes: Axes,
    mask: Bool[np.ndarray, "h w"],
    spacing: tuple[float, float],
    color: str,
    dashes: str | tuple[float, tuple[float, ...]] = "solid",
    *,
    band: bool = False,
    width: float = 2.0,
) -> None:
    """Draws the outline of a mask, on axes in millimeters.

    Args:
        axes: Axes whose ``(0, 0)`` is the first pixel's outer corner.
        spacing: Millimeters between rows and between columns.
        band: Whether to draw a wide pale band instead of a line with a dark rim.
        width: Width of the line in pixels.
    """
    from matplotlib.patheffects import Normal, Stroke

    padded = np.pad(mask, 1).astype(float)  # outlines close at the picture's edge, too
    rows, columns = ((np.arange(side) - 0.5) * step for side, step in zip(padded.shape, spacing, strict=True))
    thick = _BAND if band else width * _POINTS
    lines = axes.contour(columns, rows, padded, levels=[0.5], colors=[color], linewidths=thick, linestyles=[dashes])
    if band:
        lines.set_alpha(0.45)
    else:
        lines.set_path_effects([Stroke(linewidth=thick + _RIM, foreground="black", alpha=0.6), Normal()])


def crop_box(masks: Bool[np.ndarray, "d h w"], least: float = 0.5, margin: float = 0.08) -> tuple[slice, slice]:
    """Rows and columns that contain everything marked in any slice, with some margin.

    Args:
        least: Smallest size of the box, as a fraction of each side.
        margin: Margin around it, as a fraction of each side.
    """
    rows, columns = (np.flatnonzero(masks.any(axis=axes)) for axes in ((0, 2), (0, 1)))
    if not len(rows):
        return slice(None), slice(None)
    _, height, width = masks.shape
    return _span(rows, height, least, margin), _span(columns, width, least, margin)


def spread_slices(holding: Sequence[int], count: int) -> list[int]:
    """``count`` evenly spread slices, or all if there are fewer."""
    if len(holding) <= count:
        return list(holding)
    places = (np.arange(count) + 0.5) * len(holding) / count
    return [holding[int(place)] for place in places]


def _span(marked: Integer[np.ndarray, " n"], size: int, least: float, margin: float) -> slice:
    wanted = max(marked[-1] + 1 - marked[0] + 2 * margin * size, least * size)
    middle = (marked[0] + marked[-1] + 1) / 2
    start = min(max(0.0, middle - wanted / 2), max(0.0, size - wanted))
    return slice(int(start), min(size, int(np.ceil(start + wanted))))


def _classes(labels: Integer[np.ndarray, "h w"]) -> list[int]:
    return [number for number in np.unique(labels).tolist() if number]


def _picture(image: Float[np.ndarray, "h w"], spacing: tuple[float, float]) -> tuple[Figure, Axes]:
    """A slice that fills its figure, in the right proportions; axes are in millimeters."""
    height, width = (side * step for side, step in zip(image.shape, spacing, strict=True))
    scale = LONGEST_SIDE / max(height, width) / DPI
    figure = new_figure(width * scale, height * scale)
    axes = figure.add_axes((0, 0, 1, 1))
    show_slice(axes, image, spacing)
    axes.set_aspect("auto")  # the figure itself has the proportions
    return figure, axes


def show_slice(axes: Axes, image: Float[np.ndarray, "h w"], spacing: tuple[float, float]) -> None:
    """Shows intensities from 0 (black) to 1 (white) on axes in millimeters, without ticks."""
    height, width = (side * step for side, step in zip(image.shape, spacing, strict=True))
    axes.imshow(image, cmap="gray", vmin=0, vmax=1, extent=(0, width, height, 0), interpolation="bilinear")
    axes.autoscale(False)  # outlines must not move the picture's edges
    axes.set_axis_off()


def find_errors(
    label: Integer[np.ndarray, "d h w"], prediction: Integer[np.ndarray, "d h w"]
) -> UInt8[np.ndarray, "d h w"]:
    """Where a prediction is wrong, as `ERRORS`; 0 where it is right or the label is ignored.

    Args:
        label: Class numbers, 0 is background.
    """
    areas = np.zeros(label.shape, np.uint8)
    wrong = (label != prediction) & (label != IGNORED)
    areas[wrong] = CONFUSED
    areas[wrong & (prediction == 0)] = MISSED
    areas[wrong & (label == 0)] = EXTRA
    return areas


def display_range(channel: Shaped[np.ndarray, "..."]) -> tuple[float, float]:
    """The voxel values that are drawn black and white.

    A scan whose values range from air to more than water in Hounsfield units is taken for CT and shown in the window
    for soft tissue. Others (MR, PET, cropped CT) are shown from the 0.5th to the 99.5th percentile of the voxels above
    the minimum, which is outside the body.

    Args:
        channel: One modality's voxel values.
    """
    values = channel.ravel()
    values = values[:: max(1, values.size // _SAMPLE)]
    lowest, high = (float(value) for value in (values.min(), np.percentile(values, 99.5)))
    if -3100 < lowest < _AIR and high > -100 and np.mean(values > _NOT_AIR) < 0.9 and float(values.max()) > _NOT_AIR:
        return SOFT_TISSUE
    inside = values[values > lowest]
    if not len(inside):
        return lowest, lowest + 1.0
    low, high = (float(value) for value in np.percentile(inside, (0.5, 99.5)))
    return low, high if high > low else low + 1.0
