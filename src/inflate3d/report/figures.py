"""The report's pictures, as PNG files in memory: outlines on a slice, curves over the training's steps."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
from jaxtyping import Bool, Float, Integer, Shaped

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

PALETTE = (
    "#e69f00", "#56b4e9", "#1fc795", "#f0e442", "#e08dbb", "#f0672e", "#5b86f5",
    "#ee8866", "#99ddff", "#bbcc33", "#aaaa00", "#ffaabb",
)  # fmt: skip
"""Colours that the colour-blind can tell apart, bright enough for grey scans: after Okabe and Ito's seven (2008)
and Tol's light ones (2018). Classes beyond them begin again."""

LONGEST_SIDE = 360
"""Pixels of a slice's picture along its longer side."""

_DPI = 100
_POINTS = 72 / _DPI
_BAND, _LINE, _HALO = 6.5 * _POINTS, 2.0 * _POINTS, 3.6 * _POINTS


@dataclass(frozen=True)
class Curve:
    """One line of a plot.

    Attributes:
        steps: Where it has points; those without a value are left out.
        values: Their height.
        colour: Any of matplotlib's; none for the plot's own ink.
        wide: Whether it is the main one.
        dashed: Whether it is drawn dashed.
    """

    steps: Sequence[int]
    values: Sequence[float]
    colour: str | None = None
    wide: bool = False
    dashed: bool = False


def class_colour(number: int) -> str:
    """The colour of class ``number``, from 1 on, as ``#rrggbb``."""
    return PALETTE[(number - 1) % len(PALETTE)]


def upright(array: Shaped[np.ndarray, "h w *channels"]) -> Shaped[np.ndarray, "..."]:
    """Turns a slice of the model's frame as radiologists look at it; a view.

    In an axial slice the front is up, in the others the head; the patient's left is on the picture's right, and
    in a sagittal slice the front is on its left. The frame's rows and columns run to the right, front or head,
    so that one turn serves all three.
    """
    return array.swapaxes(0, 1)[::-1, ::-1]


def draw_slice(
    image: Float[np.ndarray, "h w"],
    label: Integer[np.ndarray, "h w"],
    prediction: Integer[np.ndarray, "h w"],
    spacing: tuple[float, float],
) -> bytes:
    """Draws a slice with outlines: the label's as wide pale bands, the prediction's as thin lines over them.

    Args:
        image: Intensities from 0 (black) to 1 (white), upright.
        label: Class numbers, 0 is background.
        prediction: Class numbers.
        spacing: Millimetres between rows and between columns.

    Returns:
        A PNG file whose sides have the slice's proportions in millimetres.
    """
    height, width = (side * step for side, step in zip(image.shape, spacing, strict=True))
    scale = LONGEST_SIDE / max(height, width) / _DPI
    figure = _new_figure(width * scale, height * scale)
    figure.set_facecolor("black")
    axes = figure.add_axes((0, 0, 1, 1))
    axes.imshow(image, cmap="gray", vmin=0, vmax=1, extent=(0, width, height, 0), interpolation="bilinear")
    axes.autoscale(False)  # outlines must not move the picture's edges
    axes.set_axis_off()
    axes.set_aspect("auto")  # the figure itself has the proportions
    for number in set(np.unique(label).tolist()) - {0}:
        _outline(axes, label == number, spacing, class_colour(number), band=True)
    for number in set(np.unique(prediction).tolist()) - {0}:
        _outline(axes, prediction == number, spacing, class_colour(number), band=False)
    return _png(figure)


