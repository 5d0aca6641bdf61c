"""A comparison as tables: for the terminal and the page, and as JSON and CSV for further analysis."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from inflate3d.atomic import write_text
from inflate3d.comparison.budget import budget_name
from inflate3d.comparison.cost import NetworkSize
from inflate3d.comparison.paper import NOTE as PAPER_NOTE
from inflate3d.comparison.results import Comparison, Difference, Row
from inflate3d.evaluation.statistics import FEWEST_GROUPS, Estimate
from inflate3d.evaluation.tables import Table, show_estimate

NOTHING = "–"
"""Shown where there is no figure."""


class Cell(NamedTuple):
    """A table's cell.

    Attributes:
        value: The value for sorting; NaN if there is none.
    """

    text: str
    value: float = math.nan


def write_tables(comparison: Comparison, scores: Table, folder: Path) -> None:
    """Writes ``comparison.json`` and ``scores.csv``, each atomically."""
    document = {**comparison.to_dict(), "notes": notes(comparison)}
    write_text(folder / "scores.csv", scores.to_csv(digits=6))
    write_text(folder / "comparison.json", json.dumps(document, indent=1, ensure_ascii=False) + "\n")


def interval_words(comparison: Comparison) -> str:
    """What the intervals are taken over."""
    whom = "patients" if comparison.patients < len(comparison.held_out) else "cases"
    if len(comparison.seeds) > 1:
        return f"over {whom} and seeds"
    return f"over {whom}, of these networks; one seed: no interval for the method"


def quality_cells(comparison: Comparison) -> tuple[list[str], list[list[Cell]]]:
    """Columns and rows of the quality measures, with sort keys; lower is better for p and HD95 only."""
    several_seeds = len(comparison.seeds) > 1
    has_paper = any(row.paper is not None for row in comparison.rows)
    columns = [
        *_naming_columns(comparison),
        "Dice (95 %)",
        *(["± seeds"] if several_seeds else []),
        "difference (95 %)",
        "better in",
        "p (Holm)",
        "Wilcoxon p",
        "HD95 mm",
        "NSD",
        "micro-averaged Dice",
        *(["the paper's"] if has_paper else []),
    ]
    rows = [
        [
            *_naming_cells(_naming_columns(comparison), row),
            Cell(_with_interval(row.dice), row.dice.value),
            *([_cell(row.seed_deviation, 4)] if several_seeds else []),
            *_difference_cells(row.difference),
            _cell(row.hd95, 2),
            _cell(row.nsd, 4),
            _cell(row.micro_dice, 4),
            *([_cell(math.nan if row.paper is None else row.paper / 100, 4)] if has_paper else []),
        ]
        for row in comparison.rows
    ]
    return columns, rows


def class_cells(comparison: Comparison) -> tuple[list[str], list[list[Cell]]]:
    """Columns and rows of Dice per class."""
    columns = [*_naming_columns(comparison), *comparison.rows[0].dice_of_classes]
    rows = [
        [
            *_naming_cells(_naming_columns(comparison), row),
            *(_cell(value, 4) for value in row.dice_of_classes.values()),
        ]
        for row in comparison.rows
    ]
    return columns, rows


def _naming_columns(comparison: Comparison) -> list[str]:
    """Headers of the columns that identify a row."""
    several = {"training cases": comparison.sizes, "budget": comparison.budgets}
    return ["arm", *(name for name, values in several.items() if len(values) > 1)]


def _naming_cells(columns: Sequence[str], row: Row) -> list[Cell]:
    cells = {
        "arm": Cell(row.arm),
        "training cases": Cell(str(row.training_cases), row.training_cases),
        "budget": Cell(budget_name(row.budget), row.budget) if row.budget else Cell(NOTHING),
    }
    return [cells[name] for name in columns]


def short_table(comparison: Comparison) -> tuple[list[str], list[list[str]]]:
    """Columns and rows of the quality measures that fit on a terminal."""
    columns = [*_naming_columns(comparison), "Dice", "difference (95 %)", "p", "HD95", "NSD"]
    rows = []
    for row in comparison.rows:
        found, _, p, _ = (cell.text for cell in _difference_cells(row.difference, digits=3))
        named = [cell.text for cell in _naming_cells(_naming_columns(comparison), row)]
        rows.append([*named, _figure(row.dice.value, 4), found, p, _figure(row.hd95, 1), _figure(row.nsd, 3)])
    return columns, rows


def cost_cells(comparison: Comparison) -> tuple[list[str], list[list[Cell]]]:
    """Columns and rows of the costs, with sort keys."""
    named = [name for name in _naming_columns(comparison) if name != "training cases"]
    columns = [
        *named,
        "parameters",
        "GFLOP: encoder + decoder",
        "training",
        "validation, other",
        "prediction of a scan",
        "peak memory",
        "device",
    ]
    rows = []
    for row in comparison.most_cases:
        network, memory = row.cost.network, row.cost.peak_memory_bytes
        cells = [
            *_naming_cells(named, row),
            Cell(f"{network.parameters / 1e6:.2f} M", network.parameters) if network else Cell(NOTHING),
            Cell(_flops(network), network.flops) if network else Cell(NOTHING),
            Cell(_duration(row.cost.training_seconds), row.cost.training_seconds),
            Cell(_duration(row.cost.other_seconds), row.cost.other_seconds),
            Cell(_duration(row.cost.prediction_seconds), row.cost.prediction_seconds),
            Cell(NOTHING if math.isnan(memory) else f"{memory / 2**30:.2f} GiB", memory),
            Cell(row.cost.device),
        ]
        rows.append(cells)
    return columns, rows


def _flops(network: NetworkSize) -> str:
    whole = f"{network.flops / 1e9:,.1f} a {network.seen}"
    if network.encoder_flops is None:
        return whole
    return f"{network.encoder_flops / 1e9:,.1f} + {(network.flops - network.encoder_flops) / 1e9:,.1f} = {whole}"


def notes(comparison: Comparison) -> list[str]:
    """What the figures mean, in one sentence each."""
    several = len(comparison.seeds) > 1
    whom = "patients" if comparison.patients < len(comparison.held_out) else "cases"
    lines = [
        "Dice, HD95 and NSD are means over classes of means over cases, on each scan's own grid"
        + ("" if math.isnan(comparison.nsd_tolerance) else f"; NSD at {comparison.nsd_tolerance:g} mm")
        + (", averaged over the seeds" if several else ""),
        f"95 % intervals are {interval_words(comparison)} (n = {comparison.patients} {whom}), paired for differences",
        "p is the level at which the paired interval, over cases and seeds, just excludes 0"
        if several
        else "p is of a sign-flip permutation test over the cases: it holds for these trained networks, and another "
        "seed may give another answer",
        f"p is corrected by Holm for all rows of the table; Wilcoxon's signed-rank test over {whom} stands beside it, "
        "uncorrected, for these trained networks",
        "micro-averaged Dice is the paper's measure: over all slices of all cases together, on the model's grid",
        "training is the time of the steps alone, on a CPU process time; of a program that does not report it, all its "
        "time",
    ]
    if comparison.patients < FEWEST_GROUPS:
        lines.append(f"with fewer than {FEWEST_GROUPS} {whom} there are no intervals")
    if any(row.paper is not None for row in comparison.rows):
        lines.append(PAPER_NOTE)
    return lines


def _difference_cells(difference: Difference | None, digits: int = 4) -> list[Cell]:
    if difference is None:
        return [Cell(NOTHING)] * 4
    return [
        Cell(_with_interval(difference.dice, digits, sign="+"), difference.dice.value),
        Cell(f"{difference.better} of {difference.cases}", difference.better),
        _p_cell(difference.p_holm),
        _p_cell(difference.wilcoxon_p),
    ]


def _p_cell(p: float) -> Cell:
    return Cell(NOTHING if math.isnan(p) else "< 0.0005" if p < 0.0005 else f"{p:.4f}", p)


def _with_interval(found: Estimate, digits: int = 4, sign: str = "") -> str:
    return NOTHING if math.isnan(found.value) else show_estimate(found.value, found.low, found.high, digits, sign)


def _cell(value: float, digits: int) -> Cell:
    return Cell(_figure(value, digits), value)


def _figure(value: float, digits: int, sign: str = "") -> str:
    return NOTHING if math.isnan(value) else f"{value:{sign}.{digits}f}"


def _duration(seconds: float) -> str:
    if math.isnan(seconds):
        return NOTHING
    if seconds < 120:
        return f"{seconds:.2f} s" if seconds < 10 else f"{seconds:.0f} s"
    return f"{seconds / 60:.1f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"
