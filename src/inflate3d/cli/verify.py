"""Check every case of a dataset, tell all problems at once, and show what the cases are like."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

from tyro.conf import Positional

from inflate3d.cli.terminal import CommandOptions, Terminal
from inflate3d.datasets import Dataset, read_dataset
from inflate3d.datasets.classes import choose_classes
from inflate3d.errors import DatasetProblems, Inflate3dError
from inflate3d.preparation.examine import examine
from inflate3d.preparation.summary import Summary, class_rows, property_rows, summarize

MOST_TOLD = 5
"""Cases, or findings, of one kind that are told one by one; ``--json`` tells all."""


class Options(CommandOptions):
    """Options of ``verify``."""

    dataset: Positional[Path]
    """The dataset's folder."""
    classes: tuple[str, ...] = ()
    """Classes to learn, by name or value, the others count as background; all if not given."""
    merge: tuple[str, ...] = ()
    """Joins of classes, each like kidneys=2+3 or "kidneys=left kidney+right kidney"."""
    ignore: str | None = None
    """Class or label value of voxels that are neither learned from nor scored."""
    allow_missing_modality: bool = False
    """Let zeros stand in for modalities that a case lacks."""
    jobs: int | None = None
    """Processes; as many as cores if not given."""


def run(options: Options, terminal: Terminal) -> dict[str, Any]:
    """Checks the cases."""
    dataset = choose_classes(
        read_dataset(options.dataset), keep=options.classes, merge=options.merge, ignore=options.ignore
    )
    try:
        examination = examine(
            dataset,
            allow_missing_modality=options.allow_missing_modality,
            workers=options.jobs,
            progress=terminal.progress,
        )
    except DatasetProblems as problems:
        show_warnings(problems.warnings, terminal)
        raise
    summary = summarize(examination.fingerprint, dataset)
    show_summary(summary, dataset, terminal)
    show_warnings(examination.warnings, terminal)
    found = f"{len(examination.warnings)} warning(s)" if examination.warnings else "nothing odd"
    terminal.print(f"{summary.cases} cases of {dataset.name}: no problem, {found}")
    return {
        "dataset": dataset.name,
        "cases": summary.cases,
        "problems": [],
        "warnings": [warning.to_dict() for warning in examination.warnings],
        "fingerprint": summary.model_dump(mode="json"),
    }


def show_summary(summary: Summary, dataset: Dataset, terminal: Terminal) -> None:
    """Shows what the cases are like."""
    stored = ", ".join(f"{what} ({count})" for what, count in (summary.orientations | summary.data_types).items())
    terminal.print(f"{summary.cases} cases of {dataset.name}, stored as {stored}")
    terminal.table("Cases", ["over the cases", "least", "median", "most"], property_rows(summary))
    columns = ["class", "cases", "voxels", "slices left-right", "back-front", "down-up"]
    terminal.table("Classes", columns, class_rows(summary))


def show_warnings(warnings: Sequence[Inflate3dError], terminal: Terminal) -> None:
    """Tells warnings, those of one kind together."""
    if not warnings:
        return
    terminal.print(f"{len(warnings)} warning(s)")
    ordered = sorted(warnings, key=lambda warning: warning.what)
    for what, alike in groupby(ordered, key=lambda warning: warning.what):
        _show_alike(what, list(alike), terminal)


def _show_alike(what: str, warnings: list[Inflate3dError], terminal: Terminal) -> None:
    """Tells warnings of one kind: cases with equal findings in one line, a hint once."""
    terminal.print(f"- {what}")
    found: dict[str, list[str]] = defaultdict(list)
    for warning in warnings:
        expected = f" (expected {warning.expected})" if warning.expected else ""
        found[f"{warning.got or ''}{expected}"].append(warning.case or "")
    for finding, cases in list(found.items())[:MOST_TOLD]:
        more = f" and {len(cases) - MOST_TOLD} more" if len(cases) > MOST_TOLD else ""
        terminal.print("    " + ": ".join(filter(None, [", ".join(cases[:MOST_TOLD]) + more, finding])))
    if len(found) > MOST_TOLD:
        terminal.print(f"    and {len(found) - MOST_TOLD} more")
    for hint in dict.fromkeys(warning.hint for warning in warnings if warning.hint):
        terminal.print(f"    {hint}")
