"""The page of a run: what was done, the scores, and pictures of held-out cases, in one file that opens offline."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

from inflate3d.atomic import atomic_path, write_text
from inflate3d.config import RunConfig
from inflate3d.datasets import Case, Dataset, Split
from inflate3d.errors import DataError
from inflate3d.evaluation.measures import MEASURES
from inflate3d.evaluation.scores import Scores, show
from inflate3d.preparation.plan import Plan
from inflate3d.report.cases import CasePictures, case_pictures, noteworthy_cases
from inflate3d.report.drawing import Theme, check_replaceable, class_color, data_address, is_ours
from inflate3d.report.methods import Method, side_by_side
from inflate3d.report.pages import (
    interval_in_words,
    method_name,
    network_in_words,
    render,
    script,
    time_in_words,
)
from inflate3d.report.plots import dice_curves, draw_curves, draw_distributions, loss_curves
from inflate3d.report.slices import BETWEEN_METHODS, CONFUSED, ERRORS, EXTRA, MISSED, NEITHER, ONLY_FIRST, ONLY_SECOND
from inflate3d.run_folder import FoldsFolder, RunFolder, ScoredFolder, TrainingLog

MEASURES_SHOWN = ("hd95", "nsd")
"""Measures besides Dice that the page shows, where they were taken."""

Plots = dict[str, dict[Theme, bytes]]


def write_report(
    folder: RunFolder | FoldsFolder,
    dataset: Dataset,
    scores: Scores | None = None,
    *,
    twin: tuple[str, Scores, ScoredFolder] | None = None,
    overwrite: bool = False,
) -> Path:
    """Writes the page of a run or of several folds, ``report.html`` in the folder, and its pictures in ``report/``.

    Args:
        folder: A run, or folds of one dataset; with scores, one that has the predictions of the held-out cases.
        dataset: Where the cases are.
        scores: Scores of the held-out cases; without them the page covers only the training.
        twin: Name, scores and folder of another evaluated run on the same split to show beside it, such as
            ``("1 slice", ...)``; where the run itself has this name, both have those of their folders.
        overwrite: Whether files that inflate3d did not write may be replaced.

    Returns:
        The page's file.

    Raises:
        DataError: A scan, a label map, a prediction or the log is missing or can't be read, or the run beside was
            scored on other cases or classes.
        ConfigError: The run's configuration or plan can't be read.
        OutputError: A file can't be written, or is not ours to replace.
    """
    check_replaceable(folder.report, overwrite=overwrite)
    first = folder.runs[0]
    config, plan, split = RunConfig.read(first.config), Plan.read(first.plan), Split.read(first.split)
    methods = [] if scores is None else [Method(method_name(config.model), scores, folder)]
    if methods and twin:
        methods = side_by_side(methods[0], Method(*twin))
    folders: list[ScoredFolder] = [method.folder for method in methods] or [folder]
    logs = [TrainingLog.read(run.metrics) for each in folders for run in each.runs]
    names = plan.class_names[1:]
    plots = {
        "loss": _both_themes(
            lambda theme: draw_curves(loss_curves(logs), theme=theme, steps=config.training.steps, logarithmic=True)
        ),
        "dice": _both_themes(
            lambda theme: draw_curves(
                dice_curves(logs, names), theme=theme, steps=config.training.steps, logarithmic=False
            )
        ),
    }
    if methods:
        values = [method.scores.dice for method in methods]
        plots["distributions"] = _both_themes(lambda theme: draw_distributions(values, names, theme=theme))
    cases = {case.id: case for case in dataset.cases}
    noteworthy = noteworthy_cases(methods[0].scores) if methods else []
    chosen = [(_find(cases, case, dataset), standing) for case, standing in noteworthy]
    pictures = [case_pictures(case, standing, plan, methods) for case, standing in chosen]
    page = render(
        "page.html.jinja",
        title=plan.dataset,
        config=config,
        plan=plan,
        split=split,
        dataset=dataset,
        network=network_in_words(config.model),
        folds=len(folder.runs),
        time=time_in_words(sum(log.seconds for log in logs[: len(folder.runs)])),
        methods=methods,
        classes=[(name, class_color(number)) for number, name in enumerate(names, start=1)],
        measures=_measures_of(methods),
        interval=interval_in_words(methods[0].scores) if methods else "",
        summary=_summary(methods, len(names)),
        case_rows=_case_rows(methods),
        plots={name: {theme: data_address(each) for theme, each in both.items()} for name, both in plots.items()},
        pictures=pictures,
        show=show,
        legends=_legends(methods),
        scripts=[script("sort.js")] if methods else [],
    )  # fmt: skip
    _write_figures(figures_folder(folder), plots, pictures, overwrite)
    write_text(folder.report, page)
    return folder.report


def figures_folder(folder: ScoredFolder) -> Path:
    """Where the page's pictures lie as files of their own."""
    return folder.report.with_suffix("")


