"""A comparison's plots: each arm's Dice with its interval, and Dice over the number of training cases."""

from __future__ import annotations

import io
from pathlib import Path
from typing import TYPE_CHECKING

from inflate3d.atomic import atomic_path
from inflate3d.comparison.results import Comparison
from inflate3d.evaluation.statistics import Estimate

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000", "#999933")
"""Okabe and Ito's, dark on white; arms beyond them begin again."""

FORMATS = ("png", "svg")

BESIDE = 1.02
"""Points of the same number of training cases stand side by side by this factor, so that their intervals are seen."""


def write_plots(comparison: Comparison, folder: Path) -> None:
    """Writes ``comparison.png`` and ``.svg``, and ``training_cases.png`` and ``.svg`` where there are several numbers.

    Raises:
        OutputError: A file can't be written.
    """
    plots = {"comparison": draw_arms(comparison)}
    if len(comparison.sizes) > 1:
        plots["training_cases"] = draw_sizes(comparison)
    for name, figure in plots.items():
        for form in FORMATS:
            with atomic_path(folder / f"{name}.{form}") as temporary:
                temporary.write_bytes(_file(figure, form))


def draw_arms(comparison: Comparison) -> Figure:
    """A line an arm, with the most training cases: Dice with its interval, and the difference with its own."""
    rows = [row for row in comparison.rows if row.cases == comparison.sizes[-1]]
    figure = _new_figure(9.0, 1.7 + 0.4 * len(rows))
    left, right = figure.subplots(1, 2, sharey=True)
    for place, row in enumerate(rows):
        colour = _colour(comparison, row.arm)
        _interval_line(left, row.dice, place, colour)
        if len(row.seeds) > 1:
            left.plot(list(row.seeds.values()), [place + 0.25] * len(row.seeds), "|", color=colour, markersize=7)
        if row.difference:
            _interval_line(right, row.difference.dice, place, colour)
    left.set_yticks(range(len(rows)), [row.arm for row in rows])
    left.set_ylim(len(rows) - 0.5, -0.5)
    left.set_xlabel("mean Dice (0 to 1) with 95 % interval" + ("; below it: each seed" * (len(comparison.seeds) > 1)))
    right.axvline(0, color="#888888", linewidth=1, zorder=0)
    right.tick_params(axis="y", left=False)
    right.set_xlabel(f"difference in Dice from {comparison.arms[0]}, paired 95 % interval\n← worse       better →")
    for axes in (left, right):
        _plain_axes(axes, "x")
    figure.suptitle(_title(comparison, f"{_counted(rows[0].cases, 'training case')}, "), fontsize="medium")
    return figure


def draw_sizes(comparison: Comparison) -> Figure:
    """A curve an arm: Dice with its interval over the number of training cases, which is drawn by its logarithm."""
    from matplotlib.ticker import NullLocator

    figure = _new_figure(8.0, 4.4)
    axes = figure.subplots()
    for number, arm in enumerate(comparison.arms):
        rows = [row for row in comparison.rows if row.arm == arm]
        beside, colour = BESIDE ** (number - (len(comparison.arms) - 1) / 2), _colour(comparison, arm)
        places = [row.cases * beside for row in rows]
        axes.plot(places, [row.dice.value for row in rows], "o-", color=colour, label=arm, markersize=4.5)
        axes.vlines(places, [row.dice.low for row in rows], [row.dice.high for row in rows], color=colour)
    axes.set_xscale("log")
    axes.set_xticks(comparison.sizes, [str(size) for size in comparison.sizes])
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xlabel("training cases")
    axes.set_ylabel("mean Dice (0 to 1) with 95 % interval")
    figure.legend(loc="outside right upper", frameon=False)
    _plain_axes(axes, "y")
    figure.suptitle(_title(comparison), fontsize="medium")
    return figure


def _title(comparison: Comparison, learned_from: str = "") -> str:
    held_out = _counted(len(comparison.held_out), "held-out case")
    return f"{comparison.dataset}: {learned_from}{held_out}, {_counted(len(comparison.seeds), 'seed')}"


def _counted(number: int, noun: str) -> str:
    return f"{number} {noun}{'s' * (number != 1)}"


def _interval_line(axes: Axes, found: Estimate, place: int, colour: str) -> None:
    axes.plot([found.low, found.high], [place, place], color=colour, linewidth=2, solid_capstyle="butt")
    axes.plot([found.value], [place], "o", color=colour, markersize=6)


def _plain_axes(axes: Axes, grid: str) -> None:
    axes.grid(axis=grid, color="#000000", alpha=0.12)  # pyright: ignore[reportArgumentType]
    for side, spine in axes.spines.items():
        spine.set_visible(side in ("left", "bottom"))


def _colour(comparison: Comparison, arm: str) -> str:
    return COLOURS[comparison.arms.index(arm) % len(COLOURS)]


def _new_figure(width: float, height: float) -> Figure:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), dpi=150, layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def _file(figure: Figure, form: str) -> bytes:
    file = io.BytesIO()
    figure.savefig(file, format=form, metadata={"png": {"Software": None}, "svg": {"Date": None}}[form])
    return file.getvalue()
