"""The models of a project: their versions, which of them is in service, and predictions with it."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import Field

from inflate3d.atomic import write_text
from inflate3d.server.faults import ConflictError, NotFoundError
from inflate3d.server.memory import prediction_memory
from inflate3d.settings import FrozenModel, parse_settings, read_json
from inflate3d.volume import Volume

if TYPE_CHECKING:
    from inflate3d.evaluation.postprocessing.steps import Postprocessing
    from inflate3d.inference.prediction import Prediction
    from inflate3d.inference.predictor import Predictor, PredictorSettings

RESULT = "result.json"
"""File in the folder of a finished training, which makes it a version."""


class ModelVersion(FrozenModel):
    """A trained model.

    Attributes:
        number: 0 for the model that the project began with, then 1, 2 ...
        trained: When its training ended, in UTC.
        training_cases: Number of cases that it was trained on.
        absent: The classes that none of those has.
        held_out: Dice of each held-out case, mean over the classes.
        dice: Mean Dice of the held-out cases.
        before: Mean Dice of the model in service at that time, on the same cases; None if there was none.
    """

    number: int = Field(ge=0)
    trained: datetime | None = None
    training_cases: int | None = None
    absent: tuple[str, ...] = ()
    held_out: dict[str, float] = Field(default_factory=dict)
    dice: float | None = None
    before: float | None = None

    @property
    def is_worse(self) -> bool:
        """Whether the model that was in service before has a higher Dice on the same held-out cases."""
        return self.before is not None and (self.dice is None or self.dice < self.before)


class _InService(FrozenModel):
    number: int = Field(ge=0)


@dataclass(frozen=True)
class _Loaded:
    number: int
    predictor: Predictor
    postprocessing: Postprocessing | None


class ModelShelf:
    """All models of a project in a folder, one in service; safe to use from several threads.

    Args:
        folder: Holds a folder for each training (`inflate3d.server.training_job.JobFolder`), and ``in-service.json``.
        first: The model that the project began with, version 0; None if there was none.
        settings: How to predict.
    """

    def __init__(self, folder: Path, first: Path | None, settings: PredictorSettings) -> None:
        self.folder, self.first, self._settings = folder, first, settings
        self._lock, self._loading = threading.RLock(), threading.Lock()
        self._loaded: _Loaded | None = None

    def versions(self) -> list[ModelVersion]:
        """All finished models, oldest first."""
        found = [] if self.first is None else [ModelVersion(number=0)]
        for file in sorted(self.folder.glob(f"*/{RESULT}")):
            found.append(parse_settings(ModelVersion, read_json(file), file=file))
        return found

    @property
    def in_service(self) -> ModelVersion | None:
        """The version that predicts; None before the first training."""
        with self._lock:
            file = self.folder / "in-service.json"
            if file.exists():
                return self.get(parse_settings(_InService, read_json(file), file=file).number)
            return None if self.first is None else ModelVersion(number=0)

    def get(self, number: int) -> ModelVersion:
        """A version by its number.

        Raises:
            NotFoundError: There is none.
        """
        version = next((version for version in self.versions() if version.number == number), None)
        if version is None:
            raise NotFoundError("model version not found", got=number)
        return version

    def path(self, number: int) -> Path:
        """The run's or model's folder of a version."""
        if number == 0:
            assert self.first is not None
            return self.first
        return self.folder / f"{number:04d}" / "run"

    def put_in_service(self, number: int) -> ModelVersion:
        """Lets a version predict from now on."""
        with self._lock:
            version = self.get(number)
            write_text(self.folder / "in-service.json", _InService(number=number).model_dump_json() + "\n")
            return version

    def predict(self, scan: Volume) -> tuple[Prediction, ModelVersion, dict[str, float]]:
        """Predicts a scan with the model in service, post-processing included, one scan at a time.

        Returns:
            The prediction with its confidence, the model's version, and seconds by stage.

        Raises:
            ConflictError: There is no model yet.
            DataError: The scan does not fit the model.
        """
        with self._loading:
            started = time.perf_counter()
            loaded, version = self._load()
            ready = time.perf_counter()
            steps = loaded.postprocessing
            wanted: dict[str, Any] = {"depth_filter": steps.depth_filter} if steps and steps.depth_filter else {}
            prediction = _predict(loaded.predictor, scan, wanted)
            if steps and steps.classes:
                prediction = replace(prediction, labels=steps.apply(prediction.labels, scan.spacing))
            seconds = {"loading": ready - started, "predicting": time.perf_counter() - ready}
            return prediction, version, seconds

    def _load(self) -> tuple[_Loaded, ModelVersion]:
        version = self.in_service
        if version is None:
            raise ConflictError("no model has been trained yet", hint="label some cases and train: POST /train/{model}")
        from inflate3d.evaluation.postprocessing.steps import read_postprocessing
        from inflate3d.inference.predictor import Predictor

        if self._loaded is None or self._loaded.number != version.number:
            folder = self.path(version.number)
            memory = prediction_memory(self._settings.get("device"), self._settings.get("memory"))
            predictor = Predictor.load(folder, **{**self._settings, "memory": memory})
            steps = read_postprocessing((folder,), predictor.plan.classes, predictor.plan.regions)
            self._loaded = _Loaded(version.number, predictor, steps)
        return self._loaded, version


def _predict(predictor: Predictor, scan: Volume, wanted: dict[str, Any]) -> Prediction:
    """A prediction with its confidence.

    Raises:
        DataError: The scan does not fit the model.
        ConfigError: There is not enough memory.
    """
    from inflate3d.models.oom import is_oom, out_of_memory_error

    try:
        return predictor.predict(scan, confidence=True, log_warnings=False, **wanted)
    except (RuntimeError, MemoryError) as error:
        if not is_oom(error):
            raise
        raise out_of_memory_error(error) from error
