"""A comparison's plots: each arm's Dice with its interval, that of every case, and Dice over the training cases."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from inflate3d.atomic import atomic_path
from inflate3d.comparison.budget import budget_name
from inflate3d.comparison.results import Comparison, Row
from inflate3d.comparison.tables import interval_words
from inflate3d.evaluation.statistics import Estimate
from inflate3d.report.drawing import INK, PAPER, Theme, png

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.typing import RcKeyType

COLORS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#808080", "#999933")
"""Okabe and Ito's palette, with a gray that is visible on white and on black; repeated for more arms."""

FORMATS = ("png", "svg")

BESIDE = 1.02
"""Factor between points with the same number of training cases, so that their intervals do not overlap."""


SPREAD = 0.22
"""Half the height over which an arm's cases are spread, so that equal ones stay visible."""


def write_plots(comparison: Comparison, folder: Path) -> None:
    """Writes the plots as PNG and SVG; ``training_cases`` and ``training_seconds`` only if they vary."""
    with _inks("light"):
        for name, figure in _draw_all(comparison).items():
            for form in FORMATS:
                with atomic_path(folder / f"{name}.{form}") as temporary:
                    temporary.write_bytes(_file(figure, form))


def plot_pictures(comparison: Comparison, theme: Theme) -> dict[str, bytes]:
    """The same plots as PNG images for a page, by name."""
    with _inks(theme):
        return {name: png(figure) for name, figure in _draw_all(comparison).items()}


def _draw_all(comparison: Comparison) -> dict[str, Figure]:
    plots = {"comparison": draw_arms(comparison), "cases": draw_cases(comparison)}
    plots |= {"training_cases": draw_sizes(comparison)} if len(comparison.sizes) > 1 else {}
    return plots | ({"training_seconds": draw_seconds(comparison)} if len(comparison.budgets) > 1 else {})


def _inks(theme: Theme) -> AbstractContextManager[None]:
    """Uses the page's colors for everything drawn and saved in this context."""
    import matplotlib

    inked: tuple[RcKeyType, ...] = (
        "text.color",
        "axes.labelcolor",
        "axes.edgecolor",
        "xtick.color",
        "ytick.color",
        "grid.color",
    )
    papers: dict[RcKeyType, str] = {
        "figure.facecolor": PAPER[theme],
        "axes.facecolor": "none",
        "savefig.facecolor": "auto",
    }
    return matplotlib.rc_context(dict.fromkeys(inked, INK[theme]) | papers)


def draw_arms(comparison: Comparison) -> Figure:
    """Mean Dice of each arm with its interval, and the difference from the first; with the most training cases."""
    from matplotlib.ticker import MaxNLocator

    rows = comparison.largest
    figure = _new_figure(9.0, 1.9 + 0.4 * len(rows))
    left, right = figure.subplots(1, 2, sharey=True)
    for place, row in enumerate(rows):
        color = _color(comparison, row.arm)
        _interval_line(left, row.dice, place, color)
        if len(row.dice_of_seeds) > 1:
            left.plot(
                list(row.dice_of_seeds.values()),
                [place + 0.25] * len(row.dice_of_seeds),
                "|",
                color=color,
                markersize=7,
            )
        if row.difference:
            _interval_line(right, row.difference.dice, place, color)
    _name_arms(left, rows)
    left.set_xlabel("mean Dice (0 to 1) with 95 % interval" + ("; below it: each seed" * (len(comparison.seeds) > 1)))
    right.axvline(0, color="#888888", linewidth=1, zorder=0)
    right.tick_params(axis="y", left=False)
    right.set_xlabel(f"difference in Dice from {comparison.arms[0]}, paired 95 % interval\n← worse       better →")
    left.xaxis.set_major_locator(MaxNLocator(4))
    right.xaxis.set_major_locator(MaxNLocator(4, symmetric=True))
    right.margins(x=0.15)
    for axes in (left, right):
        _plain_axes(axes, "x")
    title = _title(comparison, f"{_counted(rows[0].training_cases, 'training case')}, ")
    figure.suptitle(f"{title}\nintervals {interval_words(comparison)}", fontsize="medium")
    return figure


