"""Score a run on the cases that it held out, or any predicted label maps: per case and class, on each scan's own grid.

`inflate3d evaluate RUN` predicts and scores the run's held-out cases. For a folder of folds, every case is predicted by
the network that held it out, and the post-processing that improves the scores is chosen.
`inflate3d evaluate --predictions DIR --labels DIR` scores label maps of any program against those of the same names.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import Field
from tyro.conf import Positional

from inflate3d.cli.predict import PredictionOptions
from inflate3d.cli.score_tables import show_postprocessing, show_scores
from inflate3d.cli.terminal import CommandOptions, Terminal
from inflate3d.datasets.regions import Regions
from inflate3d.errors import ConfigError
from inflate3d.evaluation.measures import DEFAULT_MEASURES, TOLERANCE, MeasureName
from inflate3d.evaluation.scores import Scores
from inflate3d.run_folder import FoldsFolder, RunFolder, open_folder


class Options(CommandOptions):
    """Options of ``evaluate``."""

    run: Positional[Path | None] = None
    """The run's folder, or a folder of folds; not with --predictions."""
    predictions: Path | None = None
    """Folder of label maps predicted by any program."""
    labels: Path | None = None
    """Folder of label maps to compare --predictions with; the same names, suffixes may differ."""
    classes: tuple[str, ...] = ()
    """Names of the values in --labels, such as liver=1 tumor=2; several values for overlapping regions, such as
    whole=1+2+3 core=2+3. None: all values that occur."""
    ignore: int | None = None
    """Value in --labels of unlabeled voxels, which are not scored."""
    groups: Path | None = None
    """CSV file with a column `case` and other columns to group the cases by, such as site or fold."""
    out: Path | None = None
    """Folder for the scores of --predictions. None: `evaluation` in their folder."""
    dataset: Path | None = None
    """The new location of the run's dataset, if it has moved."""
    prediction: PredictionOptions = PredictionOptions()
    postprocessing: bool = False
    """Apply the model's post-processing, as `predict` does. It was chosen on these cases, so the scores are
    optimistic."""
    tolerance: float = Field(default=TOLERANCE, ge=0)
    """Distance in millimeters up to which a surface counts as matched in NSD."""
    metrics: tuple[MeasureName, ...] = DEFAULT_MEASURES
    """Measures to show in the tables; the files contain all of them."""
    choose_postprocessing: bool = False
    """Also choose the post-processing, depth filter included, on the held-out cases of a single run; with several folds
    it is always chosen."""


def run(options: Options, terminal: Terminal) -> dict[str, Any]:
    if options.run is not None and options.predictions is None and options.labels is None:
        return _evaluate_run(options.run, options, terminal)
    if options.choose_postprocessing and options.run is None:
        raise ConfigError("--choose-postprocessing requires a run", hint="label maps from other programs have no model")
    if options.run is None and options.predictions is not None and options.labels is not None:
        return _evaluate_folders(options.predictions, options.labels, options, terminal)
    raise ConfigError(
        "nothing to evaluate",
        expected="the folder of a run, or --predictions and --labels",
        hint="see `inflate3d evaluate --help`",
    )


