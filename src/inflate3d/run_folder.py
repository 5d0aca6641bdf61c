"""The files in the folder of a run and of a cross-validation, and the training log."""

from __future__ import annotations

import csv
import io
import math
import re
from abc import ABC, abstractmethod
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

from inflate3d.documents import read_text
from inflate3d.errors import DataError
from inflate3d.lock import locked


@dataclass(frozen=True)
class ScoredFolder(ABC):
    """Layout of the evaluation of a run, or of several folds.

    Attributes:
        root: The folder of the run, or of the folds.
    """

    root: Path

    @property
    @abstractmethod
    def runs(self) -> list[RunFolder]:
        """The runs that are evaluated together."""

    @property
    def evaluation(self) -> Path:
        """Scores of the held-out cases."""
        return self.root / "evaluation"

    @property
    def predictions(self) -> Path:
        """Predicted label maps of the held-out cases."""
        return self.root / "predictions"

    def prediction(self, case: str) -> Path:
        """Predicted label map of a held-out case."""
        return self.predictions / f"{case}.nii.gz"

    @property
    def report(self) -> Path:
        """The page with pictures."""
        return self.root / "report.html"


@dataclass(frozen=True)
class RunFolder(ScoredFolder):
    """Layout of a run's folder.

    Examples:
        >>> run = RunFolder(Path("runs/Liver"))
        >>> run.finished, run.config.name
        (True, 'config.yaml')
    """

    @property
    def runs(self) -> list[RunFolder]:
        """This run only."""
        return [self]

    @property
    def config(self) -> Path:
        """The settings."""
        return self.root / "config.yaml"

    @property
    def plan(self) -> Path:
        """How scans become windows."""
        return self.root / "plan.json"

    @property
    def split(self) -> Path:
        """Which cases are for training and which are held out."""
        return self.root / "split.json"

    @property
    def provenance(self) -> Path:
        """The versions, data and weights that it was made with."""
        return self.root / "provenance.json"

    @property
    def metrics(self) -> Path:
        """Loss and validation Dice over the steps."""
        return self.root / "metrics.csv"

    @property
    def best(self) -> Path:
        """The weights of the best validation, with ``--keep best``."""
        return self.root / "checkpoints" / "best.ckpt"

    @property
    def last(self) -> Path:
        """The state to resume from."""
        return self.root / "checkpoints" / "last.ckpt"

    @property
    def model(self) -> Path:
        """Everything that prediction needs; exists once the training is finished."""
        return self.root / "model"

    @property
    def finished(self) -> bool:
        """Whether the training is finished: the model card is written last."""
        return all((self.model / name).exists() for name in ("model.json", "README.md"))

    def locked(self) -> AbstractContextManager[None]:
        """Prevents other processes from training or evaluating the run at the same time (see `inflate3d.lock`).

        Raises:
            OutputError: Another process has the lock, or the folder can't be written.
        """
        hint = "wait until it has finished, or choose another folder with --run"
        return locked(self.root / ".lock", self.root, doing="working on this run", hint=hint, remove=True)


@dataclass(frozen=True)
class FoldsFolder(ScoredFolder):
    """Layout of a cross-validation: each fold is an ordinary run in its own folder.

    Examples:
        >>> FoldsFolder(Path("runs/Liver-folds")).fold(3).root.as_posix()
        'runs/Liver-folds/fold-3'
    """

    def locked(self) -> AbstractContextManager[None]:
        """Prevents other processes from evaluating the folds at the same time.

        Raises:
            OutputError: Another process has the lock, or the folder can't be written.
        """
        hint = "wait until it has finished"
        return locked(self.root / ".lock", self.root, doing="evaluating these folds", hint=hint, remove=True)

    def fold(self, number: int) -> RunFolder:
        """The run that holds a fold out."""
        return RunFolder(self.root / f"fold-{number}")

    @property
    def runs(self) -> list[RunFolder]:
        """The existing runs, ``fold-10`` after ``fold-9``; folders may have any name except a hidden one."""
        if not self.root.is_dir():
            return []
        inside = [path for path in self.root.iterdir() if path.is_dir() and not path.name.startswith(".")]
        ordered = sorted(inside, key=lambda path: _by_number(path.name))
        return [RunFolder(path) for path in ordered if RunFolder(path).config.exists()]


@dataclass(frozen=True)
class TrainingLog:
    """The log of a training, ``metrics.csv``: a row for some of its steps.

    Attributes:
        rows: Numbers by column, without empty cells; every row has a ``step``.
    """

    rows: tuple[dict[str, float], ...]

    @classmethod
    def read(cls, file: Path) -> TrainingLog:
        try:
            lines = csv.DictReader(io.StringIO(read_text(file)))
            rows = tuple({name: float(cell) for name, cell in line.items() if cell} for line in lines)
            if not all("step" in row for row in rows):
                raise ValueError("a row has no step")
        except (OSError, ValueError, TypeError, csv.Error) as error:
            raise DataError("cannot read the training log", got=error, file=file) from error
        return cls(rows)

    def column(self, name: str) -> tuple[list[int], list[float]]:
        """Steps and values of a column, without empty cells."""
        found = [(int(row["step"]), row[name]) for row in self.rows if name in row]
        return [step for step, _ in found], [value for _, value in found]

    @property
    def seconds(self) -> float:
        """Duration of the training; NaN if nothing was logged."""
        _, seconds = self.column("seconds")
        return seconds[-1] if seconds else math.nan


def open_folder(root: Path) -> RunFolder | FoldsFolder:
    """A folder of folds if it contains runs and is not one itself; otherwise a run's folder."""
    folds = FoldsFolder(root)
    return folds if folds.runs and not RunFolder(root).config.exists() else RunFolder(root)


def _by_number(name: str) -> list[tuple[int, str]]:
    """Sorts numbers in names by value."""
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in re.split(r"([0-9]+)", name)]
