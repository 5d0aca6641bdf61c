"""Predicting scans on many machines: each scan once, whichever of them dies."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache, partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from inflate3d.config import Precision
from inflate3d.datasets.case import Case
from inflate3d.engines.engine import Engine, LostError
from inflate3d.errors import DataError, Inflate3dError
from inflate3d.evaluation.postprocessing.steps import Postprocessing
from inflate3d.inference.files import (
    Fail,
    PredictedScan,
    Report,
    ScanWork,
    raise_problems,
)
from inflate3d.inference.protocols import ScanPredictor
from inflate3d.inference.scans import Warn, tell_nobody
from inflate3d.inference.targets import Skip, find_work
from inflate3d.inference.transfer import LOCAL, Transfer
from inflate3d.inference.uncertainty_maps import check_maps
from inflate3d.progress import Progress, silent

if TYPE_CHECKING:
    from inflate3d.inference.predictor import Predictor


@runtime_checkable
class Recipe(Protocol):
    """Says how a predictor is loaded; a process that is given an equal one again keeps the one that it has."""

    def load(self) -> ScanPredictor:
        """Loads it."""
        ...

    def __hash__(self) -> int: ...


@dataclass(frozen=True)
class PredictorRecipe:
    """What `Predictor.load` is called with; paths have to be the same on all machines."""

    folder: Path
    also: tuple[Path, ...] = ()
    device: str | None = None
    batch_size: int = 16
    memory: float | None = None
    mirror: bool = False
    every: int = 1
    precision: Precision = "32"

    def load(self) -> Predictor:
        """Loads the predictor.

        Raises:
            ModelError: There is no model, it can't be used, or models don't agree.
            ConfigError: The plan allows no mirror.
        """
        from inflate3d.inference.predictor import Predictor

        return Predictor.load(
            self.folder,
            also=self.also,
            device=self.device,
            batch_size=self.batch_size,
            memory=self.memory,
            mirror=self.mirror,
            every=self.every,
            precision=self.precision,
        )


@dataclass(frozen=True)
class _Job:
    """A scan to be predicted; ``before`` is when its label map was written that is there now, if one is."""

    scan: Case
    target: Path
    before: int | None


@dataclass(frozen=True)
class _Outcome:
    """What became of a scan, by whoever worked on it."""

    predicted: PredictedScan | None
    problem: Inflate3dError | None = None
    warnings: list[DataError] = field(default_factory=list)


@dataclass(frozen=True)
class _Judging:
    """Whether to tell how far label maps can be trusted, and to map where not."""

    confidence: bool
    maps: bool


def predict_spread(
    recipe: Recipe,
    engine: Engine,
    scans: Sequence[Case],
    folder: Path,
    *,
    suffix: str | None = None,
    skip: Skip | None = None,
    progress: Progress = silent,
    warn: Warn = tell_nobody,
    report: Report = tell_nobody,
    fail: Fail = tell_nobody,
    transfer: Transfer = LOCAL,
    postprocessing: Postprocessing | None = None,
    with_confidence: bool = False,
    with_maps: bool = False,
) -> list[Path]:
    """Segments scans on an engine's machines, which write their label maps; for the rest see `predict_files`.

    A process predicts one scan after another and loads the network once. Where one dies, its scan is begun anew
    elsewhere, unless its label map has been written already.

    Args:
        recipe: How a process loads the network.
        engine: Spreads the scans.
        scans: What to segment; absolute paths that all machines see.
        folder: Where the label maps go, likewise.
        suffix: Format of the label maps.
        skip: Leaves out scans that are done, and is told of each.
        progress: Shows how far it is.
        warn: Told of everything odd about a scan that is no reason to stop.
        report: Told of each scan that is done, in their order.
        fail: Told of each scan that can't be predicted.
        transfer: The way of scans to a machine's disk, and of label maps from there.
        postprocessing: What is done to each label map before it is written; nothing if not given.
        with_confidence: See `predict_files`; not known of a scan whose machine died after it was written.
        with_maps: See `predict_files`.

    Returns:
        The files written.

    Raises:
        DataError: The only scan can't be predicted.
        DatasetProblems: Likewise for some of several scans; those of all others are written.
        ConfigError: Label maps can't be written in this format, the memory that was given is too little, or maps of
            uncertainty are to go to a bucket.
        OutputError: A label map can't be written; no part of it is left.
        ModelError: A machine can't load the network.
    """
    if with_maps:
        check_maps(scans, folder, transfer)
    pairs = find_work(scans, folder, suffix, skip, transfer, with_maps=with_maps)
    jobs = [_Job(scan, target, transfer.changed(target)) for scan, target in pairs]
    written: list[Path] = []
    problems: list[Inflate3dError] = []
    outcomes = engine(
        partial(_predict, recipe, transfer, postprocessing, _Judging(with_confidence or with_maps, with_maps)), jobs
    )
    for job, outcome in zip(jobs, progress(outcomes, len(jobs), "predicting"), strict=True):
        if isinstance(outcome, LostError):
            outcome = _Outcome(None, transfer.told(outcome.with_context(case=job.scan.id, file=job.scan.scan)))
        for warning in outcome.warnings:
            warn(warning)
        if outcome.problem:
            problems.append(outcome.problem)
            fail(outcome.problem)
        if outcome.predicted:
            written.append(job.target)
            report(outcome.predicted)
    raise_problems(problems, written, len(scans))
    return written


def _predict(
    recipe: Recipe, transfer: Transfer, postprocessing: Postprocessing | None, judging: _Judging, job: _Job
) -> _Outcome:
    """Predicts one scan, on whichever machine this is."""
    if transfer.changed(job.target) != job.before:  # by one that died before it could say so
        return _Outcome(PredictedScan(job.scan.id, job.target, 0.0, 0.0, 0.0))
    if transfer.is_local:
        return _work_on(recipe, postprocessing, judging, transfer, job.scan, job.target)
    with TemporaryDirectory(prefix="inflate3d-") as folder:
        outcome = _work_on(recipe, postprocessing, judging, *transfer.moved(job.scan, job.target, Path(folder)))
    if outcome.predicted:
        return _Outcome(replace(outcome.predicted, file=job.target), None, outcome.warnings)
    return outcome


def _work_on(
    recipe: Recipe,
    postprocessing: Postprocessing | None,
    judging: _Judging,
    transfer: Transfer,
    scan: Case,
    target: Path,
) -> _Outcome:
    warnings: list[DataError] = []
    done: list[PredictedScan] = []
    work = ScanWork(
        _loaded(recipe),
        transfer,
        warn=warnings.append,
        report=done.append,
        fail=tell_nobody,
        postprocessing=postprocessing,
        with_confidence=judging.confidence,
        with_maps=judging.maps,
    )
    work.run([(scan, target)], silent)
    return _Outcome(next(iter(done), None), next(iter(work.problems), None), warnings)


@lru_cache(maxsize=1)
def _loaded(recipe: Recipe) -> ScanPredictor:
    """The predictor, which stays warm in this process."""
    return recipe.load()
