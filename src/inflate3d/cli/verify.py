"""Check every case of a data set, and tell all problems at once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tyro.conf import Positional

from inflate3d.cli.terminal import CommandOptions, Terminal
from inflate3d.datasets import read_dataset
from inflate3d.preparation.prepare import examine


class Options(CommandOptions):
    """Options of ``verify``."""

    dataset: Positional[Path]
    """The data set's folder."""
    jobs: int | None = None
    """Processes; as many as cores if not given."""


def run(options: Options, terminal: Terminal) -> dict[str, Any]:
    """Checks the cases."""
    dataset = read_dataset(options.dataset)
    fingerprint = examine(dataset, workers=options.jobs, progress=terminal.progress)
    terminal.say(f"{len(fingerprint.cases)} cases of {dataset.name}, no problem found")
    return {"dataset": dataset.name, "cases": len(fingerprint.cases), "problems": []}
