"""``cases.csv``: the cases of your own folder, one row each, editable in a spreadsheet program."""

from __future__ import annotations

import csv
import io
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from inflate3d.atomic import write_text
from inflate3d.documents import read_text
from inflate3d.errors import DataError, DatasetProblems, truncate

TABLE = "cases.csv"
"""Default name of the table; a folder's listing may give another."""

LARGEST_TABLE = 1 << 25
"""Size limit of a table in bytes; one of 100,000 cases has half as many."""

PARTS = ("train", "validation", "test")
"""Values of the column ``split``; other common spellings are accepted too."""

_SPELLINGS = {part: part for part in PARTS} | {
    "training": "train",
    "val": "validation",
    "valid": "validation",
    "testing": "test",
}

_EXAMPLE = "case,image,label / case_01,images/case_01.nii.gz,labels/case_01.nii.gz"


@dataclass(frozen=True)
class Row:
    """A row of the case table.

    Attributes:
        images: The image columns in order: a path, or ``None`` for a missing modality.
        part: One of `PARTS`; ``None`` in a table without a split.
        group: Its group, such as the patient, which splits keep together.
    """

    case: str
    images: tuple[str | None, ...]
    label: str
    part: str | None = None
    group: str | None = None


def read_table(path: Path) -> list[Row]:
    """Reads the table; does not check that the listed files exist.

    Columns are ``case, image, label``, ``image2``, ``image3`` ... for scans with one file per modality, and optionally
    ``split`` and ``group``, in any order, separated by commas, semicolons or tabs.

    Returns:
        Its rows in order, without empty ones.
    """
    lines = _read_lines(path)
    columns = _columns(lines[0][1], path)
    rows: dict[int, Row] = {}
    problems: list[DataError] = []
    for number, cells in lines[1:]:
        row = _row(columns, cells)
        rows[number] = row
        problems += _row_problems(row, len(cells) - len(columns), number, path)
    if not rows:
        raise DataError("no case is listed", expected=f"rows like {_EXAMPLE}", got="the header alone", file=path)
    problems += _repetition_problems(rows, path)
    problems += _split_problems(rows, path)
    if problems:
        raise DatasetProblems(problems)
    return [
        Row(row.case, row.images, row.label, row.part and _SPELLINGS[row.part.lower()], row.group)
        for row in rows.values()
    ]


def write_table(path: Path, rows: Sequence[Row]) -> None:
    """Writes the table; the columns ``split`` and ``group`` only where some row has one."""
    image_columns = image_column_names(max(len(row.images) for row in rows))
    with_parts = any(row.part for row in rows)
    with_groups = any(row.group for row in rows)
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["case", *image_columns, "label", *["split"] * with_parts, *["group"] * with_groups])
    for row in rows:
        cells = [row.case, *(image or "" for image in row.images), row.label]
        writer.writerow([*cells, *[row.part or ""] * with_parts, *[row.group or ""] * with_groups])
    write_text(path, text.getvalue())


def image_column_names(count: int) -> list[str]:
    """``image``, ``image2``, ``image3`` ..."""
    return ["image", *(f"image{number}" for number in range(2, count + 1))]


def _read_lines(path: Path) -> list[tuple[int, list[str]]]:
    """The non-empty rows with their line numbers, header first."""
    try:
        text = read_text(path, encoding="utf-8-sig", most=LARGEST_TABLE)
    except OSError as error:
        raise DataError(
            f"{path.name} can't be read", expected=f"a table like {_EXAMPLE}", got=error.strerror, file=path
        ) from error
    except UnicodeDecodeError as error:
        raise DataError(
            f"{path.name} is not text in UTF-8",
            got=error,
            hint='save it again as "CSV UTF-8"; a spreadsheet itself (.xlsx) can\'t be read',
            file=path,
        ) from error
    first = next((line for line in text.splitlines() if line.strip()), "")
    separator = max(",;\t", key=first.count)
    try:
        lines = list(_numbered(csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True)))
    except csv.Error as error:
        raise DataError(
            f"{path.name} is not a table", got=error, hint="check its quotation marks", file=path
        ) from error
    if not lines:
        raise DataError(f"{path.name} is empty", expected=f"a table like {_EXAMPLE}", file=path)
    return lines


