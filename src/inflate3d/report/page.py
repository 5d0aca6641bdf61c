"""The page of a run: its settings, scores, and pictures of held-out cases, in one file that opens offline."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

from inflate3d.atomic import atomic_path, write_text
from inflate3d.config import RunConfig
from inflate3d.datasets import Dataset, Split
from inflate3d.evaluation.measures import MEASURES
from inflate3d.evaluation.scores import Scores, show
from inflate3d.preparation.plan import Plan
from inflate3d.report.cases import CasePictures, case_pictures, noteworthy_cases
from inflate3d.report.drawing import Theme, check_replaceable, class_color, data_address, is_ours
from inflate3d.report.pages import interval_in_words, network_in_words, render, script, time_in_words
from inflate3d.report.plots import dice_curves, draw_curves, draw_distributions, loss_curves
from inflate3d.report.slices import CONFUSED, ERRORS, EXTRA, MISSED
from inflate3d.run_folder import FoldsFolder, RunFolder, ScoredFolder, TrainingLog

MEASURES_SHOWN = ("hd95", "nsd")
"""Measures besides Dice that the page shows if they were computed."""

ERROR_NAMES = {MISSED: "missed", EXTRA: "predicted, not labeled", CONFUSED: "another class"}

Plots = dict[str, dict[Theme, bytes]]


def write_report(
    folder: RunFolder | FoldsFolder, dataset: Dataset, scores: Scores | None = None, *, overwrite: bool = False
) -> Path:
    """Writes the page of a run or of several folds, ``report.html`` in the folder, and its pictures in ``report/``.

    Args:
        folder: A run, or folds of one dataset; with predictions of the held-out cases if there are scores.
        scores: Scores of the held-out cases; without them the page covers only the training.
        overwrite: Whether files that inflate3d did not write may be replaced.

    Returns:
        The page's file.
    """
    check_replaceable(folder.report, overwrite=overwrite)
    first = folder.runs[0]
    config, plan, split = RunConfig.read(first.config), Plan.read(first.plan), Split.read(first.split)
    logs = [TrainingLog.read(run.metrics) for run in folder.runs]
    names, steps = plan.class_names[1:], config.training.steps
    loss, dice = loss_curves(logs), dice_curves(logs, names)
    plots = {
        "loss": _both_themes(lambda theme: draw_curves(loss, theme=theme, steps=steps, logarithmic=True)),
        "dice": _both_themes(lambda theme: draw_curves(dice, theme=theme, steps=steps, logarithmic=False)),
    }
    pictures = []
    if scores:
        plots["distributions"] = _both_themes(lambda theme: draw_distributions(scores.dice, names, theme=theme))
        chosen = [(dataset.case(case), standing) for case, standing in noteworthy_cases(scores)]
        pictures = [case_pictures(case, standing, plan, folder, scores) for case, standing in chosen]
    measures = [(name, MEASURES[name].title) for name in MEASURES_SHOWN if scores and name in scores.measures]
    page = render(
        "page.html.jinja",
        title=plan.dataset,
        config=config,
        plan=plan,
        split=split,
        dataset=dataset,
        network=network_in_words(config.model),
        folds=len(folder.runs),
        time=time_in_words(sum(log.seconds for log in logs)),
        scores=scores,
        classes=[(name, class_color(number)) for number, name in enumerate(names, start=1)],
        drawn=[(name, class_color(number)) for number, name in enumerate(plan.value_names, start=1)],
        measures=measures,
        interval=interval_in_words(scores) if scores else "",
        summary=_summary(scores, measures) if scores else [],
        case_rows=_case_rows(scores, measures) if scores else [],
        plots={name: {theme: data_address(each) for theme, each in both.items()} for name, both in plots.items()},
        pictures=pictures,
        show=show,
        errors=[(ERRORS[number], text) for number, text in ERROR_NAMES.items()],
        scripts=[script("sort.js")] if scores else [],
    )
    write_figures(figures_folder(folder), plots, pictures, overwrite)
    write_text(folder.report, page)
    return folder.report


def figures_folder(folder: ScoredFolder) -> Path:
    """Folder of the page's pictures as separate files."""
    return folder.report.with_suffix("")


def write_figures(folder: Path, plots: Plots, pictures: list[CasePictures], overwrite: bool) -> None:
    """Writes the page's pictures, and removes those of the previous page, which may have shown other cases."""
    figures = {f"{name}.png": both["light"] for name, both in plots.items()}
    for case in pictures:
        for part in case.slices:
            place = f"{_file_name(case.case)}-slice-{part.number:03d}"
            figures |= {f"{place}-{_file_name(each.what)}.png": each.content for each in part.pictures}
    for name in figures:
        check_replaceable(folder / name, overwrite=overwrite)
    for name, content in figures.items():
        with atomic_path(folder / name) as temporary:
            temporary.write_bytes(content)
    for before in folder.glob("*.png"):
        if before.name not in figures and is_ours(before):
            before.unlink()


def _file_name(text: str) -> str:
    return re.sub(r"[^\w.+-]+", "-", text)


def _both_themes(draw: Callable[[Theme], bytes]) -> dict[Theme, bytes]:
    return {"light": draw("light"), "dark": draw("dark")}


def _summary(scores: Scores, measures: list[tuple[str, str]]) -> list[list[str]]:
    """A row per class and one for all: mean, median and micro-averaged Dice, and the means of other measures."""
    columns = [
        [*scores.class_means(), scores.mean()],
        [*scores.class_medians(), scores.median()],
        [*scores.micro_values(), scores.micro_mean()],
    ]
    shown = [[show(value) for value in column] for column in columns]
    for name, _ in measures:
        means = [*scores.class_means(name), scores.mean(name)]
        shown.append([show(value, MEASURES[name].digits) for value in means])
    return [list(row) for row in zip(*shown, strict=True)]


def _case_rows(scores: Scores, measures: list[tuple[str, str]]) -> list[tuple[str, list[str]]]:
    """Each case's Dice per class, its mean, and its means of other measures."""
    means = [[show(value) for value in scores.case_means()]]
    means += [[show(value, MEASURES[name].digits) for value in scores.case_means(name)] for name, _ in measures]
    return [
        (case, [*map(show, dice), *others])
        for case, dice, *others in zip(scores.cases, scores.dice.tolist(), *means, strict=True)
    ]
