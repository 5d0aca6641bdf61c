"""Post-processing on the terminal: what is chosen for each class, and what it gains."""

from __future__ import annotations

from inflate3d.cli.terminal import Terminal
from inflate3d.evaluation.postprocessing.validation import ChosenPostprocessing
from inflate3d.evaluation.scores import Scores
from inflate3d.evaluation.tables import show, show_estimate


def show_postprocessing(chosen: ChosenPostprocessing, scores: Scores, terminal: Terminal) -> None:
    """A row a class: what is done to it, and its mean Dice before and after."""
    steps = {each.name: each.in_words() for each in chosen.choice.postprocessing.classes}
    pairs = zip(scores.classes, scores.class_means(), chosen.scores.class_means(), strict=True)
    rows = []
    for name, before, after in pairs:
        gain = chosen.gains[name]
        interval = show_estimate(gain.value, gain.low, gain.high, sign="+")
        rows.append([name, steps.get(name, "nothing"), show(before), show(after), interval])
    rows.append(["mean", "", show(scores.mean()), show(chosen.scores.mean()), ""])
    columns = ["class", "chosen", "Dice", "after *", "gain (95 %) *"]
    terminal.table("Post-processing, kept only where it raises the held-out Dice", columns, rows)
    parts = len(chosen.by_part)
    terminal.print(f"* as chosen on the other {parts - 1} of {parts} parts of the cases; `predict` does what is chosen")
