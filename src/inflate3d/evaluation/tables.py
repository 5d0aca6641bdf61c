"""Tables of figures, and their CSV and JSON."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

Value = str | int | float | None

NOT_DEFINED = "n/a"
"""Shown where a score is undefined, such as where a class is in neither map."""

ALL_CLASSES = "mean of classes"
"""Stands for the class in rows over all classes."""

_FORMULA = ("=", "+", "-", "@", "\t")
"""First characters of a text that spreadsheet programs would run as a formula."""


@dataclass(frozen=True)
class Table:
    """Rows of texts and numbers under named columns.

    Examples:
        >>> table = Table(("case", "dice"), [("=a", 0.5), ("b", float("nan"))])
        >>> print(table.to_csv(), end="")
        case,dice
        '=a,0.5000
        b,n/a
        >>> table.to_records()
        [{'case': '=a', 'dice': 0.5}, {'case': 'b', 'dice': None}]

    Attributes:
        rows: A value for each column; NaN where it is not defined, None where the column does not apply.
    """

    columns: tuple[str, ...]
    rows: Sequence[Sequence[Value]]

    def to_csv(self, digits: int = 4) -> str:
        """As CSV. Text that a spreadsheet would take for a formula gets a leading apostrophe."""
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(map(_escaped, self.columns))
        writer.writerows([_cell(value, digits) for value in row] for row in self.rows)
        return text.getvalue()

    def to_records(self) -> list[dict[str, Any]]:
        """As a list of dictionaries for JSON, with None in place of NaN."""
        return [dict(zip(self.columns, map(plain, row), strict=True)) for row in self.rows]


def show(value: float, digits: int = 4) -> str:
    """A score rounded for display, or ``n/a``."""
    return NOT_DEFINED if math.isnan(value) else f"{value:.{digits}f}"


def show_estimate(value: float, low: float, high: float, digits: int = 4, sign: str = "") -> str:
    """A figure, with its interval in brackets if it has one."""
    if math.isnan(value):
        return NOT_DEFINED
    shown = f"{value:{sign}.{digits}f}"
    return shown if math.isnan(low) else f"{shown} ({low:{sign}.{digits}f} to {high:{sign}.{digits}f})"


def plain(value: Any) -> Any:
    """A value for JSON: None in place of NaN."""
    return None if isinstance(value, float) and math.isnan(value) else value


def _cell(value: Value, digits: int) -> str:
    if value is None:
        return ""
    if isinstance(value, float):
        return show(value, digits)
    return _escaped(value) if isinstance(value, str) else str(value)


def _escaped(text: str) -> str:
    line = " ".join(text.splitlines()) or text
    return f"'{line}" if line.startswith(_FORMULA) else line
