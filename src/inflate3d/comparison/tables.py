"""A comparison as a table: Markdown to read, CSV and JSON to reckon with."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from inflate3d.atomic import write_text
from inflate3d.comparison.cost import Network
from inflate3d.comparison.document import JSON_FILE, document, to_dict
from inflate3d.comparison.paper import NOTE as PAPER_NOTE
from inflate3d.comparison.results import Comparison, Difference, Row
from inflate3d.evaluation.statistics import Estimate

NOTHING = "–"
"""Shown where there is no figure."""

OF_CASES = "dice_of_cases"
"""Too much for a line of the CSV file."""


class Cell(NamedTuple):
    """A table's cell.

    Attributes:
        text: What it shows.
        value: What it is sorted by; NaN where it has no figure.
    """

    text: str
    value: float = math.nan


def write_tables(comparison: Comparison, folder: Path) -> None:
    """Writes ``comparison.md``, ``comparison.csv`` and ``comparison.json``, each atomically.

    Raises:
        OutputError: A file can't be written.
    """
    write_text(folder / "comparison.md", to_markdown(comparison))
    told = [to_dict(row) for row in comparison.rows]
    rows = [_flat({name: value for name, value in row.items() if name != OF_CASES}) for row in told]
    columns = list(dict.fromkeys(name for row in rows for name in row))
    lines = io.StringIO()
    writer = csv.DictWriter(lines, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_text(folder / "comparison.csv", lines.getvalue())
    write_text(folder / JSON_FILE, json.dumps(document(comparison), indent=2, ensure_ascii=False) + "\n")


def to_markdown(comparison: Comparison) -> str:
    """A comparison as two tables, quality and cost, with what the figures mean."""
    first = comparison.arms[0]
    parts = [
        f"# {comparison.dataset}: {', '.join(comparison.arms)}",
        f"{len(comparison.held_out)} held-out cases; {_seeds(comparison)}. Differences are from {first}.",
        _markdown_table(*quality_table(comparison)),
        *(f"- **{row.arm}**: {row.words}." for row in _one_size(comparison) if row.words),
        _markdown_table(*cost_table(comparison)),
        "\n".join(f"- {line}" for line in notes(comparison)),
    ]
    return "\n\n".join(parts).replace(".\n\n- **", ".\n- **") + "\n"


def quality_table(comparison: Comparison) -> tuple[list[str], list[list[str]]]:
    """Columns and rows of the figures of quality."""
    return _texts(*quality_cells(comparison))


def quality_cells(comparison: Comparison) -> tuple[list[str], list[list[Cell]]]:
    """The same, with what to sort by; lower is better of p and HD95 alone."""
    several_sizes, several_seeds = len(comparison.sizes) > 1, len(comparison.seeds) > 1
    has_paper = any(row.paper is not None for row in comparison.rows)
    columns = [
        "arm",
        *(["training cases"] if several_sizes else []),
        "Dice (95 %)",
        *(["± seeds"] if several_seeds else []),
        "difference (95 %)",
        "better in",
        "p (Holm)",
        "HD95 mm",
        "NSD",
        "pooled",
        *(["the paper's"] if has_paper else []),
    ]
    rows = [
        [
            Cell(row.arm),
            *([Cell(str(row.cases), row.cases)] if several_sizes else []),
            Cell(_with_interval(row.dice), row.dice.value),
            *([_cell(row.seed_deviation, 4)] if several_seeds else []),
            *_difference_cells(row.difference),
            _cell(row.hd95, 2),
            _cell(row.nsd, 4),
            _cell(row.pooled, 4),
            *([_cell(math.nan if row.paper is None else row.paper / 100, 4)] if has_paper else []),
        ]
        for row in comparison.rows
    ]
    return columns, rows


def class_cells(comparison: Comparison) -> tuple[list[str], list[list[Cell]]]:
    """Columns and rows of each class's Dice."""
    several_sizes = len(comparison.sizes) > 1
    columns = ["arm", *(["training cases"] if several_sizes else []), *comparison.rows[0].classes]
    rows = [
        [
            Cell(row.arm),
            *([Cell(str(row.cases), row.cases)] if several_sizes else []),
            *(_cell(value, 4) for value in row.classes.values()),
        ]
        for row in comparison.rows
    ]
    return columns, rows


def short_table(comparison: Comparison) -> tuple[list[str], list[list[str]]]:
    """Columns and rows of the figures of quality that fit a terminal."""
    several_sizes = len(comparison.sizes) > 1
    columns = ["arm", *(["cases"] if several_sizes else []), "Dice", "difference (95 %)", "p", "HD95", "NSD"]
    rows = []
    for row in comparison.rows:
        found, _, p = (cell.text for cell in _difference_cells(row.difference, digits=3))
        size = [str(row.cases)] if several_sizes else []
        rows.append([row.arm, *size, _figure(row.dice.value, 4), found, p, _figure(row.hd95, 1), _figure(row.nsd, 3)])
    return columns, rows


