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
from inflate3d.errors import ConfigError
from inflate3d.evaluation.scores import Scores
from inflate3d.run_folder import FoldsFolder, RunFolder, open_folder


class Options(CommandOptions):
    """Options of ``report``."""

    run: Positional[Path]
    """The run's folder, a folder of folds, or a comparison's; one not evaluated gets a page of its training."""
    beside: Path | None = None
    """Another run on the same split to compare with; by default one in the same folder that differs only in depth."""
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

    if not (options.run / JSON_FILE).exists():
        return write_page(
            open_folder(options.run),
            beside=options.beside,
            overwrite=options.overwrite,
        )
    if options.beside:
        raise ConfigError(
            "a comparison's page shows all of its runs",
            expected="a run's folder with --beside",
            got="the folder of a comparison",
            hint=f"inflate3d report {options.run}/NAME-OF-A-RUN for the page of one of its runs",
            file=options.run,
        )
    return write_comparison_page(Comparison.read(options.run), options.run, overwrite=options.overwrite)


def write_page(folder: RunFolder | FoldsFolder, *, beside: Path | None = None, overwrite: bool = False) -> Path:
    """Writes a run's page with what there is: scores if it is evaluated, its twin of one slice if there is one."""
    from inflate3d.report.methods import find_twin, read_method
    from inflate3d.report.page import write_report

    dataset = read_dataset(RunConfig.read(folder.runs[0].config).dataset)
    if not (folder.evaluation / "scores.json").exists():
        return write_report(folder, dataset, overwrite=overwrite)
    twin = read_method(beside) if beside else find_twin(folder) if isinstance(folder, RunFolder) else None
    shown = (twin.name, twin.scores, twin.folder) if twin else None
    return write_report(folder, dataset, Scores.read(folder.evaluation), twin=shown, overwrite=overwrite)
