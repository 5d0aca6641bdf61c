"""Predicting scans: each label map is written whole, on its scan's own grid."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from jaxtyping import Integer, UInt8

from inflate3d.datasets.case import Case
from inflate3d.errors import DataError, DatasetProblems, Inflate3dError, OutputError
from inflate3d.evaluation.postprocessing.steps import Postprocessing
from inflate3d.inference.background import Background
from inflate3d.inference.confidence import Confidence
from inflate3d.inference.protocols import AssessingPredictor, ScanPredictor
from inflate3d.inference.scans import Warn, tell_nobody
from inflate3d.inference.targets import Skip, find_work
from inflate3d.inference.transfer import LOCAL, Transfer
from inflate3d.inference.uncertainty_maps import check_maps, map_file
from inflate3d.io import check_labels_writable, read_images, write_labels, write_percent
from inflate3d.models.oom import MemoryBudgetError, is_oom, out_of_memory_error
from inflate3d.progress import Progress, silent
from inflate3d.volume import Volume


@dataclass(frozen=True)
class PredictedScan:
    """What became of a scan, and how long it took.

    Stages of different scans overlap, so their seconds add up to more than has passed.

    Attributes:
        case: The scan's name.
        file: Its label map.
        reading: Seconds.
        predicting: Seconds.
        writing: Seconds.
        confidence: How far the label map can be trusted, before it is post-processed; none if it was not asked for.
        uncertainty: The map of where it can't, likewise.
    """

    case: str
    file: Path
    reading: float
    predicting: float
    writing: float
    confidence: Confidence | None = None
    uncertainty: Path | None = None

    def to_dict(self) -> dict[str, object]:
        """For ``--json``; seconds to the millisecond."""
        seconds = {"reading": self.reading, "predicting": self.predicting, "writing": self.writing}
        return {
            "case": self.case,
            "file": str(self.file),
            "seconds": {stage: round(value, 3) for stage, value in seconds.items()},
            **({"confidence": self.confidence.to_dict()} if self.confidence else {}),
            **({"uncertainty": str(self.uncertainty)} if self.uncertainty else {}),
        }


Report = Callable[[PredictedScan], object]
"""Told of every scan whose label map has been written."""

Fail = Callable[[Inflate3dError], object]
"""Told of every scan that can't be predicted, and why."""


