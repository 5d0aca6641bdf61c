"""Propose a description of a folder of scans and label maps, for a person to correct."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tyro.conf import Positional

from inflate3d.cli.terminal import CommandOptions, Terminal
from inflate3d.datasets.proposal import Proposal, propose

SHOWN = 10
"""At most so many files that could not be used are named; the others stand in ``dataset.yaml``."""


class Options(CommandOptions):
    """Options of ``init``."""

    folder: Positional[Path]
    """The folder that holds the scans and their label maps."""
    force: bool = False
    """Propose dataset.yaml and cases.csv anew where they are there."""


def run(options: Options, terminal: Terminal) -> dict[str, Any]:
    """Proposes."""
    proposal = propose(options.folder, replace=options.force, progress=terminal.progress)
    written = proposal.write()
    _show(proposal, terminal)
    terminal.print(f"written: {', '.join(map(str, written))}")
    terminal.print(f"Look them over, name the classes, then: inflate3d verify {options.folder}")
    return {
        "written": [str(path) for path in written],
        "cases": len(proposal.rows),
        "modalities": list(proposal.modalities),
        "modality_reason": proposal.modality_reason,
        "classes": {str(value): name for value, name in proposal.classes.items()},
        "label_files": {str(value): count for value, count in proposal.label_files.items()},
        "groups": len(proposal.groups),
        "left_out": [{"file": file, "reason": reason} for file, reason in proposal.left_out],
    }


def _show(proposal: Proposal, terminal: Terminal) -> None:
    source = "cases.csv, which was there" if proposal.has_table else "the names of the files"
    terminal.print(f"{len(proposal.rows)} cases, from {source}")
    terminal.print(f"modalities: {', '.join(proposal.modalities)} ({proposal.modality_reason})")
    counts = [f"{value} in {count}" for value, count in proposal.label_files.items()]
    terminal.print(f"label values, and in how many label maps: {', '.join(counts)}")
    if proposal.groups:
        terminal.print(f"{len(proposal.groups)} patients, from the names of the cases; a split keeps each together")
    if any(row.part for row in proposal.rows):
        terminal.print("a split into train, validation and test, from the names of the folders")
    if proposal.left_out:
        terminal.print(f"{len(proposal.left_out)} files could not be used:")
        terminal.print("\n".join(f"  {file}: {reason}" for file, reason in proposal.left_out[:SHOWN]))
        if len(proposal.left_out) > SHOWN:
            terminal.print(f"  and {len(proposal.left_out) - SHOWN} more; dataset.yaml lists all")
