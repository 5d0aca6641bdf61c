"""The report's plots, as PNG files in memory: training curves and the distribution of scores."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from inflate3d.report.drawing import INK, PAPER, Theme, class_color, new_figure, plain_axes, png, short_text
from inflate3d.run_folder import TrainingLog

_OTHER = "#888888"
_SCALE = 1.6
_SPREAD = 0.11
"""Half the width over which a class's points are spread, so that equal ones stay visible."""


@dataclass(frozen=True)
class Curve:
    """One line of a plot.

    Attributes:
        steps: Steps of its points; those without a value are left out.
        color: A matplotlib color; None: the plot's ink.
    """

    steps: Sequence[int]
    values: Sequence[float]
    color: str | None = None
    wide: bool = False
    dashed: bool = False


def loss_curves(logs: Sequence[TrainingLog]) -> list[Curve]:
    """The loss of each training, the first one on top, the others dashed."""
    return [
        Curve(*log.column("loss"), color=_OTHER if number else None, wide=not number, dashed=bool(number))
        for number, log in reversed(list(enumerate(logs)))
    ]


def dice_curves(logs: Sequence[TrainingLog], class_names: Sequence[str]) -> list[Curve]:
    """The first training's validation Dice by class and its mean; the others' means dashed below."""
    own, *others = logs
    curves = [Curve(*log.column("dice"), color=_OTHER, dashed=True) for log in others]
    curves += [
        Curve(*own.column(f"dice/{name}"), color=class_color(number))
        for number, name in enumerate(class_names, start=1)
    ]
    return [*curves, Curve(*own.column("dice"), wide=True)]


def draw_curves(curves: Sequence[Curve], *, theme: Theme, steps: int, logarithmic: bool) -> bytes:
    """Plots curves over the training steps.

    Args:
        logarithmic: Whether the vertical axis is logarithmic; otherwise it is from 0 to 1.
    """
    from matplotlib.patheffects import Normal, Stroke
    from matplotlib.ticker import LogLocator

    ink = INK[theme]
    figure = new_figure(5.6, 3.0, scale=_SCALE, color=PAPER[theme])
    axes = figure.add_axes((0.09, 0.16, 0.89, 0.81))
    for curve in curves:
        known = np.isfinite(curve.values)
        axes.plot(
            np.asarray(curve.steps)[known],
            np.asarray(curve.values)[known],
            color=curve.color or ink,
            linewidth=2.2 if curve.wide else 1.3,
            linestyle="--" if curve.dashed else "-",
            marker="o" if known.sum() <= 20 else None,
            markersize=4 if curve.wide else 2.5,
            path_effects=[Stroke(linewidth=2.5, foreground=ink, alpha=0.4), Normal()] if curve.color else None,
        )
    plain_axes(axes, theme)
    axes.set_xlim(0, steps * 1.01)
    axes.set_xlabel("step", color=ink)
    if logarithmic:
        axes.set_yscale("log")
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.yaxis.set_major_formatter("{x:g}")
        axes.yaxis.set_minor_formatter("")
    else:
        axes.set_ylim(0, 1)
    return png(figure)


def draw_distributions(
    scores: Float[np.ndarray, "cases classes"], class_names: Sequence[str], *, theme: Theme
) -> bytes:
    """Plots each class's scores: a point per case, a box from quartile to quartile with the median.

    Args:
        scores: From 0 to 1; NaN where undefined.
    """
    ink = INK[theme]
    frame = {"color": ink, "alpha": 0.55}
    width = max(4.6, 1.0 + 0.68 * len(class_names))
    figure = new_figure(width, 3.2, scale=_SCALE, color=PAPER[theme])
    is_long = sum(map(len, class_names)) > 9 * width
    bottom = 0.27 if is_long else 0.1
    axes = figure.add_axes((0.5 / width, bottom, 1 - 0.6 / width, 0.96 - bottom))
    plain_axes(axes, theme)
    axes.grid(visible=False, axis="x")
    for number, column in enumerate(scores.T, start=1):
        known = column[np.isfinite(column)]
        if not len(known):
            continue
        axes.boxplot(
            known,
            positions=[number],
            widths=0.3,
            showfliers=False,
            manage_ticks=False,
            medianprops={"color": ink, "linewidth": 2},
            boxprops=frame,
            whiskerprops=frame,
            capprops=frame,
        )
        spread = number + _SPREAD * np.linspace(-1, 1, len(known)) * (len(known) > 1)
        axes.scatter(spread, known, s=16, facecolors=class_color(number), edgecolors=ink, linewidths=0.8)
    axes.set_ylim(-0.02, 1.02)
    axes.set_xlim(0.4, len(class_names) + 0.6)
    axes.set_xticks(
        range(1, len(class_names) + 1),
        [short_text(name, 18) for name in class_names],
        rotation=30 if is_long else 0,
        ha="right" if is_long else "center",
    )
    axes.set_ylabel("Dice", color=ink, fontsize=9)
    return png(figure)
