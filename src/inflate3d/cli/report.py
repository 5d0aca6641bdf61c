"""Write the page of a run again: scores, curves, pictures of the best, median and worst case; it opens offline.

For the folder of a comparison, the page that holds its methods against each other.
"""

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
    """The run's folder, a folder of folds, or a comparison's; one not evaluated gets a page of its training."""
    overwrite: bool = False
    """Replace files that inflate3d did not write."""


def run(options: Options, terminal: Terminal) -> dict[str, Any]:
    """Writes the page."""
    page = _write(options)
    size = page.stat().st_size
    terminal.print(f"report: {page} ({size / 1e6:.1f} MB)")
    return {"report": str(page), "bytes": size}


def _write(options: Options) -> Path:
    from inflate3d.comparison.results import JSON_FILE, Comparison
    from inflate3d.report.comparison import write_comparison_page

    if (options.run / JSON_FILE).exists():
        return write_comparison_page(Comparison.read(options.run), options.run, overwrite=options.overwrite)
    return write_page(open_folder(options.run), overwrite=options.overwrite)


def write_page(folder: RunFolder | FoldsFolder, *, overwrite: bool = False) -> Path:
    """Writes a run's page with what there is: its training, and its scores if it is evaluated."""
    from inflate3d.report.page import write_report

    dataset = read_dataset(RunConfig.read(folder.runs[0].config).dataset)
    scores = Scores.read(folder.evaluation) if (folder.evaluation / "scores.json").exists() else None
    return write_report(folder, dataset, scores, overwrite=overwrite)
