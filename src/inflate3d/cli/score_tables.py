"""Scores on the terminal: Dice by case, measures by class, means in groups of cases, gains of post-processing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from inflate3d.cli.terminal import Terminal
from inflate3d.evaluation.measures import DEFAULT_MEASURES, MEASURES
from inflate3d.evaluation.scores import Scores
from inflate3d.evaluation.statistics import Estimate
from inflate3d.evaluation.tables import show, show_estimate

if TYPE_CHECKING:
    from inflate3d.evaluation.postprocessing.validation import ChosenPostprocessing


def show_scores(
    scores: Scores, terminal: Terminal, *, measures: Sequence[str] = DEFAULT_MEASURES, cases: bool = True
) -> None:
    """Shows Dice per case, then the chosen measures per class, then their means per group.

    Args:
        measures: Names of `MEASURES`; those that were not computed are left out.
        cases: Whether to show a row for each case.
    """
    _show_dice(scores, terminal, cases=cases)
    taken = [name for name in measures if name in scores.measures]
    if taken and len(scores.measures) > 1:
        _show_measures(scores, taken, terminal)
        for kind in scores.groups:
            _show_groups(scores, kind, taken, terminal)


def show_postprocessing(chosen: ChosenPostprocessing, scores: Scores, terminal: Terminal) -> None:
    """Shows per class what was chosen and the mean Dice before and after, then the depth filter."""
    steps = {each.name: each.in_words() for each in chosen.choice.postprocessing.classes}
    pairs = zip(scores.classes, scores.class_means(), chosen.scores.class_means(), strict=True)
    rows = []
    for name, before, after in pairs:
        gain = chosen.gains[name]
        interval = show_estimate(gain.value, gain.low, gain.high, sign="+")
        rows.append([name, steps.get(name, "nothing"), show(before), show(after), interval])
    depth_filter = chosen.choice.postprocessing.depth_filter
    smoothed = f"depth filter {depth_filter:g} mm" if depth_filter else "no depth filter"
    rows.append(["mean", smoothed, show(scores.mean()), show(chosen.scores.mean()), ""])
    columns = ["class", "chosen", "Dice", "after *", "gain (95 %) *"]
    terminal.table("Post-processing, kept only where it raises the held-out Dice", columns, rows)
    parts = len(chosen.by_part)
    terminal.print(
        f"* chosen on the other {parts - 1} of {parts} parts of the cases; `predict` applies the final choice"
    )


def _show_dice(scores: Scores, terminal: Terminal, *, cases: bool) -> None:
    rows = []
    if cases:
        for case, row, mean in zip(scores.cases, scores.dice.tolist(), scores.case_means(), strict=True):
            rows.append([case, *map(show, row), show(mean)])
    if cases and scores.confidence is not None:
        for row, value in zip(rows, scores.case_confidence(), strict=True):
            row.append(show(value))
    rows.append(["mean over cases", *map(show, scores.class_means()), show(scores.mean())])
    rows.append(["median over cases", *map(show, scores.class_medians()), show(scores.median())])
    if scores.micro_dice is not None:
        rows.append(["micro-averaged *", *map(show, scores.micro_values()), show(scores.micro_mean())])
    columns = ["case", *scores.classes, "mean"]
    if len(rows[0]) > len(columns):
        columns.append("confidence")
    terminal.table("Dice by case, native space", columns, rows)
    if ranking := scores.confidence_ranking:
        shown = _with_interval(ranking, "dice")
        terminal.print(f"confidence ranks the cases by Dice with a rank correlation (Spearman) of {shown}")
    if scores.micro_dice is not None:
        terminal.print("* the paper's measure, over all slices on the model's grid; not comparable with the others")


def _show_measures(scores: Scores, measures: Sequence[str], terminal: Terminal) -> None:
    """A row per class: the mean of each measure, with its interval if there is one."""
    summaries = [(name, scores.summaries[name]) for name in measures]
    rows = [
        [name, *(_with_interval(summary.means[number], measure) for measure, summary in summaries)]
        for number, name in enumerate(scores.classes)
    ]
    rows.append(["mean", *(_with_interval(summary.mean, measure) for measure, summary in summaries)])
    patients = len(set(scores.patients))
    whom = f"{len(scores.cases)} cases" + (f" of {patients} patients" if patients < len(scores.cases) else "")
    title = f"Means over {whom} with 95 % intervals for these networks, native space"
    terminal.table(title, ["class", *(_title(scores, name) for name in measures)], rows)


def _show_groups(scores: Scores, kind: str, measures: Sequence[str], terminal: Terminal) -> None:
    """A row per group; nothing if all cases are in one group, or each is in its own."""
    parts = scores.in_groups(kind)
    if not 1 < len(parts) < len(scores.cases):
        return
    rows = [
        [group, str(len(part.cases)), *(show(part.mean(name), MEASURES[name].digits) for name in measures)]
        for group, part in parts.items()
    ]
    columns = [kind, "cases", *(_title(scores, name) for name in measures)]
    terminal.table(f"Means over cases and classes by {kind}", columns, rows)


def _title(scores: Scores, measure: str) -> str:
    title = MEASURES[measure].title
    return title if measure != "nsd" or scores.tolerance is None else f"{title} at {scores.tolerance:g} mm"


def _with_interval(estimate: Estimate, measure: str) -> str:
    return show_estimate(estimate.value, estimate.low, estimate.high, MEASURES[measure].digits)
