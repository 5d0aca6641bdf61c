"""The page of a run: what was done, the scores, and pictures of held-out cases, in one file that opens offline."""

from __future__ import annotations

import csv
import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from inflate3d import __version__
from inflate3d.atomic import write_text
from inflate3d.config import ModelConfig, RunConfig
from inflate3d.datasets import Case, Dataset, Split
from inflate3d.errors import DataError
from inflate3d.evaluation.scores import Scores, show
from inflate3d.preparation.plan import Plan
from inflate3d.report.cases import Method, case_pictures, noteworthy_cases
from inflate3d.report.figures import Curve, class_colour, data_address, draw_curves
from inflate3d.run_folder import RunFolder

if TYPE_CHECKING:
    from jinja2 import Template


@dataclass(frozen=True)
class Log:
    """A training's ``metrics.csv``.

    Attributes:
        columns: Each column's steps and values, rows without a value left out.
        seconds: How long the training took.
    """

    columns: dict[str, tuple[list[int], list[float]]]
    seconds: float


def write_report(
    folder: RunFolder,
    dataset: Dataset,
    scores: Scores,
    *,
    twin: tuple[str, Scores, RunFolder] | None = None,
) -> Path:
    """Writes the page of an evaluated run, ``report.html`` in its folder, whole or not at all.

    Args:
        folder: A run with the predictions of its held-out cases.
        dataset: Where the cases are.
        scores: Scores of the held-out cases.
        twin: Name, scores and folder of another evaluated run on the same split to show beside it, such as
            ``("1 slice", ...)``.

    Returns:
        The page's file.

    Raises:
        DataError: A scan, a label map, a prediction or the log is missing or can't be read.
        ConfigError: The run's configuration or plan can't be read.
        OutputError: The page can't be written.
    """
    config, plan, split = RunConfig.read(folder.config), Plan.read(folder.plan), Split.read(folder.split)
    methods = [Method(_plural(config.model.depth, "slice"), scores, folder)]
    if twin:
        methods.append(Method(*twin))
    logs = [_read_log(method.folder.metrics) for method in methods]
    cases = {case.id: case for case in dataset.cases}
    page = _template().render(
        version=__version__,
        config=config,
        plan=plan,
        split=split,
        network=_network_in_words(config.model),
        time=_time_in_words(logs[0].seconds),
        methods=methods,
        classes=[(name, class_colour(number)) for number, name in enumerate(plan.class_names[1:], start=1)],
        summary=[_summary_row(methods, number) for number in (*range(len(scores.classes)), None)],
        show=show,
        loss=_plot_loss(logs, config.training.steps),
        dice=_plot_dice(logs, config.training.steps, plan.class_names[1:]),
        pictures=[
            case_pictures(_find(cases, case, dataset), standing, plan, methods)
            for case, standing in noteworthy_cases(scores)
        ],
    )
    write_text(folder.report, page)
    return folder.report


def _summary_row(methods: list[Method], number: int | None) -> list[str]:
    """Means, medians and pooled Dice of each method, of one class or over all."""
    scores = [method.scores for method in methods]
    if number is None:
        values = [[s.mean() for s in scores], [s.median() for s in scores], [s.pooled_mean() for s in scores]]
    else:
        values = [
            [s.class_means()[number] for s in scores],
            [s.class_medians()[number] for s in scores],
            [float(s.pooled_dice[number]) for s in scores],
        ]
    return [show(value) for measure in values for value in measure]


def _find(cases: dict[str, Case], case: str, dataset: Dataset) -> Case:
    if case not in cases:
        raise DataError(
            "held-out case is not in the data set",
            case=case,
            file=dataset.root,
            remedy="make the report with the data set that the run was trained on",
        )
    return cases[case]


def _read_log(file: Path) -> Log:
    columns: dict[str, tuple[list[int], list[float]]] = {}
    try:
        with file.open(newline="", encoding="utf-8") as lines:
            for row in csv.DictReader(lines):
                for name, cell in row.items():
                    if name != "step" and cell:
                        steps, values = columns.setdefault(name, ([], []))
                        steps.append(int(row["step"]))
                        values.append(float(cell))
    except (OSError, ValueError, KeyError, UnicodeDecodeError) as error:
        raise DataError("the training's log can't be read", got=error, file=file) from error
    return Log(columns, seconds=columns["seconds"][1][-1] if "seconds" in columns else math.nan)


def _plot_loss(logs: list[Log], steps: int) -> dict[str, str]:
    curves = [
        Curve(*log.columns["loss"], colour="#888888" if number else None, wide=not number, dashed=bool(number))
        for number, log in reversed(list(enumerate(logs)))
        if "loss" in log.columns
    ]
    return _both_themes(curves, steps, logarithmic=True)


def _plot_dice(logs: list[Log], steps: int, class_names: tuple[str, ...]) -> dict[str, str]:
    own = logs[0].columns
    curves = [Curve(*log.columns["dice"], colour="#888888", dashed=True) for log in logs[1:] if "dice" in log.columns]
    curves += [
        Curve(*own[f"dice/{name}"], colour=class_colour(number))
        for number, name in enumerate(class_names, start=1)
        if f"dice/{name}" in own
    ]
    if "dice" in own:
        curves.append(Curve(*own["dice"], wide=True))
    return _both_themes(curves, steps, logarithmic=False)


def _both_themes(curves: list[Curve], steps: int, *, logarithmic: bool) -> dict[str, str]:
    return {
        "light": data_address(draw_curves(curves, theme="light", steps=steps, logarithmic=logarithmic)),
        "dark": data_address(draw_curves(curves, theme="dark", steps=steps, logarithmic=logarithmic)),
    }


def _network_in_words(model: ModelConfig) -> str:
    windows = f"windows of {model.depth} slices" if model.depth > 1 else "single slices"
    if model.weights == "none":
        return f"{model.encoder} with random weights, on {windows},"
    weights = "2D weights that timm publishes" if model.weights == "timm" else f"2D weights from {model.weights}"
    return f"{model.encoder} with {weights}, inflated to {windows} ({model.inflation}),"


def _time_in_words(seconds: float) -> str:
    if math.isnan(seconds):
        return "an unknown time"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"


def _plural(count: int, word: str) -> str:
    return f"{count} {word}" if count == 1 else f"{count} {word}s"


def _template() -> Template:
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["plural"] = _plural
    return environment.get_template("page.html.jinja")
