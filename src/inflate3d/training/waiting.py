"""How long training steps wait for their batches: time that more loader processes would win."""

from __future__ import annotations

import time

from pytorch_lightning.profilers import Profiler

_FETCH = "[_TrainingEpochLoop].train_dataloader_next"
"""What Lightning calls the fetching of a training batch."""


class LoaderWait(Profiler):
    """Adds up the seconds that the training has waited for batches; hand it to the trainer as its profiler.

    Attributes:
        seconds: All so far, of this process.
    """

    def __init__(self) -> None:
        super().__init__()
        self.seconds = 0.0
        self._since = 0.0

    def start(self, action_name: str) -> None:
        """The training begins to do something."""
        if action_name == _FETCH:
            self._since = time.monotonic()

    def stop(self, action_name: str) -> None:
        """It has done it."""
        if action_name == _FETCH:
            self.seconds += time.monotonic() - self._since

    def summary(self) -> str:
        """Nothing: the log has it."""
        return ""


class WaitShare:
    """The part of the time since the last look that was waited for batches.

    Args:
        wait: What adds up the seconds.
    """

    def __init__(self, wait: LoaderWait) -> None:
        self.wait = wait
        self.restart()

    @property
    def elapsed(self) -> float:
        """Seconds since the last look."""
        return time.monotonic() - self._at

    def restart(self) -> None:
        """Looks without asking, such as after a validation."""
        self._at, self._waited = time.monotonic(), self.wait.seconds

    def take(self) -> float:
        """The part, from 0 to 1, and looks."""
        share = (self.wait.seconds - self._waited) / max(self.elapsed, 1e-9)
        self.restart()
        return share