def _evaluate_run(root: Path, options: Options, terminal: Terminal) -> dict[str, Any]:
    from inflate3d.inference.runs import evaluate, find_dataset
    from inflate3d.report.page import write_report

    folder = open_folder(root)
    others = {"classes": options.classes, "ignore": options.ignore, "groups": options.groups, "out": options.out}
    if given := [name for name, value in others.items() if value not in (None, ())]:
        raise ConfigError(f"--{given[0]} requires --predictions", hint="a run knows its classes and its folder")
    if options.choose_postprocessing and options.postprocessing:
        raise ConfigError(
            "--choose-postprocessing can't be combined with --postprocessing",
            hint="post-processing is chosen on unprocessed label maps",
        )
    moved = find_dataset(folder, options.dataset) if options.dataset else None
    evaluation = evaluate(
        folder,
        dataset=moved,
        tolerance=options.tolerance,
        postprocess=options.postprocessing,
        choose=options.choose_postprocessing or (isinstance(folder, FoldsFolder) and not options.postprocessing),
        progress=terminal.progress,
        **options.prediction.settings(),
    )
    scores = evaluation.scores
    show_scores(scores, terminal, measures=options.metrics)
    document = scores.to_dict()
    if evaluation.postprocessing:
        show_postprocessing(evaluation.postprocessing, scores, terminal)
        document["postprocessing"] = evaluation.postprocessing.to_dict()
    _write_cards(folder, scores)
    page = write_report(folder, moved or find_dataset(folder, None), scores)
    places = {"scores": folder.evaluation, "label maps": folder.predictions, "pictures": page}
    for what, where in places.items():
        terminal.print(f"{what}: {where}")
    return document


def _write_cards(folder: RunFolder | FoldsFolder, scores: Scores) -> None:
    """Writes the scores to the model card; each fold's own scores to its card."""
    from inflate3d.evaluation.postprocessing.steps import POSTPROCESSING_FILE, Postprocessing
    from inflate3d.inference.runs import FOLD
    from inflate3d.models.card import TrainedRun, write_model_card
    from inflate3d.models.checkpoint import read_description

    own = scores.in_groups(FOLD) if isinstance(folder, FoldsFolder) else {folder.root.name: scores}
    for run in folder.runs:
        file = run.model / POSTPROCESSING_FILE
        write_model_card(
            run.model,
            *read_description(run.model),
            run=TrainedRun.read(run),
            scores=own[run.root.name],
            postprocessing=Postprocessing.read(file) if file.exists() else None,
        )


def _evaluate_folders(predictions: Path, labels: Path, options: Options, terminal: Terminal) -> dict[str, Any]:
    from inflate3d.evaluation.groups import read_groups
    from inflate3d.evaluation.label_maps import pair_label_maps, score_label_maps

    groups = read_groups(options.groups) if options.groups else None
    classes, regions = _classes_and_regions(_values(options.classes))
    unpredicted = pair_label_maps(predictions, labels).unpredicted
    scores = score_label_maps(
        predictions,
        labels,
        classes=classes or None,
        regions=regions,
        ignore=options.ignore,
        groups=groups,
        tolerance=options.tolerance,
        progress=terminal.progress,
    )
    show_scores(scores, terminal, measures=options.metrics)
    folder = options.out or predictions / "evaluation"
    scores.write(folder)
    terminal.print(f"scores: {folder}")
    return {**scores.to_dict(), "unpredicted": list(unpredicted)}


def _values(words: Sequence[str]) -> dict[str, tuple[int, ...]]:
    """Label values by name, from words such as ``liver=1`` or ``whole=1+2``."""
    values: dict[str, tuple[int, ...]] = {}
    for word in words:
        name, _, held = word.rpartition("=")
        if not name or name in values or not all(each.removeprefix("-").isdecimal() for each in held.split("+")):
            raise ConfigError(
                "--classes can't be understood", expected="NAME=NUMBER or NAME=NUMBER+NUMBER, each name once", got=word
            )
        values[name] = tuple(map(int, held.split("+")))
    return values


def _classes_and_regions(values: dict[str, tuple[int, ...]]) -> tuple[dict[int, str], Regions | None]:
    """Names by value, or regions if one of them has several values."""
    if all(len(held) == 1 for held in values.values()):
        classes = {held[0]: name for name, held in values.items()}
        if len(classes) < len(values):
            got = {name: held[0] for name, held in values.items()}
            raise ConfigError("--classes gives one value two names", expected="a value of its own for each", got=got)
        return classes, None
    regions = Regions(values=values)
    if wrong := regions.mistake(dict.fromkeys({0, *regions.all_values}, "")):
        raise ConfigError("invalid regions", expected="values from 1 on, such as whole=1+2 core=2", got=wrong)
    return {}, regions