def draw_curves(curves: Sequence[Curve], *, theme: Literal["light", "dark"], steps: int, logarithmic: bool) -> bytes:
    """Plots curves over the training's steps.

    Args:
        curves: What to plot, the last one on top.
        theme: The page that it stands on.
        steps: Where the axis of steps ends.
        logarithmic: Whether heights are drawn by their logarithm; else the axis runs from 0 to 1.

    Returns:
        A PNG file with a transparent background.
    """
    from matplotlib.patheffects import Normal, Stroke
    from matplotlib.ticker import LogLocator

    ink = "#22262b" if theme == "light" else "#e4e7ea"
    figure = _new_figure(5.6, 3.0, scale=1.6)
    axes = figure.add_axes((0.09, 0.14, 0.89, 0.83))
    axes.patch.set_alpha(0)
    for curve in curves:
        known = np.isfinite(curve.values)
        axes.plot(
            np.asarray(curve.steps)[known],
            np.asarray(curve.values)[known],
            color=curve.colour or ink,
            linewidth=2.2 if curve.wide else 1.3,
            linestyle="--" if curve.dashed else "-",
            marker="o" if known.sum() <= 20 else None,
            markersize=4 if curve.wide else 2.5,
            path_effects=[Stroke(linewidth=2.5, foreground=ink, alpha=0.4), Normal()] if curve.colour else None,
        )
    axes.set_xlim(0, steps * 1.01)
    axes.set_xlabel("step", color=ink)
    if logarithmic:
        axes.set_yscale("log")
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.yaxis.set_major_formatter("{x:g}")
        axes.yaxis.set_minor_formatter("")
    else:
        axes.set_ylim(0, 1)
    axes.grid(color=ink, alpha=0.15)
    axes.tick_params(which="both", colors=ink, labelsize=8)
    for side, spine in axes.spines.items():
        spine.set_visible(side in ("left", "bottom"))
        spine.set_color(ink)
    return _png(figure, transparent=True)


def crop_box(masks: Bool[np.ndarray, "d h w"], least: float = 0.5, margin: float = 0.08) -> tuple[slice, slice]:
    """Rows and columns that hold everything marked in any slice, with some of its surroundings.

    Args:
        masks: What has to be seen.
        least: The box has at least this part of each side.
        margin: Part of each side left free around it.
    """
    rows, columns = (np.flatnonzero(masks.any(axis=axes)) for axes in ((0, 2), (0, 1)))
    if not len(rows):
        return slice(None), slice(None)
    _, height, width = masks.shape
    return _span(rows, height, least, margin), _span(columns, width, least, margin)


def spread_slices(holding: Sequence[int], count: int) -> list[int]:
    """``count`` of the slices, or all if there are no more, spread evenly over them."""
    if len(holding) <= count:
        return list(holding)
    places = (np.arange(count) + 0.5) * len(holding) / count
    return [holding[int(place)] for place in places]


def data_address(png: bytes) -> str:
    """A PNG file as an address that needs no other file."""
    return f"data:image/png;base64,{base64.b64encode(png).decode('ascii')}"


def _span(marked: Integer[np.ndarray, " n"], size: int, least: float, margin: float) -> slice:
    wanted = max(marked[-1] + 1 - marked[0] + 2 * margin * size, least * size)
    middle = (marked[0] + marked[-1] + 1) / 2
    start = min(max(0.0, middle - wanted / 2), max(0.0, size - wanted))
    return slice(int(start), min(size, int(np.ceil(start + wanted))))


def _outline(
    axes: Axes, mask: Bool[np.ndarray, "h w"], spacing: tuple[float, float], colour: str, *, band: bool
) -> None:
    from matplotlib.patheffects import Normal, Stroke

    padded = np.pad(mask, 1).astype(float)  # outlines close at the picture's edge, too
    rows, columns = ((np.arange(side) - 0.5) * step for side, step in zip(padded.shape, spacing, strict=True))
    lines = axes.contour(columns, rows, padded, levels=[0.5], colors=[colour], linewidths=_BAND if band else _LINE)
    if band:
        lines.set_alpha(0.45)
    else:
        lines.set_path_effects([Stroke(linewidth=_HALO, foreground="black", alpha=0.6), Normal()])


def _new_figure(width: float, height: float, scale: float = 1.0) -> Figure:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), dpi=_DPI * scale)
    FigureCanvasAgg(figure)
    return figure


def _png(figure: Figure, *, transparent: bool = False) -> bytes:
    file = io.BytesIO()
    figure.savefig(file, format="png", transparent=transparent, metadata={"Software": None})
    return file.getvalue()
