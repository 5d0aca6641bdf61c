"""A table that says which groups cases are in: their site, their scanner, their fold."""

from __future__ import annotations

import csv
import io
from pathlib import Path

from inflate3d.documents import read_text
from inflate3d.errors import DataError

CASE = "case"
"""The column that names the case."""


def read_groups(file: Path) -> dict[str, dict[str, str]]:
    """Reads a CSV file with a column ``case``; every other column is a kind of group.

    Args:
        file: The table. An empty cell is no group.

    Returns:
        By kind, the group of each case that has one.

    Raises:
        DataError: The file can't be read, or has no column ``case`` or no other.
    """
    try:
        reader = csv.DictReader(io.StringIO(read_text(file, encoding="utf-8-sig")))
        columns = list(reader.fieldnames or [])
        rows = list(reader)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError("the table of groups can't be read", got=error, file=file) from error
    kinds = [name for name in columns if name != CASE]
    if not kinds or CASE not in columns:
        raise DataError(
            "the table names no groups",
            expected=f"columns {CASE} and one or more others, such as site",
            got=", ".join(columns) or "no columns",
            file=file,
        )
    return {kind: {row[CASE]: row[kind] for row in rows if row[kind] and row[CASE]} for kind in kinds}
