"""What lies where in a run's folder."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class RunFolder:
    """Where a run keeps what.

    Attributes:
        root: The run's folder.
    """

    root: Path

    @property
    def config(self) -> Path:
        """Everything that was decided."""
        return self.root / "config.yaml"

    @property
    def plan(self) -> Path:
        """How scans became windows."""
        return self.root / "plan.json"

    @property
    def split(self) -> Path:
        """Who was learned from and who was held out."""
        return self.root / "split.json"

    @property
    def metrics(self) -> Path:
        """Loss and validation Dice over the steps."""
        return self.root / "metrics.csv"

    @property
    def best(self) -> Path:
        """State at the best validation."""
        return self.root / "checkpoints" / "best.ckpt"

    @property
    def last(self) -> Path:
        """State to go on from."""
        return self.root / "checkpoints" / "last.ckpt"

    @property
    def model(self) -> Path:
        """What prediction needs; exists once the training is finished."""
        return self.root / "model"

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

    @property
    def finished(self) -> bool:
        """Whether the training has come to its end."""
        return (self.model / "model.json").exists()
