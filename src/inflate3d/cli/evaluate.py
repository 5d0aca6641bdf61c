"""Score a run on the cases that it held out: per case and class, on each scan's own grid."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import Field
from tyro.conf import Positional

from inflate3d.cli.terminal import CommandOptions, Terminal
from inflate3d.config import RunConfig
from inflate3d.datasets import read_dataset
from inflate3d.evaluation.scores import TOLERANCE, Scores, SurfaceScores, show
from inflate3d.run_folder import RunFolder


class Options(CommandOptions):
    """Options of ``evaluate``."""

    run: Positional[Path]
    """The run's folder."""
    batch_size: int = Field(default=16, ge=1)
    """Windows predicted at a time."""
    tolerance: float = Field(default=TOLERANCE, ge=0)
    """Millimetres that a surface may be off and still count as right in NSD."""


def run(options: Options, terminal: Terminal) -> dict[str, Any]:
    """Evaluates."""
    from inflate3d.inference.held_out import evaluate_run
    from inflate3d.report.page import write_report

    folder = RunFolder(options.run)
    scores = evaluate_run(
        folder, batch_size=options.batch_size, tolerance=options.tolerance, progress=terminal.progress
    )
    show_scores(scores, terminal)
    page = write_report(folder, read_dataset(RunConfig.read(folder.config).dataset), scores)
    places = {"scores": folder.evaluation, "label maps": folder.predictions, "pictures": page}
    for what, where in places.items():
        terminal.say(f"{what}: {where}")
    return scores.to_dict()


def show_scores(scores: Scores, terminal: Terminal, *, cases: bool = True) -> None:
    """Shows Dice as a table, a row a case, then means, medians and the paper's figure; then all measures by class."""
    rows = []
    if cases:
        for case, row, mean in zip(scores.cases, scores.native_dice.tolist(), scores.case_means(), strict=True):
            rows.append([case, *map(show, row), show(mean)])
    rows.append(["mean over cases", *map(show, scores.class_means()), show(scores.mean())])
    rows.append(["median over cases", *map(show, scores.class_medians()), show(scores.median())])
    rows.append(["pooled over slices *", *map(show, scores.pooled_dice.tolist()), show(scores.pooled_mean())])
    terminal.table("Dice of the held-out cases, native space", ["case", *scores.classes, "mean"], rows)
    terminal.say("* the paper's figure, on the model's grid; not comparable with the others")
    if scores.surfaces is not None:
        _show_measures(scores, scores.surfaces, terminal)


def _show_measures(scores: Scores, surfaces: SurfaceScores, terminal: Terminal) -> None:
    means = zip(scores.class_means(), surfaces.class_means("hd95"), surfaces.class_means("nsd"), strict=True)
    rows = [[name, *_measures(*values)] for name, values in zip(scores.classes, means, strict=True)]
    rows.append(["mean", *_measures(scores.mean(), surfaces.mean("hd95"), surfaces.mean("nsd"))])
    columns = ["class", "Dice", "HD95 in mm", f"NSD at {surfaces.tolerance:g} mm"]
    terminal.table("Means over the held-out cases, native space", columns, rows)


def _measures(dice: float, hd95: float, nsd: float) -> list[str]:
    return [show(dice), show(hd95, digits=2), show(nsd)]
