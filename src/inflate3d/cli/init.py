"""Propose a description of a folder of scans and label maps, for you to correct."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tyro.conf import Positional

from inflate3d.cli.terminal import CommandOptions, Terminal
from inflate3d.datasets.proposal import Proposal
from inflate3d.datasets.propose import Overlaps, propose

SHOWN = 10
"""Most unused files that are shown; ``dataset.yaml`` lists all."""


class Options(CommandOptions):
    """Options of ``init``."""

    folder: Positional[Path]
    """The folder that holds the scans and their label maps."""
    images: str | None = None
    """Shell pattern of the images' paths below the folder, such as '*/PET_image*'. None: all that are named so."""
    labels: str | None = None
    """Shell pattern of the label maps' paths, such as '*/PET_mask*'. None: all that are named so."""
    overwrite: bool = False
    """Replace dataset.yaml and cases.csv if they exist."""
    overlaps: Overlaps = "smallest"
    """Where masks, or structures of DICOM objects, overlap: keep the class with fewer voxels (smallest), or all of
    them as regions."""


def run(options: Options, terminal: Terminal) -> dict[str, Any]:
    proposal = propose(
        options.folder,
        images=options.images,
        labels=options.labels,
        replace=options.overwrite,
        overlaps=options.overlaps,
        progress=terminal.progress,
    )
    written = proposal.write()
    _show(proposal, terminal)
    terminal.print(f"written: {', '.join(map(str, written))}")
    terminal.print(f"Check them, name the classes, then run: inflate3d verify {options.folder}")
    return {
        "written": [str(path) for path in written],
        "cases": len(proposal.rows),
        "modalities": list(proposal.modalities),
        "modality_reason": proposal.modality_reason,
        "classes": {str(value): name for value, name in proposal.classes.items()},
        "label_files": {str(value): count for value, count in proposal.label_files.items()},
        "groups": len(proposal.groups),
        "overlaps": dict(proposal.overlaps),
        "regions": proposal.regions,
        "left_out": [{"file": file, "reason": reason} for file, reason in proposal.left_out],
    }


def _show(proposal: Proposal, terminal: Terminal) -> None:
    source = "the existing cases.csv" if proposal.has_table else proposal.source
    terminal.print(f"{len(proposal.rows)} cases, from {source}")
    terminal.print(f"modalities: {', '.join(proposal.modalities)} ({proposal.modality_reason})")
    counts = [f"{value} in {count}" for value, count in proposal.label_files.items()]
    terminal.print(f"label values, and the number of label maps with each: {', '.join(counts)}")
    if proposal.masks:
        terminal.print(f"label maps of {len(proposal.masks)} cases were combined from one mask per class")
    if proposal.objects:
        terminal.print(f"label maps of {len(proposal.objects)} cases were combined from DICOM objects")
    if proposal.regions:
        terminal.print(f"structures overlap; regions: {', '.join(proposal.regions)}")
    if proposal.overlaps:
        terminal.print(proposal.overlap_note())
    if proposal.groups:
        terminal.print(f"{len(proposal.groups)} patients, in the column group of cases.csv; splits keep each together")
    if any(row.part for row in proposal.rows):
        terminal.print("a split into train, validation and test, from the names of the folders")
    if proposal.left_out:
        terminal.print(f"{len(proposal.left_out)} files were not used:")
        terminal.print("\n".join(f"  {file}: {reason}" for file, reason in proposal.left_out[:SHOWN]))
        if len(proposal.left_out) > SHOWN:
            terminal.print(f"  and {len(proposal.left_out) - SHOWN} more, listed in dataset.yaml")
