"""The outcome of a prediction for each scan, and the summary of all in a file."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from inflate3d.atomic import write_text
from inflate3d.datasets.case import Case
from inflate3d.distributed.shard import Shard
from inflate3d.errors import Inflate3dError
from inflate3d.evaluation.calibration import LEVEL, ExpectedDice
from inflate3d.inference.targets import Destination
from inflate3d.inference.uncertainty import Confidence
from inflate3d.lock import locked


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
