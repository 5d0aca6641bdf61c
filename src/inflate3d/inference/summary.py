"""What became of every scan, in a file beside the label maps."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from inflate3d.atomic import write_text
from inflate3d.datasets.case import Case
from inflate3d.engines.shard import Shard
from inflate3d.errors import Inflate3dError
from inflate3d.inference.files import PredictedScan
from inflate3d.inference.transfer import Transfer
from inflate3d.lock import locked

_STATES = ("done", "skipped", "failed", "not reached")


class PredictionSummary:
    """Notes for each of many scans whether it is done, skipped, failed or not reached.

    Args:
        scans: All that are to be predicted.
        folder: Where the label maps, and the summary, go.
        transfer: The way of label maps from there.
        shard: The share of more scans that these are.
    """

    def __init__(self, scans: Sequence[Case], folder: Path, transfer: Transfer, shard: Shard | None = None) -> None:
        self.file = folder / (f"summary-{shard.name}.json" if shard else "summary.json")
        self._transfer = transfer
        self._scans: dict[str, dict[str, Any]] = {scan.id: {"state": "not reached"} for scan in scans}

    def skip(self, scan: Case) -> None:
        """Notes that a scan is left out."""
        self._scans[scan.id] = {"state": "skipped"}

    def report(self, scan: PredictedScan) -> None:
        """Notes that a scan is done."""
        document = scan.to_dict()
        self._scans[scan.case] = {
            "state": "done",
            "file": self._transfer.address(scan.file),
            **{name: document[name] for name in ("seconds", "confidence", "uncertainty") if name in document},
        }

    def fail(self, error: Inflate3dError) -> None:
        """Notes that a scan can't be predicted."""
        self._scans[error.case or ""] = {"state": "failed", "error": error.to_dict()}

    def to_dict(self) -> dict[str, Any]:
        """How many scans are in each state, and each scan's, in their order."""
        counted = Counter(scan["state"] for scan in self._scans.values())
        return {
            "counts": {state: counted[state] for state in _STATES},
            "scans": [{"case": case, **scan} for case, scan in self._scans.items()],
        }

    @contextmanager
    def kept(self) -> Iterator[None]:
        """Writes the file before the work, which tells early where nothing can be written, and after it.

        Meanwhile other processes are kept from predicting many scans, or the same share of them, into the folder:
        each would write this file. Single scans may go there at any time.

        Raises:
            OutputError: It can't be written, or another process is at it.
        """
        lock, folder = self.file.with_name(f".{self.file.name}.lock"), self.file.parent
        hint = "wait until it has finished, choose another folder for the label maps, or give each a --shard"
        with locked(lock, folder, doing="predicting into this folder", hint=hint, remove=True):
            self.write()
            try:
                yield
            finally:
                self.write()

    def write(self) -> None:
        """Writes the file, whole or not at all.

        Raises:
            OutputError: It can't be written.
        """
        write_text(self.file, json.dumps(self.to_dict(), indent=1, ensure_ascii=False) + "\n")
        self._transfer.deliver(self.file)
