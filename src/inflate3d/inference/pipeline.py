"""Reads, predicts and writes one scan after another; the three overlap."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from threading import Thread
from typing import Generic, TypeVar

from inflate3d.datasets.case import Case
from inflate3d.errors import DataError, Inflate3dError, OutputError
from inflate3d.evaluation.calibration import Calibration, ExpectedDice
from inflate3d.evaluation.postprocessing.steps import Postprocessing
from inflate3d.inference.prediction import Prediction
from inflate3d.inference.predictor import Predictor
from inflate3d.inference.scan_result import ScanResult
from inflate3d.inference.scan_warnings import UnlikeTrainingError
from inflate3d.inference.targets import Job
from inflate3d.io import check_labels_writable, write_labels, write_percent
from inflate3d.models.oom import MemoryBudgetError, is_oom, out_of_memory_error
from inflate3d.progress import Progress
from inflate3d.volume import Volume

Result = TypeVar("Result")


@dataclass(frozen=True)
class How:
    """What to do with each scan."""

    postprocessing: Postprocessing
    confidence: bool
    uncertainty_maps: bool
    calibration: Calibration | None = None


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


class Pipeline:
    """Reads the next scan and writes the last label map while a scan is predicted."""

    def __init__(self, predictor: Predictor, how: How) -> None:
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