def _numbered(lines: Iterator[list[str]]) -> Iterator[tuple[int, list[str]]]:
    for number, cells in enumerate(lines, start=1):
        stripped = [cell.strip() for cell in cells]
        while stripped and not stripped[-1]:  # spreadsheets save empty columns behind the last one
            stripped.pop()
        if stripped:
            yield number, stripped


def _columns(header: list[str], path: Path) -> list[str]:
    """The column names in lower case, after checking them."""
    columns = [name.lower() for name in header]
    images = image_column_names(sum(bool(re.fullmatch(r"image\d*", name)) for name in columns))
    known = {"case", *images, "label", "split", "group"}
    counts = Counter(columns)
    wrong = ""
    if twice := [name for name, count in counts.items() if count > 1]:
        wrong = f"the column {twice[0] or '(no name)'} twice"
    elif missing := [name for name in ("case", *images, "label") if name not in counts]:
        wrong = f"no column {' or '.join(missing)}"
    elif unknown := [name or "(no name)" for name in columns if name not in known]:
        wrong = f"a column {' and a column '.join(unknown)}"
    if wrong:
        raise DataError(
            f"{path.name} does not have the columns of a table of cases",
            expected="case, image, label; image2, image3 ... for a file per modality; optionally split, group",
            got=f"{wrong}, in the header {', '.join(columns)}",
            hint="correct the first row",
            file=path,
        )
    return columns


def _row(columns: list[str], cells: list[str]) -> Row:
    """A row as it is, with its problems; missing cells of a short row are empty."""
    padded = cells + [""] * (len(columns) - len(cells))
    values = dict(zip(columns, padded, strict=False))
    images = image_column_names(sum(name.startswith("image") for name in columns))
    return Row(
        case=values["case"],
        images=tuple(values[name] or None for name in images),
        label=values["label"],
        part=values.get("split") or None,
        group=values.get("group") or None,
    )


def _row_problems(row: Row, surplus: int, number: int, path: Path) -> Iterator[DataError]:
    case = row.case or None
    if surplus > 0:
        yield DataError(
            "a row has more cells than the header has columns",
            got=f"row {number}: {surplus} more",
            hint="put quotation marks around a cell that contains a separator",
            case=case,
            file=path,
        )
    filled = {"case": row.case, "image": any(row.images), "label": row.label}
    wanted = {"case": "the case's name", "image": "the scan's file", "label": "the label map's file"}
    for column in (name for name, value in filled.items() if not value):
        yield DataError(
            "empty cell",
            expected=wanted[column],
            got=f"row {number}, column {column}: nothing",
            hint="fill it in, or delete the row",
            case=case,
            file=path,
        )
    if row.part and row.part.lower() not in _SPELLINGS:
        yield DataError(
            "unknown part of the split",
            expected=", ".join(PARTS),
            got=f"row {number}, column split: {row.part}",
            case=case,
            file=path,
        )


def _repetition_problems(rows: dict[int, Row], path: Path) -> Iterator[DataError]:
    places: dict[str, list[int]] = {}
    for number, row in rows.items():
        places.setdefault(row.case, []).append(number)
    for case, numbers in places.items():
        if case and len(numbers) > 1:
            yield DataError(
                "duplicate case name",
                expected="another name in each row",
                got=f"rows {truncate(list(map(str, numbers)))}, column case: {case}",
                case=case,
                file=path,
            )


def _split_problems(rows: dict[int, Row], path: Path) -> Iterator[DataError]:
    """Cases without a part although others have one, and groups that the split tears apart."""
    if not any(row.part for row in rows.values()):
        return
    parts_of: dict[str, set[str]] = {}
    for number, row in rows.items():
        if not row.part:
            yield DataError(
                "the case is not assigned to a part of the split",
                expected=", ".join(PARTS),
                got=f"row {number}, column split: nothing",
                hint="fill the column split in every row, or in none",
                case=row.case,
                file=path,
            )
        elif row.group:
            parts_of.setdefault(row.group, set()).add(_SPELLINGS.get(row.part.lower(), row.part))
    for group, parts in parts_of.items():
        if len(parts) > 1:
            yield DataError(
                "the split separates a group",
                expected="all cases of a group in one part",
                got=f"cases of {group} in {' and '.join(sorted(parts))}",
                hint="correct the columns split and group",
                file=path,
            )
