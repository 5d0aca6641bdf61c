"""All parts of a running server."""

from __future__ import annotations

import asyncio
import math
import shutil
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, TypeVar

from inflate3d.lock import locked
from inflate3d.server.cases import AnnotatedCase, CaseList
from inflate3d.server.faults import BusyError
from inflate3d.server.labels import LabelVersion, count_tags
from inflate3d.server.models import ModelShelf
from inflate3d.server.project import Project
from inflate3d.server.sessions import Sessions
from inflate3d.server.tasks import TaskList
from inflate3d.server.trainer import Trainer
from inflate3d.server.uploads import received

if TYPE_CHECKING:
    from inflate3d.inference.predictor import PredictorSettings

Result = TypeVar("Result")

READERS = 4
"""Requests that may have a scan or a label map in memory at a time, besides a prediction."""

MOST_WAITING = 200
"""Requests that may wait for their turn."""


class Workers:
    """Threads for work that needs much memory or time; what finds none free waits without holding anything."""

    def __init__(self, threads: int) -> None:
        self._pool = ThreadPoolExecutor(threads)
        self._waiting = 0

    async def run(self, work: Callable[[], Result]) -> Result:
        """Does work in a thread when it is its turn.

        Raises:
            BusyError: Too much is waiting already.
        """
        if self._waiting >= MOST_WAITING:
            raise BusyError("too many requests are waiting", hint="try again later")
        self._waiting += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._pool, work)
        finally:
            self._waiting -= 1

    def stop(self) -> None:
        """Drops what is waiting."""
        self._pool.shutdown(wait=False, cancel_futures=True)


@dataclass
class Service:
    """What the routes work with.

    Attributes:
        name: Name of the model, and of the project.
        local: Whether only programs on this machine can reach the server, so that paths mean something to clients.
        readers: Do work that has a scan or a label map in memory.
        predictions: Does work with the model, one request after another.
        batches: Predictions of many cases.
        scorings: Comparisons of predictions with label maps.
        loop_tasks: What of these is running, so that it is not garbage-collected.
    """

    project: Project
    cases: CaseList
    models: ModelShelf
    sessions: Sessions
    trainer: Trainer
    name: str
    local: bool = True
    readers: Workers = field(default_factory=lambda: Workers(READERS))
    predictions: Workers = field(default_factory=lambda: Workers(1))
    batches: TaskList = field(default_factory=TaskList)
    scorings: TaskList = field(default_factory=TaskList)
    loop_tasks: set[asyncio.Future[None]] = field(default_factory=set)

    @classmethod
    @contextmanager
    def open(
        cls,
        project: Project,
        folder: Path,
        predictor: PredictorSettings,
        *,
        local: bool = True,
        training: dict[str, Any] | None = None,
    ) -> Iterator[Service]:
        """Opens the folder of a project's annotations, which no other server may use at the same time.

        Args:
            predictor: How to predict.
            local: See the class.
            training: Sections of settings for trainings; those of the project's run by default.

        Raises:
            OutputError: Another one does, or the folder can't be written.
        """
        hint = "stop the other server, or choose another --annotations"
        with locked(folder / ".lock", folder, doing="serving these annotations", hint=hint, remove=True):
            shutil.rmtree(folder / "received", ignore_errors=True)  # of requests that a kill cut off
            cases, models = CaseList(project, folder), ModelShelf(folder / "models", project.model, predictor)
            trainer = Trainer(project, cases, models, training or {}, predictor.get("device"))
            service = cls(project, cases, models, Sessions(folder / "sessions"), trainer, _plain(project.name), local)
            try:
                yield service
            finally:
                service.trainer.close()
                service.readers.stop()
                service.predictions.stop()

    def statistics(self) -> dict[str, Any]:
        cases = list(self.cases)
        return {
            "total": len(cases),
            "completed": sum(case.labeled for case in cases),
            "label_tags": count_tags([case.history for case in cases]),
        }

    def predict_case(self, case: AnnotatedCase) -> tuple[LabelVersion, dict[str, float]]:
        """Predicts a case with the model in service, and saves the label map as ``predicted``.

        If the newest prediction is that model's already, it is taken as it is.

        Returns:
            The version, and seconds by stage.
        """
        from inflate3d.inference.scan_warnings import log_warnings

        known, model = case.history.newest("predicted"), self.models.in_service
        if known is not None and model is not None and known.model == model.number:
            return known, {}
        started = time.perf_counter()
        scan = case.read_scan()
        seconds = {"reading": time.perf_counter() - started}
        prediction, used, spent = self.models.predict(scan)
        log_warnings(prediction.warnings, case=case.id)
        assert prediction.confidence is not None
        confidence = {name: value for name, value in prediction.confidence.classes.items() if value == value}
        version = self.cases.save_labels(
            case.id,
            prediction.labels,
            tag="predicted",
            by=self.name,
            model=used.number,
            confidence=confidence,
            info={
                "confidence": prediction.confidence.to_dict(),
                "warnings": [warning.to_dict() for warning in prediction.warnings],
            },
        )
        return version, {**seconds, **spent}

    def score_case(self, case: AnnotatedCase) -> float | None:
        """Mean Dice of a case's newest prediction with its finished label map; None if it does not have both."""
        from inflate3d.server.scoring import mean_dice

        predicted, final = case.history.newest("predicted"), case.history.newest("final")
        if predicted is None or final is None:
            return None
        one, other = (self.cases.read_labels(case.id, version).array[0] for version in (predicted, final))
        coding = self.cases.coding
        value = mean_dice(coding.encode(one), coding.encode(other), len(coding.values))
        return None if math.isnan(value) else value

    def received(self, stream: BinaryIO, name: str | None) -> AbstractContextManager[Path]:
        """A file that a client sends, in a temporary place on the disk of the annotations (see `uploads.received`)."""
        return received(stream, name, self.cases.folder / "received")


def _plain(name: str) -> str:
    """A name that needs no quoting in an address."""
    return "".join(each if each.isascii() and (each.isalnum() or each in "-_") else "_" for each in name) or "model"
