"""The time that training steps take.

On a CPU, seconds are process time, summed over all threads; on other devices, wall time. Preparation, loading of
weights and validations do not count.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from typing import Any

import pytorch_lightning as lightning
import torch

from inflate3d.comparison.budget import Timing
from inflate3d.config import RunConfig
from inflate3d.preparation.store import Store
from inflate3d.run_folder import RunFolder

WARM_UP = 5
"""Steps before the timed ones: the first ones allocate memory and choose kernels."""

TIMED = 20
"""Steps that are timed."""

Clock = Callable[[], float]


class StepClock(lightning.Callback):
    """Sums the time of training steps (also those before a resume), and that of validations.

    Args:
        clock: Returns seconds.
    """

    def __init__(self, clock: Clock) -> None:
        self.clock, self.seconds, self.validation_seconds = clock, 0.0, 0.0
        self._since: float | None = None

    def on_train_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        self._since = None

    def on_train_batch_start(self, *_: Any, **__: Any) -> None:
        """Starts the clock after a pause; otherwise fetching this batch counts as part of the step."""
        if self._since is None:
            self._since = self.clock()

    def on_train_batch_end(self, *_: Any, **__: Any) -> None:
        assert self._since is not None
        self._since, before = self.clock(), self._since
        self.seconds += self._since - before

    def on_validation_start(self, *_: Any, **__: Any) -> None:
        self._since = self.clock()

    def on_validation_end(self, *_: Any, **__: Any) -> None:
        """Adds the validation, and pauses: the checkpoint that follows is not part of a step."""
        assert self._since is not None
        self.validation_seconds += self.clock() - self._since
        self._since = None

    def state_dict(self) -> dict[str, Any]:
        return {"seconds": self.seconds, "validation_seconds": self.validation_seconds}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.seconds, self.validation_seconds = state_dict["seconds"], state_dict["validation_seconds"]


class _Enough(Exception):  # noqa: N818 - no error
    """Ends a training once its steps have been timed."""


class _StepTimer(StepClock):
    """Ends the training after the timed steps."""

    _warm: float | None = None

    def on_train_batch_end(self, trainer: lightning.Trainer, *_: Any, **__: Any) -> None:
        super().on_train_batch_end()
        if trainer.global_step == WARM_UP and self._warm is None:  # where batches are added up, only the last of a step
            self._warm = self.seconds
        if trainer.global_step == WARM_UP + TIMED:
            raise _Enough

    @property
    def seconds_per_step(self) -> float:
        assert self._warm is not None
        return (self.seconds - self._warm) / TIMED


def choose_clock(device: torch.device) -> Clock:
    """Process time on a CPU; on other devices wall time, after the device has finished its work."""
    if device.type == "cpu":
        return time.process_time

    def passed() -> float:
        torch.accelerator.synchronize()
        return time.perf_counter()

    return passed


def time_steps(config: RunConfig, folder: RunFolder, store: Store, clock: Clock) -> float:
    """Seconds per training step, measured in a short training that is discarded.

    Args:
        folder: The run's folder, in which the timed training has a temporary one.
        clock: Returns seconds.
    """
    from inflate3d.training.run import train

    steps = 2 * (WARM_UP + TIMED)  # half of them are never reached, and no validation
    changes = {"steps": steps, "validate_every": steps, "logger": "none"}
    config = config.model_copy(update={"training": config.training.model_copy(update=changes)})
    apart, timer = folder.root / "timed", _StepTimer(clock)
    shutil.rmtree(apart, ignore_errors=True)  # what a kill has left
    try:
        train(config, RunFolder(apart), store, callbacks=[timer])
        raise AssertionError("the training ended before its steps were timed")
    except _Enough:
        return timer.seconds_per_step
    finally:
        shutil.rmtree(apart, ignore_errors=True)


def decide_steps(config: RunConfig, budget: float, folder: RunFolder, store: Store, clock: Clock) -> RunConfig:
    """The run's settings with the number of steps that fits the budget; once decided, it stays the same.

    Args:
        budget: Seconds.
        clock: Returns seconds.
    """
    timing = Timing.read(folder)
    if timing is None:
        timing = Timing.fit(budget, time_steps(config, folder, store, clock))
        timing.write(folder)
    return timing.applied_to(config)
