"""Rank the label maps of a run by how implausibly they disagree with the networks that did not learn from them.

Needs no label that is known to be right: each case is predicted by the network that held it out, and voxels in which
label and prediction differ count by the network's certainty. Best after `inflate3d train DATASET --folds all`, which
holds out every case once.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import Field
from tyro.conf import Positional

from inflate3d.cli.predict import PredictionOptions
from inflate3d.cli.terminal import CommandOptions, Terminal
from inflate3d.run_folder import open_folder


class Options(CommandOptions):
    """Options of ``suspects``."""

    run: Positional[Path]
    """The run's folder, or a folder of folds."""
    count: int = Field(default=20, ge=1)
    """Number of label maps to show and draw; the tables list all of them."""
    dataset: Path | None = None
    """The new location of the run's dataset, if it has moved."""
    prediction: PredictionOptions = PredictionOptions()
    overwrite: bool = False
    """Replace files that inflate3d did not write."""


def run(options: Options, terminal: Terminal) -> dict[str, Any]:
    from inflate3d.annotation.suspects import find_suspects
    from inflate3d.inference.runs import find_dataset
    from inflate3d.report.suspects import write_suspects

    folder = open_folder(options.run)
    dataset = find_dataset(folder, options.dataset)
    suspects = find_suspects(folder, dataset, progress=terminal.progress, **options.prediction.settings())
    page = write_suspects(suspects, folder, pictures=options.count, overwrite=options.overwrite)
    rows = [[each.case.id, f"{each.score:.1f}", suspects.in_words(each)] for each in suspects.ranked[: options.count]]
    terminal.table("Label maps to check, the most implausible first", ["case", "score", "finding"], rows)
    terminal.print("* the score is in robust standard deviations from the median case; the network may also be wrong")
    terminal.print(f"page: {page}")
    return {
        "page": str(page),
        "suspects": suspects.table().to_records(),
        "slices": suspects.slice_table().to_records(),
    }
