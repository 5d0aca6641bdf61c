"""Predicts many scans into files, on this machine or a cluster, and reports the outcome of each."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from functools import lru_cache, partial
from pathlib import Path
from threading import Thread
from typing import Any, Generic, Literal, TypeVar, cast

from inflate3d.atomic import write_text
from inflate3d.datasets.case import Case
from inflate3d.distributed.ray_cluster import Engine, LostError
from inflate3d.distributed.shard import Shard
from inflate3d.errors import DataError, DatasetProblems, Inflate3dError, OutputError
from inflate3d.evaluation.calibration import LEVEL, Calibration, ExpectedDice
from inflate3d.evaluation.postprocessing.steps import Postprocessing
from inflate3d.inference.manifest import record_written
from inflate3d.inference.prediction import Prediction
from inflate3d.inference.predictor import Predictor, PredictorSettings
from inflate3d.inference.scan_warnings import UnlikeTrainingError
from inflate3d.inference.scans import FoundScans, find_scans
from inflate3d.inference.targets import Destination, Job, find_jobs
from inflate3d.inference.uncertainty import Confidence
from inflate3d.io import check_labels_writable, write_labels, write_percent
from inflate3d.lock import locked
from inflate3d.models.oom import MemoryBudgetError, is_oom, out_of_memory_error
from inflate3d.progress import Progress, silent
from inflate3d.volume import Volume

Result = TypeVar("Result")


@dataclass(frozen=True)
class PredictorRecipe:
    """How a worker process loads its predictor: the arguments of `Predictor.load`.

    Attributes:
        settings: Names and values of `PredictorSettings`.
    """

    folder: Path
    ensemble: tuple[Path, ...] = ()
    settings: tuple[tuple[str, Any], ...] = ()

    @classmethod
    def of(cls, folder: Path, ensemble: Sequence[Path], settings: PredictorSettings) -> PredictorRecipe:
        """A recipe with absolute paths, because other machines work in other folders."""
        return cls(folder.absolute(), tuple(each.absolute() for each in ensemble), tuple(sorted(settings.items())))

    def load(self) -> Predictor:
        return Predictor.load(self.folder, ensemble=self.ensemble, **cast(PredictorSettings, dict(self.settings)))


@dataclass(frozen=True)
class ScanResult:
    """The outcome for one scan.

    Attributes:
        state: Whether its label map was written, existed already, or failed.
        seconds: Duration of each stage; stages of different scans overlap.
        confidence: Confidence of the labels before post-processing; None if not requested.
        uncertainty: File of the uncertainty map; None if not requested.
        masks: Files of the masks of classes or regions, if requested.
        expected: Expected Dice by class and for `MEAN`, where the model is calibrated and the confidence is requested.
    """

    case: str
    state: Literal["done", "skipped", "failed"]
    file: str | None = None
    seconds: Mapping[str, float] = field(default_factory=dict)
    confidence: Confidence | None = None
    uncertainty: Path | None = None
    masks: tuple[Path, ...] = ()
    expected: Mapping[str, ExpectedDice] = field(default_factory=dict)
    error: Inflate3dError | None = None
    warnings: tuple[Inflate3dError, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """For JSON; seconds rounded to milliseconds."""
        seconds = {stage: round(value, 3) for stage, value in self.seconds.items()}
        return {
            "case": self.case,
            "state": self.state,
            **({"file": self.file} if self.state == "done" else {}),
            **({"seconds": seconds} if seconds else {}),
            **({"confidence": self.confidence.to_dict()} if self.confidence else {}),
            **({"expected_dice": self._expected_dict()} if self.expected else {}),
            **({"uncertainty": str(self.uncertainty)} if self.uncertainty else {}),
            **({"masks": [str(file) for file in self.masks]} if self.masks else {}),
            **({"error": self.error.to_dict()} if self.error else {}),
        }

    def _expected_dict(self) -> dict[str, Any]:
        bounds = {
            name: {"value": round(each.value, 4), "low": round(each.low, 4)} for name, each in self.expected.items()
        }
        return {"level": LEVEL, **bounds}


@dataclass(frozen=True)
class _How:
    """What to do with each scan."""

    postprocessing: Postprocessing
    confidence: bool
    uncertainty_maps: bool
    calibration: Calibration | None = None


def predict_files(
    predictor: Predictor | PredictorRecipe,
    scans: str | Path | Sequence[Case] | FoundScans,
    out: str | Path,
    *,
    suffix: str | None = None,
    skip_existing: bool = False,
    overwrite: bool = False,
    postprocessing: Postprocessing | None = None,
    confidence: bool = False,
    uncertainty_maps: bool = False,
    masks: bool = False,
    calibration: Calibration | None = None,
    engine: Engine | None = None,
    progress: Progress = silent,
    report: Callable[[ScanResult], object] = lambda result: None,
) -> list[ScanResult]:
    """Segments scans and writes their label maps under the scans' names.

    A scan that fails does not stop the others. While one is predicted, the next one is read and the previous one is
    written; at most these three are in memory. Ctrl-C only waits for the label map that is being written.

    Args:
        predictor: The model; with an engine, how to load it.
        scans: A scan or a folder of scans, see `inflate3d.inference.scans.find_scans`; or its result.
        out: Folder for the label maps, or the file for a single one (``seg.nii.gz``); may be at s3:// or gs://.
        suffix: Format of the label maps, such as ``.nrrd``; by default the scan's, NIfTI for DICOM.
        skip_existing: Whether to skip scans whose label map exists and is newer, whichever model made it.
        overwrite: Whether to replace files that inflate3d did not write.
        postprocessing: Applied to each prediction before it is written.
        confidence: Whether to report the confidence of each label map.
        uncertainty_maps: Whether to also write each voxel's uncertainty to ``uncertainty/NAME.nii.gz``: the normalized
            entropy of the mean probabilities, from 0 to 1.
        masks: Whether to also write a mask of each class or region, ``masks/NAME/CLASS.nii.gz``: 1 inside, 0 outside.
        calibration: Of the model, to also report the expected Dice of each label map.
        engine: Runs the work on other machines (`inflate3d.distributed`), which must see the same paths. Each process
            loads the model once. If one dies, its scan is restarted elsewhere unless its label map has been written.
        progress: Shows the progress.
        report: Called with each result, in the order of the scans.

    Returns:
        The results, in the order of the scans.

    Raises:
        DataError: The only scan can't be read or does not fit the model, or the format can't express its geometry.
        DatasetProblems: The same for some of several scans; the label maps of all others are written.
        ConfigError: The format is not supported, the memory budget is too small for the only scan, or uncertainty maps
            are requested for a bucket.
        OutputError: A label map can't be written (no part of it is left), or would replace a file that inflate3d did
            not write.

    Examples:
        >>> import inflate3d as i3d
        >>> predictor = i3d.Predictor.load("runs/Liver", device="cpu")
        >>> [result.case for result in predict_files(predictor, "folder_of_scans", "labels")]
        ['a', 'b']
    """
    if isinstance(scans, str | Path):
        scans = find_scans(scans, _loaded(predictor).plan)
    found = scans if isinstance(scans, FoundScans) else FoundScans(list(scans))
    destination = Destination.of(out, found.cases, suffix)
    how = _How(postprocessing or Postprocessing(), confidence or uncertainty_maps, uncertainty_maps, calibration)
    jobs = find_jobs(
        found,
        destination,
        skip_existing=skip_existing,
        overwrite=overwrite,
        uncertainty_maps=uncertainty_maps,
        masks=tuple(_loaded(predictor).plan.targets) if masks else (),
    )
    results = {job.target: ScanResult(job.case.id, "skipped") for job in jobs}
    todo = [job for job in jobs if not job.is_done]
    for job in jobs:
        if job.is_done:
            report(results[job.target])
    if engine is None:
        outcomes = _Pipeline(_loaded(predictor), how).run(todo, progress)
    else:
        outcomes = _map(predictor, how, engine, todo, progress)
    for job, result in outcomes:
        if result.state == "done" and destination.remote is None:
            record_written(*filter(None, (job.target, result.uncertainty, *job.mask_files.values())))
        results[job.target] = result
        report(result)
    _raise_problems(list(results.values()))
    return list(results.values())


def _raise_problems(results: Sequence[ScanResult]) -> None:
    """Raises the errors of all scans together, if there are any."""
    problems = [result.error for result in results if result.error]
    if len(results) == 1 and problems:
        raise problems[0]
    if problems:
        what = f"{len(problems)} of {len(results)} scans could not be predicted"
        written = [Path(result.file) if "://" not in result.file else result.file for result in results if result.file]
        raise DatasetProblems(problems, what=what, written=written)


class _Background(Generic[Result]):
    """A call in a daemon thread, which the process does not wait for when it exits."""

    def __init__(self, call: Callable[[], Result]) -> None:
        self._call = call
        self._result: Result
        self._error: BaseException | None = None
        self._seconds = 0.0
        self._thread = Thread(target=self._run, daemon=True)
        self._thread.start()

    def result(self) -> tuple[Result, float]:
        """Waits for the call; returns its result and duration in seconds, or raises its error."""
        self._thread.join()
        if self._error is not None:
            raise self._error
        return self._result, self._seconds

    def join(self) -> None:
        self._thread.join()

    def _run(self) -> None:
        started = time.perf_counter()
        try:
            self._result = self._call()
        except BaseException as error:  # noqa: BLE001 - raised by result()
            self._error = error
        self._seconds = time.perf_counter() - started


@dataclass
class _Predicted:
    """A label map that is being written, or is about to be."""

    job: Job
    result: ScanResult
    write: Callable[[], None]
    writing: _Background[None] | None = None


class _Pipeline:
    """Reads the next scan and writes the last label map while a scan is predicted."""

    def __init__(self, predictor: Predictor, how: _How) -> None:
        self._predictor, self._how = predictor, how
        self._last: _Predicted | None = None

    def run(self, jobs: list[Job], progress: Progress) -> Iterator[tuple[Job, ScanResult]]:
        ahead = [_Background(job.read) for job in jobs[:1]]
        try:
            for number, job in enumerate(progress(jobs, len(jobs), "predicting")):
                reading = ahead.pop()
                reading.join()
                ahead += [_Background(following.read) for following in jobs[number + 1 : number + 2]]
                predicted = self._predict(job, reading)
                del reading
                yield from self._finish()
                if isinstance(predicted, ScanResult):
                    yield job, predicted
                else:
                    predicted.writing = _Background(predicted.write)
                    self._last = predicted
            yield from self._finish()
        except GeneratorExit:
            raise
        except BaseException:
            with suppress(Inflate3dError):  # another error is on its way
                yield from self._finish()  # what was written is reported, whatever ends the work
            raise

    def _predict(self, job: Job, reading: _Background[tuple[Case, Volume]]) -> _Predicted | ScanResult:
        try:
            (case, volume), read_seconds = reading.result()
            segments = self._predictor.plan.segments
            check_labels_writable(job.target, volume.grid, like=case.scan, segments=segments)
            started = time.perf_counter()
            wanted = {
                "confidence": self._how.confidence,
                "uncertainty": self._how.uncertainty_maps,
                "depth_filter": self._how.postprocessing.depth_filter,
            }
            chosen = {name: value for name, value in wanted.items() if value}
            prediction = self._predictor.predict(volume, log_warnings=False, **chosen)
            if self._how.postprocessing.classes:
                labels = self._how.postprocessing.apply(prediction.labels, volume.spacing)
                prediction = replace(prediction, labels=labels)
            seconds = {"reading": read_seconds, "predicting": time.perf_counter() - started}
        except (DataError, MemoryBudgetError, MemoryError, RuntimeError) as error:
            if isinstance(error, RuntimeError) and not is_oom(error):
                raise
            return _failed(job, error)
        result = ScanResult(
            case.id,
            "done",
            job.target_address,
            seconds,
            prediction.confidence,
            job.map_file if self._how.uncertainty_maps else None,
            tuple(job.mask_files.values()),
            expected=_expected(self._how.calibration, prediction),
            warnings=tuple(each.with_context(case=case.id, file=job.address) for each in prediction.warnings),
        )
        return _Predicted(job, result, partial(_write, job, case, prediction))

    def _finish(self) -> Iterator[tuple[Job, ScanResult]]:
        """Waits for the label map that is being written, if any."""
        if not (last := self._last) or last.writing is None:
            return
        self._last = None
        try:
            _, seconds = last.writing.result()
        except (DataError, OutputError) as error:
            if isinstance(error, OutputError) and last.job.remote_target is None:
                raise  # a full disk has no room for the others either; a network may fail once
            yield last.job, _failed(last.job, error)
            return
        yield last.job, replace(last.result, seconds={**last.result.seconds, "writing": seconds})


def _expected(calibration: Calibration | None, prediction: Prediction) -> dict[str, ExpectedDice]:
    """The Dice to expect of a prediction, where the model is calibrated on scans like it."""
    if calibration is None or prediction.confidence is None or prediction.confidence.soft is None:
        return {}
    if any(isinstance(warning, UnlikeTrainingError) for warning in prediction.warnings):
        return {}
    return calibration.expect(prediction.confidence.soft)


def _failed(job: Job, error: Exception) -> ScanResult:
    job.release()
    problem = error if isinstance(error, Inflate3dError) else out_of_memory_error(error)
    if job.remote and problem.file and Path(problem.file).parent == job.remote.local:
        problem.file = job.remote.address_of(Path(problem.file).name)
    problem = problem.with_context(case=job.case.id, file=job.address)
    problem.__cause__ = error
    return ScanResult(job.case.id, "failed", error=problem)


def _write(job: Job, case: Case, prediction: Prediction) -> None:
    if prediction.uncertainty is not None:
        write_percent(job.map_file, prediction.uncertainty, like=case.scan)
    for name, file in job.mask_files.items():
        write_labels(file, prediction.mask(name), like=case.scan)
    write_labels(job.target, prediction.labels, like=case.scan, segments=prediction.segments)
    job.deliver()
    job.release()


def _map(
    predictor: Predictor | PredictorRecipe, how: _How, engine: Engine, jobs: list[Job], progress: Progress
) -> Iterator[tuple[Job, ScanResult]]:
    """Predicts scans on the machines of an engine with the same pipeline, one scan at a time."""
    results = engine(partial(_predict_job, predictor, how), jobs)
    for job, result in zip(jobs, progress(results, len(jobs), "predicting"), strict=True):
        if isinstance(result, LostError):
            result = ScanResult(job.case.id, "failed", error=result.with_context(case=job.case.id, file=job.address))
        yield job, result


def _predict_job(predictor: Predictor | PredictorRecipe, how: _How, job: Job) -> ScanResult:
    """Predicts one scan, in any worker process."""
    if job.changed() != job.before:  # by a process that died before it could return
        return ScanResult(job.case.id, "done", job.target_address)
    (outcome,) = _Pipeline(_loaded(predictor), how).run([job], silent)
    return outcome[1]


def _loaded(predictor: Predictor | PredictorRecipe) -> Predictor:
    return _load(predictor) if isinstance(predictor, PredictorRecipe) else predictor


@lru_cache(maxsize=1)
def _load(recipe: PredictorRecipe) -> Predictor:
    """Keeps the predictor in the memory of this process."""
    return recipe.load()


class PredictionSummary:
    """Records which scans are done, skipped, failed or not reached, in ``summary.json`` next to the label maps."""

    def __init__(self, cases: Sequence[Case], out: str | Path, shard: Shard | None = None) -> None:
        name = f"summary-{shard.name}.json" if shard else "summary.json"
        destination = Destination.of(out, cases, None)
        self.file, self._remote = destination.folder / name, destination.remote
        self._scans: dict[str, dict[str, Any]] = {case.id: {"case": case.id, "state": "not reached"} for case in cases}

    def report(self, result: ScanResult) -> None:
        self._scans[result.case] = result.to_dict()

    def to_dict(self) -> dict[str, Any]:
        """The number of scans in each state, and the state of each scan in order."""
        counted = Counter(scan["state"] for scan in self._scans.values())
        states = ("done", "skipped", "failed", "not reached")
        return {"counts": {state: counted[state] for state in states}, "scans": list(self._scans.values())}

    @contextmanager
    def kept(self) -> Iterator[None]:
        """Writes the file before the work, so that a folder that can't be written is noticed early, and after it.

        Other processes can't predict many scans, or the same shard of them, into the folder at the same time.
        """
        lock, folder = self.file.with_name(f".{self.file.name}.lock"), self.file.parent
        hint = "wait until it has finished, choose another folder for the label maps, or give each a --shard"
        with locked(lock, folder, doing="predicting into this folder", hint=hint, remove=True):
            self.write()
            try:
                yield
            finally:
                with suppress(KeyboardInterrupt):
                    self.write()

    def write(self) -> None:
        write_text(self.file, json.dumps(self.to_dict(), indent=1, ensure_ascii=False) + "\n")
        if self._remote:
            self._remote.put(self.file)
