"""Predicting scans: each label map is written whole, on its scan's own grid."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from inflate3d.datasets.case import Case
from inflate3d.errors import DataError, DatasetProblems, Inflate3dError
from inflate3d.inference.background import Background
from inflate3d.inference.predictor import Predictor
from inflate3d.inference.scans import Warn, tell_nobody
from inflate3d.io import check_labels_writable, label_suffix, read_images, write_labels
from inflate3d.preparation.stamps import last_change
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
    """

    case: str
    file: Path
    reading: float
    predicting: float
    writing: float

    def to_dict(self) -> dict[str, object]:
        """For ``--json``; seconds to the millisecond."""
        seconds = {"reading": self.reading, "predicting": self.predicting, "writing": self.writing}
        return {
            "case": self.case,
            "file": str(self.file),
            "seconds": {stage: round(value, 3) for stage, value in seconds.items()},
        }


Skip = Callable[[Case], object]
"""Told of every scan that is left out."""

Report = Callable[[PredictedScan], object]
"""Told of every scan whose label map has been written."""


def predict_files(
    predictor: Predictor,
    scans: list[Case],
    folder: Path,
    *,
    suffix: str | None = None,
    skip: Skip | None = None,
    progress: Progress = silent,
    warn: Warn = tell_nobody,
    report: Report = tell_nobody,
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

    Returns:
        The files written.

    Raises:
        DataError: The only scan can't be read, does not fit the model, or its place can't be said in the format.
        DatasetProblems: Likewise for some of several scans; those of all others are written.
        ConfigError: Label maps can't be written in this format, or the memory that was given is too little.
        OutputError: A label map can't be written; no part of it is left.
    """
    targets = [folder / f"{scan.id}{label_suffix(scan.scan, suffix)}" for scan in scans]
    _check_targets(scans, targets)
    pairs = list(zip(scans, targets, strict=True))
    if skip is not None:
        existing = [scan for scan, target in pairs if is_up_to_date(scan, target)]
        pairs = [(scan, target) for scan, target in pairs if scan not in existing]
        for scan in existing:
            skip(scan)
    work = _Work(predictor, warn, report)
    work.run(pairs, progress)
    if len(scans) == 1 and work.problems:
        raise work.problems[0]
    if work.problems:
        what = f"{len(work.problems)} of {len(scans)} scans could not be predicted"
        raise DatasetProblems(work.problems, what=what, written=work.written)
    return work.written


def is_up_to_date(scan: Case, target: Path) -> bool:
    """Whether a scan's label map is there, and none of the scan's files has changed since."""
    if not target.is_file():
        return False
    changes = [last_change(image) for image in scan.images if image]
    return all(change is not None and change < target.stat().st_mtime_ns for change in changes)


@dataclass
class _Writing:
    """A label map on its way into its file."""

    scan: Case
    target: Path
    reading: float
    predicting: float
    written: Background[None]


class _Work:
    """Goes over scans: reads the next and writes the last while one is predicted."""

    def __init__(self, predictor: Predictor, warn: Warn, report: Report) -> None:
        self.written: list[Path] = []
        self.problems: list[Inflate3dError] = []
        self._predictor, self._warn, self._report = predictor, warn, report
        self._writing: _Writing | None = None

    def run(self, pairs: list[tuple[Case, Path]], progress: Progress) -> None:
        """Predicts all scans.

        Args:
            pairs: Each scan with its label map's file.
            progress: Shows how far it is.

        Raises:
            OutputError: A label map can't be written.
        """
        ahead = [_start_reading(scan) for scan, _ in pairs[:1]]
        try:
            for number, (scan, target) in enumerate(progress(pairs, len(pairs), "predicting")):
                reading = ahead.pop()
                reading.finish()
                ahead += [_start_reading(following) for following, _ in pairs[number + 1 : number + 2]]
                self._predict(scan, target, reading)
            self._finish_writing()
        finally:
            if self._writing:
                self._writing.written.finish()

    def _predict(self, scan: Case, target: Path, reading: Background[Volume]) -> None:
        try:
            volume, read_seconds = reading.wait()
            for note in volume.notes:
                self._warn(DataError(note, case=scan.id, file=scan.scan))
            check_labels_writable(target, volume, like=scan.scan)
            started = time.perf_counter()
            labels = self._predictor.predict(volume)
            seconds = time.perf_counter() - started
        except DataError as error:
            self._finish_writing()  # the scan before comes first among the problems, too
            self._add_problem(scan, error)
            return
        self._finish_writing()
        written = Background(partial(write_labels, target, labels, like=scan.scan))
        self._writing = _Writing(scan, target, read_seconds, seconds, written)

    def _finish_writing(self) -> None:
        """Waits for the label map that is being written, if there is one."""
        if not (writing := self._writing):
            return
        self._writing = None
        try:
            _, seconds = writing.written.wait()
        except DataError as error:
            self._add_problem(writing.scan, error)
            return
        self.written.append(writing.target)
        self._report(PredictedScan(writing.scan.id, writing.target, writing.reading, writing.predicting, seconds))

    def _add_problem(self, scan: Case, error: DataError) -> None:
        problem = error.about(case=scan.id, file=scan.scan)
        problem.__cause__ = error
        self.problems.append(problem)


def _start_reading(scan: Case) -> Background[Volume]:
    return Background(partial(read_images, scan.images, case=scan.id))


def _check_targets(scans: list[Case], targets: list[Path]) -> None:
    several = Counter(targets)
    for scan, target in zip(scans, targets, strict=True):
        if several[target] > 1:
            raise DataError(
                "two scans have one name",
                got=f"{several[target]} label maps would go to {target.name}",
                remedy="predict them one after another, into different folders",
                case=scan.id,
                file=scan.scan,
            )
        if target.resolve() in {image.resolve() for image in scan.images if image}:
            raise DataError(
                "label map would overwrite its scan",
                case=scan.id,
                file=target,
                remedy="choose another folder for the result",
            )
