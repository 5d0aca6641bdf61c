"""A comparison's plots: each arm's Dice with its interval, and Dice over the number of training cases."""

from __future__ import annotations

import io
from pathlib import Path
from typing import TYPE_CHECKING

from inflate3d.atomic import atomic_path
from inflate3d.comparison.results import Comparison, Row

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000", "#999933")
"""Okabe and Ito's, dark on white; arms beyond them begin again."""

FORMATS = ("png", "svg")


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
    figure = _new_figure(9.0, 1.3 + 0.4 * len(rows))
    left, right = figure.subplots(1, 2, sharey=True)
    for place, row in enumerate(rows):
        colour = _colour(comparison, row.arm)
        _interval_line(left, row.dice.value, row.dice.low, row.dice.high, place, colour)
        left.plot(list(row.seeds.values()), [place] * len(row.seeds), "|", color=colour, markersize=11, alpha=0.6)
        if row.difference:
            found = row.difference.dice
            _interval_line(right, found.value, found.low, found.high, place, colour)
    left.set_yticks(range(len(rows)), [row.arm for row in rows])
    left.set_ylim(len(rows) - 0.5, -0.5)
    left.set_xlabel("mean Dice, 95 % over cases; strokes: seeds")
    right.axvline(0, color="#888888", linewidth=1)
    right.set_xlabel(f"difference from {comparison.arms[0]}, paired 95 %")
    for axes in (left, right):
        _plain_axes(axes, "x")
    return figure


def draw_sizes(comparison: Comparison) -> Figure:
    """A curve an arm: Dice with its interval over the number of training cases, which is drawn by its logarithm."""
    from matplotlib.ticker import NullFormatter

    figure = _new_figure(6.4, 4.0)
    axes = figure.subplots()
    for arm in comparison.arms:
        rows = [row for row in comparison.rows if row.arm == arm]
        sizes, colour = [row.cases for row in rows], _colour(comparison, arm)
        axes.plot(sizes, [row.dice.value for row in rows], "o-", color=colour, label=arm, markersize=4)
        axes.fill_between(sizes, *_ends(rows), color=colour, alpha=0.12, linewidth=0)
    axes.set_xscale("log")
    axes.set_xticks(comparison.sizes, [str(size) for size in comparison.sizes])
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.set_xlabel("training cases")
    axes.set_ylabel("mean Dice, 95 % over cases")
    axes.legend(frameon=False)
    _plain_axes(axes, "both")
    return figure


def _ends(rows: list[Row]) -> tuple[list[float], list[float]]:
    return [row.dice.low for row in rows], [row.dice.high for row in rows]


def _interval_line(axes: Axes, value: float, low: float, high: float, place: int, colour: str) -> None:
    axes.plot([low, high], [place, place], color=colour, linewidth=2, solid_capstyle="butt")
    axes.plot([value], [place], "o", color=colour, markersize=6)


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