def _write_figures(folder: Path, plots: Plots, pictures: list[CasePictures], overwrite: bool) -> None:
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


def _measures_of(methods: list[Method]) -> list[tuple[str, str]]:
    """Name and title of the measures besides Dice that all methods have."""
    taken = [name for name in MEASURES_SHOWN if methods and all(name in each.scores.measures for each in methods)]
    return [(name, MEASURES[name].title) for name in taken]


def _summary(methods: list[Method], classes: int) -> list[list[str]]:
    """A row a class and one for all: mean, median, micro-averaged Dice and the other means, of each method."""
    rows = []
    for number in (*range(classes), None):
        values = [
            [_of(scores.class_means(), scores.mean(), number) for scores in (each.scores for each in methods)],
            [_of(scores.class_medians(), scores.median(), number) for scores in (each.scores for each in methods)],
            [_of(each.scores.micro_values(), each.scores.micro_mean(), number) for each in methods],
        ]
        row = [show(value) for measure in values for value in measure]
        for name, _ in _measures_of(methods):
            of_class = [_of(each.scores.class_means(name), each.scores.mean(name), number) for each in methods]
            row += [show(value, MEASURES[name].digits) for value in of_class]
        rows.append(row)
    return rows


def _of(by_class: list[float], over_all: float, number: int | None) -> float:
    return over_all if number is None else by_class[number]


def _case_rows(methods: list[Method]) -> list[tuple[str, list[str]]]:
    """Each case's Dice by class, its means for each method, and the first method's other measures."""
    if not methods:
        return []
    own = methods[0].scores
    rows = []
    for number, case in enumerate(own.cases):
        cells = [show(value) for value in own.dice[number].tolist()]
        cells += [show(method.case_mean(case)) for method in methods]
        cells += [show(methods[0].case_mean(case, name), MEASURES[name].digits) for name, _ in _measures_of(methods)]
        rows.append((case, cells))
    return rows


def _legends(methods: list[Method]) -> dict[str, list[tuple[str, str]]]:
    """What the colors of areas mean."""
    errors = {MISSED: "missed", EXTRA: "predicted, not labeled", CONFUSED: "another class"}
    legends = {"errors": [(ERRORS[number], text) for number, text in errors.items()]}
    if len(methods) > 1:
        first, second = (method.name for method in methods)
        right = {ONLY_FIRST: f"{first} right, {second} wrong", ONLY_SECOND: f"{second} right, {first} wrong"}
        right[NEITHER] = "both wrong"
        legends["between"] = [(BETWEEN_METHODS[number], text) for number, text in right.items()]
    return legends


def _find(cases: dict[str, Case], case: str, dataset: Dataset) -> Case:
    if case not in cases:
        raise DataError(
            "held-out case is not in the dataset",
            case=case,
            file=dataset.root,
            hint="make the report with the dataset that the run was trained on",
        )
    return cases[case]