def predict_files(
    predictor: ScanPredictor,
    scans: list[Case],
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
    """Segments scans and writes their label maps, named as the scans are.

    A scan that can't be segmented stops none of the others. While one is predicted, the next is read and the one
    before is written; no more than these three are held. Ctrl-C waits for the label map that is being written, and
    for nothing else.

    Args:
        predictor: The trained network.
        scans: What to segment.
        folder: Where the label maps go.
        suffix: Format of the label maps, such as ``.nrrd``; the scan's own if not given, NIfTI for DICOM.
        skip: Leaves out scans whose label map is there and is newer than they are, whichever model it is from, and is
            told of each. If not given, none is left out.
        progress: Shows how far it is.
        warn: Told of everything odd about a scan that is no reason to stop.
        report: Told of each scan when its label map is written, in their order.
        fail: Told of each scan that can't be predicted.
        transfer: The way of scans to their paths, and of label maps from theirs.
        postprocessing: What is done to each label map before it is written; nothing if not given.
        with_confidence: Whether the report tells how far each label map can be trusted; the predictor has to be an
            `AssessingPredictor`.
        with_maps: Whether each has a map of its uncertainty, too, see `inflate3d.inference.uncertainty_maps`.

    Returns:
        The files written.

    Raises:
        DataError: The only scan can't be read, does not fit the model, or its place can't be said in the format.
        DatasetProblems: Likewise for some of several scans; those of all others are written.
        ConfigError: Label maps can't be written in this format, the memory is too little for the only scan, or maps of
            uncertainty are to go to a bucket.
        OutputError: A label map can't be written; no part of it is left.
    """
    work = ScanWork(
        predictor,
        transfer,
        warn=warn,
        report=report,
        fail=fail,
        postprocessing=postprocessing,
        with_confidence=with_confidence or with_maps,
        with_maps=with_maps,
    )
    if with_maps:
        check_maps(scans, folder, transfer)
    work.run(list(find_work(scans, folder, suffix, skip, transfer, with_maps=with_maps)), progress)
    raise_problems(work.problems, work.written, len(scans))
    return work.written


def raise_problems(problems: Sequence[Inflate3dError], written: Sequence[Path], scans: int) -> None:
    """Tells all problems at once, if there are any.

    Raises:
        DataError: The only scan's.
        DatasetProblems: Those of some of several scans.
    """
    if scans == 1 and problems:
        raise problems[0]
    if problems:
        what = f"{len(problems)} of {scans} scans could not be predicted"
        raise DatasetProblems(problems, what=what, written=written)


@dataclass
class _Writing:
    """A label map on its way into its file."""

    scan: Case
    target: Path
    reading: float
    predicting: float
    confidence: Confidence | None
    uncertainty: Path | None
    written: Background[None]


class ScanWork:
    """Goes over scans: reads the next and writes the last while one is predicted.

    Args:
        predictor: The trained network.
        transfer: The way of scans to their paths, and of label maps from theirs.
        warn: Told of everything odd about a scan that is no reason to stop.
        report: Told of each scan when its label map is written.
        fail: Told of each scan that can't be predicted.
        postprocessing: What is done to each label map; nothing if not given.

    Attributes:
        written: The label maps.
        problems: Why others are not.
        with_confidence: Whether reports tell how far label maps can be trusted.
        with_maps: Whether the uncertainty of each is written, too, before the label map; needs the confidence.
    """

    def __init__(
        self,
        predictor: ScanPredictor,
        transfer: Transfer,
        *,
        warn: Warn,
        report: Report,
        fail: Fail,
        postprocessing: Postprocessing | None = None,
        with_confidence: bool = False,
        with_maps: bool = False,
    ) -> None:
        self.written: list[Path] = []
        self.problems: list[Inflate3dError] = []
        self._with_confidence, self._with_maps = with_confidence, with_maps
        self._predictor, self._transfer = predictor, transfer
        self._postprocessing = postprocessing or Postprocessing()
        self._warn, self._report, self._fail = warn, report, fail
        self._writing: _Writing | None = None

    def run(self, pairs: list[tuple[Case, Path]], progress: Progress) -> None:
        """Predicts all scans.

        Args:
            pairs: Each scan with its label map's file.
            progress: Shows how far it is.

        Raises:
            OutputError: A label map can't be written.
        """
        ahead = [self._start_reading(scan) for scan, _ in pairs[:1]]
        try:
            for number, (scan, target) in enumerate(progress(pairs, len(pairs), "predicting")):
                reading = ahead.pop()
                reading.finish()
                ahead += [self._start_reading(following) for following, _ in pairs[number + 1 : number + 2]]
                self._predict(scan, target, reading)
            self._finish_writing()
        finally:
            with suppress(Inflate3dError):  # another error is on its way
                self._finish_writing()  # what is written is told, whatever ends the work

    def _predict(self, scan: Case, target: Path, reading: Background[Volume]) -> None:
        try:
            volume, read_seconds = reading.wait()
            for note in volume.notes:
                self._warn(DataError(note, case=scan.id, file=self._transfer.address(scan.scan)))
            check_labels_writable(target, volume.grid, like=scan.scan)
            started = time.perf_counter()
            labels, confidence, uncertainty = self._labels(volume)
            if self._postprocessing.classes:
                labels = self._postprocessing.apply(labels, volume.spacing)
            seconds = time.perf_counter() - started
        except (DataError, MemoryBudgetError, MemoryError, RuntimeError) as error:
            if isinstance(error, RuntimeError) and not is_oom(error):
                raise
            self._finish_writing()  # the scan before comes first among the problems, too
            self._add_problem(scan, error)
            return
        self._finish_writing()
        mapped = None if uncertainty is None else map_file(target, scan)
        written = Background(partial(self._write, scan, target, labels, uncertainty))
        self._writing = _Writing(scan, target, read_seconds, seconds, confidence, mapped, written)

    def _labels(
        self, volume: Volume
    ) -> tuple[Integer[np.ndarray, "i j k"], Confidence | None, UInt8[np.ndarray, "i j k"] | None]:
        if not self._with_confidence:
            return self._predictor.predict(volume), None, None
        assert isinstance(self._predictor, AssessingPredictor)
        assessed = self._predictor.predict_with_confidence(volume, with_uncertainty=self._with_maps)
        return assessed.labels, assessed.confidence, assessed.uncertainty

    def _finish_writing(self) -> None:
        """Waits for the label map that is being written, if there is one."""
        if not (writing := self._writing):
            return
        self._writing = None
        try:
            _, seconds = writing.written.wait()
        except (DataError, OutputError) as error:
            if isinstance(error, OutputError) and self._transfer.labels is None:
                raise  # a disk that is full has no place for the others; a network may fail for once
            self._add_problem(writing.scan, error)
            return
        self.written.append(writing.target)
        stages = writing.reading, writing.predicting, seconds
        self._report(PredictedScan(writing.scan.id, writing.target, *stages, writing.confidence, writing.uncertainty))

    def _add_problem(self, scan: Case, error: Exception) -> None:
        self._transfer.release(scan)
        told = error if isinstance(error, Inflate3dError) else out_of_memory_error(error)
        problem = self._transfer.told(told.with_context(case=scan.id, file=scan.scan))
        problem.__cause__ = error
        self.problems.append(problem)
        self._fail(problem)

    def _start_reading(self, scan: Case) -> Background[Volume]:
        return Background(partial(self._read, scan))

    def _read(self, scan: Case) -> Volume:
        self._transfer.fetch(scan)
        return read_images(scan.images, case=scan.id)

    def _write(
        self,
        scan: Case,
        target: Path,
        labels: Integer[np.ndarray, "i j k"],
        uncertainty: UInt8[np.ndarray, "i j k"] | None,
    ) -> None:
        if uncertainty is not None:
            write_percent(map_file(target, scan), uncertainty, like=scan.scan)
        write_labels(target, labels, like=scan.scan)
        self._transfer.deliver(target)
        self._transfer.release(scan)
