"""Say which scan to label next, and why.

`inflate3d next RUN --scans FOLDER` predicts the scans that have no label yet and puts them in order; no file is
written. With --predictions, the confidence that `inflate3d predict --confidence` wrote is used, in a second.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import Field
from tyro.conf import Positional

from inflate3d.annotation.strategies import DEFAULT_STRATEGY, RegisteredStrategy, find_strategy
from inflate3d.cli.predict import PredictionOptions
from inflate3d.cli.terminal import CommandOptions, Terminal
from inflate3d.cli.verify import show_warnings
from inflate3d.config import Seed
from inflate3d.errors import ConfigError, DatasetProblems, Inflate3dError, truncate
from inflate3d.run_folder import FoldsFolder, RunFolder, open_folder

if TYPE_CHECKING:
    from inflate3d.annotation.strategies import Candidate
    from inflate3d.datasets import Case, Dataset
    from inflate3d.inference.scans import FoundScans

UNLABELED = "imagesTs"
"""The folder of scans without labels in the layouts of the Decathlon and nnU-Net."""


class Options(CommandOptions):
    """Options of ``next``."""

    source: Positional[Path]
    """A run's folder or a folder of folds, whose networks predict the scans; or a dataset, for a random order."""
    scans: Path | None = None
    """Folder of the scans to choose from; those that the dataset has labels for are left out. None: the dataset's
    folder imagesTs."""
    strategy: str | None = None
    """The order: random, foreground-random, uncertainty or diverse. None: foreground-random with a run, random with a
    dataset."""
    count: int = Field(default=10, ge=1)
    """Number of scans to show; --json lists all."""
    seed: Seed = 0
    """Seed of the random order; the same seed gives the same order."""
    predictions: Path | None = None
    """Folder of label maps of `inflate3d predict --confidence`, instead of predicting the scans now."""
    dataset: Path | None = None
    """The new location of the run's dataset, if it has moved."""
    prediction: PredictionOptions = PredictionOptions()


def run(options: Options, terminal: Terminal) -> dict[str, Any]:
    from inflate3d.annotation.candidates import find_candidates
    from inflate3d.annotation.strategies import order_cases

    folder = open_folder(options.source)
    runs = folder if folder.runs and folder.runs[0].config.exists() else None
    name = options.strategy or (DEFAULT_STRATEGY if runs else "random")
    strategy = find_strategy(name)
    _check(strategy, name, runs is not None or options.predictions is not None)
    dataset = _dataset(options, runs)
    found = _find_scans(options, dataset)
    left = {case.name for case in find_candidates(dataset, found.cases) if not case.labeled}
    scans = [case for case in found.cases if case.id in left]
    confidence, problems = _confidence(options, runs, strategy, scans, terminal)
    cases = find_candidates(dataset, scans, confidence)
    by_name = {case.name: case for case in cases}
    order = [by_name[case] for case in order_cases(name, cases, options.seed)]
    show_warnings([*found.warnings, *problems], terminal)
    _show(order, strategy, len(dataset.cases), options.count, terminal)
    return {
        "strategy": name,
        "about": strategy.about,
        "labeled": len(dataset.cases),
        "order": [_described(case) for case in order],
        "warnings": [each.to_dict() for each in (*found.warnings, *problems)],
    }


def _check(strategy: RegisteredStrategy, name: str, predicted: bool) -> None:
    if strategy.needs_predictions and not predicted:
        raise ConfigError(
            "the strategy needs a model's predictions",
            expected="the folder of a run, or --predictions",
            got=f"--strategy {name} with a dataset",
            hint="give a run, or leave out --strategy for a random order",
        )


def _dataset(options: Options, runs: RunFolder | FoldsFolder | None) -> Dataset:
    from inflate3d.datasets import read_dataset
    from inflate3d.inference.runs import find_dataset

    if runs is not None:
        return find_dataset(runs, options.dataset)
    if options.dataset is not None:
        raise ConfigError("--dataset requires a run", got=options.source)
    return read_dataset(options.source)


def _find_scans(options: Options, dataset: Dataset) -> FoundScans:
    from inflate3d.inference.scans import find_scans

    folder = options.scans or dataset.root / UNLABELED
    if options.scans is None and not folder.is_dir():
        raise ConfigError(
            "no folder of unlabeled scans",
            expected=f"--scans, or a folder {UNLABELED} in the dataset",
            got=dataset.root,
            hint="name the folder of scans to choose from: --scans FOLDER",
        )
    return find_scans(folder, dataset)


def _confidence(
    options: Options,
    runs: RunFolder | FoldsFolder | None,
    strategy: RegisteredStrategy,
    scans: Sequence[Case],
    terminal: Terminal,
) -> tuple[dict[str, dict[str, float]], list[Inflate3dError]]:
    """Confidence by the name of the scan, and the errors of scans that can't be predicted."""
    from inflate3d.annotation.candidates import measure_confidence, read_confidence

    if options.predictions is not None:
        known = read_confidence(options.predictions)
        if missing := [case.id for case in scans if case.id not in known]:
            terminal.log(f"{len(missing)} scan(s) without a confidence in {options.predictions}: {truncate(missing)}")
        return known, []
    if runs is None or not strategy.needs_predictions or not scans:
        return {}, []
    from inflate3d.inference.predictor import Predictor

    predictor = Predictor.load(runs.root, **options.prediction.settings())
    found, problems = measure_confidence(predictor, scans, terminal.progress)
    if not found:
        raise problems[0] if len(problems) == 1 else DatasetProblems(problems, what="no scan could be predicted")
    return found, problems


def _show(
    order: Sequence[Candidate], strategy: RegisteredStrategy, labeled: int, count: int, terminal: Terminal
) -> None:
    from inflate3d.evaluation.tables import show

    terminal.print(f"{labeled} labeled cases, {len(order)} scans without a label")
    if not order:
        return
    rows = []
    for case in order[:count]:
        least = min(case.known, key=case.known.__getitem__) if case.known else None
        what = least or ("nothing predicted" if case.confidence is not None else "not predicted yet")
        rows.append([case.name, show(1 - case.uncertainty), what, show(case.known.get(least or "", math.nan))])
    columns = ["scan", "confidence", "lowest class", "its confidence"]
    if all(case.confidence is None for case in order):
        rows, columns = [row[:1] for row in rows], columns[:1]
    terminal.table(f"Label next: {strategy.about}", columns, rows)
    if len(order) > count:
        terminal.print(f"and {len(order) - count} more")


def _described(case: Candidate) -> dict[str, Any]:
    if case.confidence is None:
        return {"case": case.name, "confidence": None, "classes": None}
    from inflate3d.evaluation.tables import plain

    classes = {name: plain(value) for name, value in case.confidence.items()}
    return {"case": case.name, "confidence": plain(1 - case.uncertainty), "classes": classes}
