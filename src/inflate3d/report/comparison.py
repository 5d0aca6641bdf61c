"""The page of a comparison: what was compared, its tables and plots, and links to the runs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from inflate3d.atomic import write_text
from inflate3d.comparison.figures import plot_pictures
from inflate3d.comparison.results import Comparison, Row
from inflate3d.comparison.runs import run_name
from inflate3d.comparison.tables import class_cells, cost_cells, notes, quality_cells
from inflate3d.config import RunConfig
from inflate3d.datasets import Split
from inflate3d.evaluation.scores import show
from inflate3d.report.drawing import Theme, check_replaceable, data_address
from inflate3d.report.pages import network_in_words, render, script
from inflate3d.run_folder import FoldsFolder, RunFolder

THEMES: tuple[Theme, ...] = ("light", "dark")

CAPTIONS = {
    "comparison": "Dice of each method with its 95 % interval, and its difference from the first",
    "cases": "Dice of each held-out case, by method",
    "training_cases": "Dice over the number of training cases, with 95 % intervals",
    "training_seconds": "Dice over the time of the training, with 95 % intervals",
}
"""Captions of the plots, by file name."""


@dataclass(frozen=True)
class RunEntry:
    """A run of the comparison.

    Attributes:
        seed: Its seed.
        page: Its page relative to the comparison's; None if it has none.
    """

    name: str
    row: Row
    seed: int
    page: str | None


def write_comparison_page(comparison: Comparison, root: Path) -> Path:
    """Writes the page of a comparison, ``report.html`` in its folder.

    All figures are the comparison's; of the runs, only the first one's settings and split are read.

    Args:
        root: The comparison's folder with its runs, whose pages are linked.

    Returns:
        The page's file.
    """
    check_replaceable(FoldsFolder(root).report)
    runs = list_runs(comparison, root)
    largest = next(run for run in runs if run.row is comparison.largest[0])
    first = RunFolder(root / largest.name)
    config = RunConfig.read(first.config)
    pictures = {theme: plot_pictures(comparison, theme) for theme in THEMES}
    plots = {
        name: {theme: data_address(pictures[theme][name]) for theme in THEMES}
        for name in CAPTIONS
        if name in pictures["light"]
    }
    page = render(
        "comparison.html.jinja",
        title=f"{comparison.dataset}: comparison",
        comparison=comparison,
        best=comparison.largest,
        config=config,
        network=network_in_words(config.model),
        split=Split.read(first.split),
        several_sizes=len(comparison.sizes) > 1,
        quality=quality_cells(comparison),
        classes=class_cells(comparison),
        cost=cost_cells(comparison),
        notes=notes(comparison),
        plots=plots,
        captions=CAPTIONS,
        runs=runs,
        pages=[_first_page(runs, row) for row in comparison.rows],
        show=show,
        scripts=[script("sort.js")],
    )
    file = FoldsFolder(root).report
    write_text(file, page)
    return file


def list_runs(comparison: Comparison, root: Path) -> list[RunEntry]:
    """All runs, in the order of the rows."""
    runs = []
    for row in comparison.rows:
        for seed in row.dice_of_seeds:
            size = None if row.all_training_cases else row.training_cases
            folder = RunFolder(root / run_name(row.arm, size, seed, row.budget))
            page = folder.report.relative_to(root).as_posix() if folder.report.exists() else None
            runs.append(RunEntry(folder.root.name, row, seed, page))
    return runs


def _first_page(runs: Sequence[RunEntry], row: Row) -> str | None:
    """The page of a row's first run that has one."""
    return next((run.page for run in runs if run.row is row and run.page), None)