def cost_table(comparison: Comparison) -> tuple[list[str], list[list[str]]]:
    """Columns and rows of what each arm needs."""
    return _texts(*cost_cells(comparison))


def cost_cells(comparison: Comparison) -> tuple[list[str], list[list[Cell]]]:
    """The same, with what to sort by."""
    columns = [
        "arm",
        "parameters",
        "GFLOP: encoder + decoder",
        "training",
        "prediction of a scan",
        "peak memory",
        "device",
    ]
    rows = []
    for row in _one_size(comparison):
        network, memory = row.cost.network, row.cost.peak_memory_bytes
        cells = [
            Cell(row.arm),
            Cell(f"{network.parameters / 1e6:.2f} M", network.parameters),
            Cell(_flops(network), network.flops),
            Cell(_duration(row.cost.training_seconds), row.cost.training_seconds),
            Cell(_duration(row.cost.prediction_seconds), row.cost.prediction_seconds),
            Cell(NOTHING if math.isnan(memory) else f"{memory / 2**30:.2f} GiB", memory),
            Cell(row.cost.device),
        ]
        rows.append(cells)
    return columns, rows


def _texts(columns: list[str], rows: Sequence[Sequence[Cell]]) -> tuple[list[str], list[list[str]]]:
    return columns, [[cell.text for cell in row] for row in rows]


def _flops(network: Network) -> str:
    whole = f"{network.flops / 1e9:,.1f} a {network.seen}"
    if network.encoder_flops is None:
        return whole
    return f"{network.encoder_flops / 1e9:,.1f} + {(network.flops - network.encoder_flops) / 1e9:,.1f} = {whole}"


def notes(comparison: Comparison) -> list[str]:
    """What the figures mean, a sentence each."""
    told = [
        "Dice, HD95 and NSD are means over classes of means over cases, on each scan's own grid"
        + ("" if math.isnan(comparison.tolerance) else f"; NSD at {comparison.tolerance:g} mm")
        + (", averaged over the seeds" if len(comparison.seeds) > 1 else ""),
        "intervals are bootstrap percentiles over the held-out cases, paired for differences: they hold for these "
        "trained networks, and another seed may move them",
        "p is Wilcoxon's signed-rank test on the cases' mean Dice, corrected by Holm for all rows of the table",
        "pooled is the paper's measure: over all slices of all cases together, on the model's grid",
    ]
    fewest = min((row.difference.cases for row in comparison.rows if row.difference), default=0)
    if 0 < fewest < 6:
        told.append(f"with {fewest} cases the test can't fall below p = {2 / 2**fewest:.3g}, whatever the difference")
    if any(row.paper is not None for row in comparison.rows):
        told.append(PAPER_NOTE)
    return told


def _one_size(comparison: Comparison) -> list[Row]:
    """The rows of the largest number of training cases."""
    return [row for row in comparison.rows if row.cases == comparison.sizes[-1]]


def _seeds(comparison: Comparison) -> str:
    listed = ", ".join(map(str, comparison.seeds))
    return f"seeds {listed}" if len(comparison.seeds) > 1 else f"seed {listed}"


def _difference_cells(difference: Difference | None, digits: int = 4) -> list[Cell]:
    if difference is None:
        return [Cell(NOTHING)] * 3
    p = difference.p_corrected
    told = NOTHING if math.isnan(p) else "< 0.0001" if p < 0.0001 else f"{p:.4f}"
    return [
        Cell(_with_interval(difference.dice, digits, sign="+"), difference.dice.value),
        Cell(f"{difference.better} of {difference.cases}", difference.better),
        Cell(told, p),
    ]


def _with_interval(found: Estimate, digits: int = 4, sign: str = "") -> str:
    value = _figure(found.value, digits, sign)
    if math.isnan(found.low):
        return value
    return f"{value} ({_figure(found.low, digits, sign)} to {_figure(found.high, digits, sign)})"


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


def _markdown_table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [columns, ["---", *["---:"] * (len(columns) - 1)], *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _flat(values: dict[str, Any], before: str = "") -> dict[str, Any]:
    """Nested values as one level, such as ``dice.low``."""
    flat: dict[str, Any] = {}
    for name, value in values.items():
        flat |= _flat(value, f"{before}{name}.") if isinstance(value, dict) else {before + name: value}
    return flat