def draw_cases(comparison: Comparison) -> Figure:
    """Dice of each held-out case, per arm, with a band from quartile to quartile; with the most training cases."""
    rows = comparison.largest
    figure = _new_figure(9.0, 1.2 + 0.6 * len(rows))
    axes = figure.subplots()
    for place, row in enumerate(rows):
        dice = np.array(row.dice_of_cases)[np.isfinite(row.dice_of_cases)]
        if not len(dice):
            continue
        color, (low, median, high) = _color(comparison, row.arm), np.quantile(dice, (0.25, 0.5, 0.75))
        axes.plot([low, high], [place, place], color=color, linewidth=20, alpha=0.25, solid_capstyle="butt")
        axes.vlines(median, place - SPREAD, place + SPREAD, linewidth=2.5, color=color)
        spread = place + SPREAD * np.linspace(-1, 1, len(dice)) * (len(dice) > 1)
        axes.plot(dice, spread, "o", color=color, markersize=3.5, alpha=0.75)
    _name_arms(axes, rows)
    axes.set_xlabel("Dice of each held-out case (0 to 1), mean over its classes; bands: quartiles, with the median")
    _plain_axes(axes, "x")
    figure.suptitle(_title(comparison, f"{_counted(rows[0].training_cases, 'training case')}, "), fontsize="medium")
    return figure


def draw_sizes(comparison: Comparison) -> Figure:
    """Dice with its interval over the number of training cases (log scale), per arm, with the largest budget."""

    def place(row: Row) -> float:
        return row.training_cases * BESIDE ** (comparison.arms.index(row.arm) - (len(comparison.arms) - 1) / 2)

    rows = [row for row in comparison.rows if row.budget == comparison.budgets[-1]]
    return _draw_curves(
        comparison, rows, place, "training cases", {float(size): str(size) for size in comparison.sizes}
    )


def draw_seconds(comparison: Comparison) -> Figure:
    """Dice with its interval over the training time (log scale), per arm, with the most training cases."""
    ticks = {budget: budget_name(budget) for budget in comparison.budgets if budget}
    label = "training: process time on a CPU, without validations"
    return _draw_curves(comparison, comparison.most_cases, lambda row: row.cost.training_seconds, label, ticks)


def _draw_curves(
    comparison: Comparison,
    chosen: Sequence[Row],
    place: Callable[[Row], float],
    label: str,
    ticks: Mapping[float, str],
) -> Figure:
    from matplotlib.ticker import NullLocator

    figure = _new_figure(8.0, 4.4)
    axes = figure.subplots()
    for arm in comparison.arms:
        rows, color = [row for row in chosen if row.arm == arm], _color(comparison, arm)
        places = [place(row) for row in rows]
        axes.plot(places, [row.dice.value for row in rows], "o-", color=color, label=arm, markersize=4.5)
        axes.vlines(places, [row.dice.low for row in rows], [row.dice.high for row in rows], color=color)
    axes.set_xscale("log")
    axes.set_xticks(list(ticks), list(ticks.values()))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xlabel(label)
    axes.set_ylabel("mean Dice (0 to 1) with 95 % interval")
    figure.legend(loc="outside right upper", frameon=False)
    _plain_axes(axes, "y")
    figure.suptitle(_title(comparison), fontsize="medium")
    return figure


def _name_arms(axes: Axes, rows: list[Row]) -> None:
    axes.set_yticks(range(len(rows)), [row.arm for row in rows])
    axes.set_ylim(len(rows) - 0.5, -0.5)


def _title(comparison: Comparison, trained_on: str = "") -> str:
    held_out = _counted(len(comparison.held_out), "held-out case")
    dataset = comparison.dataset.replace("$", r"\$")  # which matplotlib takes for a formula's beginning
    return f"{dataset}: {trained_on}{held_out}, {_counted(len(comparison.seeds), 'seed')}"


def _counted(number: int, noun: str) -> str:
    return f"{number} {noun}{'s' * (number != 1)}"


def _interval_line(axes: Axes, found: Estimate, place: int, color: str) -> None:
    axes.plot([found.low, found.high], [place, place], color=color, linewidth=2, solid_capstyle="butt")
    axes.plot([found.value], [place], "o", color=color, markersize=6)


def _plain_axes(axes: Axes, grid: str) -> None:
    axes.grid(axis=grid, alpha=0.15)  # pyright: ignore[reportArgumentType]
    for side, spine in axes.spines.items():
        spine.set_visible(side in ("left", "bottom"))


def _color(comparison: Comparison, arm: str) -> str:
    return COLORS[comparison.arms.index(arm) % len(COLORS)]


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
