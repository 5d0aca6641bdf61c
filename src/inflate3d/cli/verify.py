"""Check every case of a dataset, report all problems at once, and summarize the cases."""

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
from inflate3d.errors import DatasetProblems, Inflate3dError, truncate
from inflate3d.preparation.examine import examine
from inflate3d.preparation.summary import class_rows, property_rows, region_rows, summarize

MOST_SHOWN = 5
"""Most cases or findings of one kind that are listed; ``--json`` lists all."""


class Options(CommandOptions):
    """Options of ``verify``."""

    dataset: Positional[Path]
    """The dataset's folder."""
    classes: tuple[str, ...] = ()
    """Classes to train on, by name or value; others count as background. By default all."""
    merge: tuple[str, ...] = ()
    """Classes to merge, each like kidneys=2+3 or "kidneys=left kidney+right kidney"."""
    ignore: str | None = None
    """Class or label value of voxels that are neither trained on nor scored."""
    allow_missing_modality: bool = False
    """Replace a case's missing modalities with zeros."""
    jobs: int | None = None
    """Number of processes; by default one per core."""


def run(options: Options, terminal: Terminal) -> dict[str, Any]:
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
    found = f"{len(examination.warnings)} warning(s)" if examination.warnings else "no warnings"
    terminal.print(f"{summary['cases']} cases of {dataset.name}: no problems, {found}")
    return {
        "dataset": dataset.name,
        "cases": summary["cases"],
        "problems": [],
        "warnings": [warning.to_dict() for warning in examination.warnings],
        "fingerprint": summary,
    }


def show_summary(summary: dict[str, Any], dataset: Dataset, terminal: Terminal) -> None:
    stored = ", ".join(f"{what} ({count})" for what, count in (summary["orientations"] | summary["data_types"]).items())
    terminal.print(f"{summary['cases']} cases of {dataset.name}, stored as {stored}")
    terminal.table("Cases", ["across cases", "minimum", "median", "maximum"], property_rows(summary))
    columns = ["class", "cases", "voxels", "slices left-right", "back-front", "down-up"]
    terminal.table("Classes", columns, class_rows(summary))
    if dataset.regions:
        terminal.table("Regions", ["region", "label values", "cases", "voxels"], region_rows(summary))


def show_warnings(warnings: Sequence[Inflate3dError], terminal: Terminal) -> None:
    if not warnings:
        return
    terminal.print(f"{len(warnings)} warning(s)")
    ordered = sorted(warnings, key=lambda warning: warning.what)
    for what, alike in groupby(ordered, key=lambda warning: warning.what):
        _show_alike(what, list(alike), terminal)


def _show_alike(what: str, warnings: list[Inflate3dError], terminal: Terminal) -> None:
    """Shows warnings of one kind: cases with the same finding on one line, and each hint once."""
    terminal.print(f"- {what}")
    found: dict[str, list[str]] = defaultdict(list)
    for warning in warnings:
        expected = f" (expected {warning.expected})" if warning.expected else ""
        found[f"{warning.got or ''}{expected}"].append(warning.case or "")
    for finding, cases in list(found.items())[:MOST_SHOWN]:
        terminal.print("    " + ": ".join(filter(None, [truncate(cases, MOST_SHOWN), finding])))
    if len(found) > MOST_SHOWN:
        terminal.print(f"    and {len(found) - MOST_SHOWN} more")
    for hint in dict.fromkeys(warning.hint for warning in warnings if warning.hint):
        terminal.print(f"    {hint}")
