"""A training as the server asks for it, and its folder, in which a separate process runs it."""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import Field

from inflate3d.atomic import write_text
from inflate3d.datasets.case import Case, Dataset
from inflate3d.datasets.folder import read_folder, write_folder_listing
from inflate3d.datasets.splits import OWN, Split
from inflate3d.lock import locked
from inflate3d.run_folder import RunFolder
from inflate3d.server.models import RESULT
from inflate3d.settings import FrozenModel, parse_settings, read_json

LONGEST_STOP = 120.0
"""Seconds that a training has to write its checkpoint when it is stopped."""


class TrainingJob(FrozenModel):
    """What to train.

    Attributes:
        number: The version that the model will have.
        labels: Number of the label map's version of each case.
        settings: Sections of settings as in a run's ``config.yaml``, and ``plan``.
        steps: Optimizer steps; None: those of the settings, or the plan's.
        start: Folder of the model to start from; None: from the 2D weights of the settings.
        before: Folder of the model in service, to compare with; None if there is none.
        serve_if_worse: Whether to put it in service even if it scores worse than that one.
        device: Device for scoring.
    """

    number: int = Field(ge=1)
    labels: dict[str, int]
    settings: dict[str, Any] = Field(default_factory=dict)
    steps: int | None = Field(default=None, ge=1, le=10**9)
    start: Path | None = None
    before: Path | None = None
    serve_if_worse: bool = False
    device: str | None = None


@dataclass(frozen=True)
class JobFolder:
    """The files of a training: ``models/0001`` and so on.

    Attributes:
        root: The folder.
    """

    root: Path

    @property
    def request(self) -> Path:
        return self.root / "request.json"

    @property
    def dataset(self) -> Path:
        """The labeled cases, a folder like a user's own, which `inflate3d train` takes as well."""
        return self.root / "dataset"

    @property
    def store(self) -> Path:
        """The preprocessed cases, which are removed when the training is finished."""
        return self.root / "store"

    @property
    def run(self) -> RunFolder:
        return RunFolder(self.root / "run")

    @property
    def log(self) -> Path:
        return self.root / "log.txt"

    @property
    def error(self) -> Path:
        """Why it failed."""
        return self.root / "error.json"

    def locked(self, wait: float) -> AbstractContextManager[None]:
        """Keeps other processes out, such as one that is still writing its checkpoint after a stop.

        Args:
            wait: Seconds to wait for it.

        Raises:
            OutputError: It takes longer.
        """
        file = self.root.with_name(f".{self.root.name}.lock")
        return locked(file, self.root, doing="stopping this training", hint="try again later", wait=wait, remove=True)

    @property
    def finished(self) -> bool:
        return (self.root / RESULT).exists()

    def write(self, job: TrainingJob, dataset: Dataset, cases: list[Case], split: Split) -> None:
        """Writes what the process needs, the request last.

        Args:
            cases: The labeled cases, with the label maps to train on.
        """
        self.dataset.mkdir(parents=True, exist_ok=True)
        chosen = Dataset(
            name=dataset.name,
            root=self.dataset,
            modalities=dataset.modalities,
            classes=dataset.classes,
            cases=tuple(case for case in cases if case.id in {*split.train, *split.validation}),
            merged=dataset.merged,
            ignore=dataset.ignore,
            splits={OWN: (split,)},
            structures=dataset.structures,
            codes=dataset.codes,
        )
        write_folder_listing(chosen)
        write_text(self.request, job.model_dump_json(indent=1) + "\n")

    def read_job(self) -> TrainingJob:
        return parse_settings(TrainingJob, read_json(self.request), file=self.request)

    def read_dataset(self) -> Dataset:
        return read_folder(self.dataset)
