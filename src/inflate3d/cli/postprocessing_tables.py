"""Post-processing on the terminal: what is chosen for each class, and what it gains."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from inflate3d.cli.terminal import Terminal
from inflate3d.datasets import Dataset
from inflate3d.evaluation.measures import Tolerance
from inflate3d.evaluation.postprocessing.validation import ChosenPostprocessing, choose_postprocessing
from inflate3d.evaluation.scores import Scores, show
from inflate3d.preparation.plan import Plan
from inflate3d.run_folder import ScoredFolder


def choose_shown(
    folder: ScoredFolder,
    file: Path,
    dataset: Dataset,
    plan: Plan,
    scores: Scores,
    parts: Mapping[str, str],
    *,
    tolerance: Tolerance,
    terminal: Terminal,
) -> ChosenPostprocessing:
    """Chooses the post-processing, writes it and shows what it is worth.

    Args:
        folder: Of the evaluation.
        file: Where `predict` looks for the post-processing.
        dataset: Where the cases are.
        plan: Which label values there are.
        scores: Of the label maps as they were predicted.
        parts: The part of each case, such as its fold.
        tolerance: Of NSD, in millimeters.
        terminal: Where to show it.
    """
    chosen = choose_postprocessing(
        folder, dataset, plan, scores, parts, tolerance=tolerance, progress=terminal.progress
    )
    chosen.write(folder, file)
    _show(chosen, scores, terminal)
    terminal.print(f"post-processing: {file}")
    return chosen


def _show(chosen: ChosenPostprocessing, scores: Scores, terminal: Terminal) -> None:
    """A row a class: what is done to it, and its mean Dice before and after."""
    steps = {each.name: each.in_words() for each in chosen.choice.postprocessing.classes}
    pairs = zip(scores.classes, scores.class_means(), chosen.scores.class_means(), strict=True)
    rows = []
    for name, before, after in pairs:
        gain = chosen.gains[name]
        interval = f"{gain.value:+.4f}" + ("" if gain.low != gain.low else f" ({gain.low:+.4f} to {gain.high:+.4f})")
        rows.append([name, steps.get(name, "nothing"), show(before), show(after), interval])
    rows.append(["mean", "", show(scores.mean()), show(chosen.scores.mean()), ""])
    columns = ["class", "chosen", "Dice", "after *", "gain (95 %) *"]
    terminal.table("Post-processing, kept only where it raises the held-out Dice", columns, rows)
    parts = len(chosen.by_part)
    terminal.print(f"* as chosen on the other {parts - 1} of {parts} parts of the cases; `predict` does what is chosen")
