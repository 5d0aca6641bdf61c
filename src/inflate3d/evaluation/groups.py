"""Tables of groups of cases, such as site, scanner or fold."""

from __future__ import annotations

import csv
import io
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

from inflate3d.documents import read_text
from inflate3d.errors import DataError, truncate

CASE = "case"
"""The column that names the case."""

SPACING = "spacing"
"""The kind of group by voxel size."""

UNKNOWN = "unknown"
"""The group of a case that has none."""

_SPACINGS = (1, 2, 3, 5)
"""Boundaries between groups of spacings, in millimeters."""


def read_groups(file: Path) -> dict[str, dict[str, str]]:
    """Reads a CSV file with a column ``case``; every other column is a kind of group.

    Returns:
        By kind, the group of each case that has one.
    """
    try:
        reader = csv.DictReader(io.StringIO(read_text(file, encoding="utf-8-sig")))
        columns = [name.strip() for name in reader.fieldnames or []]
        reader.fieldnames = columns
        rows = list(reader)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError("cannot read the table of groups", got=error, file=file) from error
    kinds = [name for name in columns if name != CASE]
    if not kinds or CASE not in columns:
        raise DataError(
            "the table of groups has no groups",
            expected=f"columns {CASE} and one or more others, such as site",
            got=", ".join(columns) or "no columns",
            file=file,
        )
    if SPACING in kinds:
        raise DataError(
            f"the table of groups has a column {SPACING}; cases are grouped by spacing automatically",
            hint="rename the column",
            file=file,
        )
    by_case = _by_case(rows, file)
    return {kind: {case: _cell(row, kind) for case, row in by_case.items() if _cell(row, kind)} for kind in kinds}


def check_groups(groups: Mapping[str, Mapping[str, str]], cases: Collection[str]) -> None:
    """Checks that a table of groups concerns the scored cases.

    Args:
        groups: By kind, the group of each case.
        cases: Names of the cases; the table may contain others too.
    """
    for kind, members in groups.items():
        if members and not any(case in members for case in cases):
            raise DataError(
                f"the table of groups has no {kind} for any scored case",
                expected=f"names of cases, such as {truncate([*cases], 2)}",
                got=truncate([*members], 2),
                hint="name the cases after their label maps, without the suffix",
            )


def spacing_group(spacing: Sequence[float]) -> str:
    """The range that a scan's largest spacing falls into, such as ``1 to 2 mm``.

    Args:
        spacing: Millimeters between voxels along the three axes.
    """
    largest = round(max(spacing), 3)  # headers round
    below = [limit for limit in _SPACINGS if limit < largest]
    above = [limit for limit in _SPACINGS if limit >= largest]
    if not below:
        return f"up to {above[0]} mm"
    return f"{below[-1]} to {above[0]} mm" if above else f"over {below[-1]} mm"


def _by_case(rows: Sequence[Mapping[str, str | None]], file: Path) -> dict[str, Mapping[str, str | None]]:
    """The rows by case; rows without a case are left out."""
    found: dict[str, Mapping[str, str | None]] = {}
    for row in rows:
        if (case := _cell(row, CASE)) in found:
            raise DataError("duplicate case in the table of groups", case=case, file=file)
        if case:
            found[case] = row
    return found


def _cell(row: Mapping[str, str | None], column: str) -> str:
    return (row[column] or "").strip()
