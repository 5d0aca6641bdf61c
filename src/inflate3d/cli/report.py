"""Write the page of a run again: scores, curves, pictures of the best, median and worst case. It opens offline."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tyro.conf import Positional

from inflate3d.cli.terminal import CommandOptions, Terminal
from inflate3d.config import RunConfig
from inflate3d.datasets import read_dataset
from inflate3d.evaluation.scores import Scores
from inflate3d.run_folder import FoldsFolder, RunFolder, open_folder


class Options(CommandOptions):
    """Options of ``report``."""

    run: Positional[Path]
    """The run's folder, or a folder of folds; without an evaluation, the page shows the training only."""
    overwrite: bool = False
    """Replace files that inflate3d did not write."""


def run(options: Options, terminal: Terminal) -> dict[str, Any]:
    page = write_page(open_folder(options.run), overwrite=options.overwrite)
    size = page.stat().st_size
    terminal.print(f"report: {page} ({size / 1e6:.1f} MB)")
    return {"report": str(page), "bytes": size}


def write_page(folder: RunFolder | FoldsFolder, *, overwrite: bool = False) -> Path:
    """Writes the page of a run: its training, and its scores if it has been evaluated."""
    from inflate3d.report.page import write_report

    dataset = read_dataset(RunConfig.read(folder.runs[0].config).dataset)
    scores = Scores.read(folder.evaluation) if (folder.evaluation / "scores.json").exists() else None
    return write_report(folder, dataset, scores, overwrite=overwrite)
