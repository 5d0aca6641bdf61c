"""Several trainings at a time, each in a process of its own, and each on its own devices."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from inflate3d.comparison.trial import SETTINGS
from inflate3d.comparison.trials import Trial
from inflate3d.config import TrainingConfig
from inflate3d.errors import ConfigError, Inflate3dError
from inflate3d.resources import count_cores
from inflate3d.stopping import interruptible

LOG = "log.txt"
"""In a run's folder: what its process said."""

LINES_TOLD = 12
"""Of a failed process's last words."""

Command = Callable[[Trial], list[str]]


class TrialError(Inflate3dError):
    """A training of a comparison ended with an error; the others are finished or can be gone on with."""


@dataclass(frozen=True)
class Slot:
    """A place where one training runs at a time.

    Attributes:
        name: What it is called in messages.
        environment: Variables that its processes get besides ours.
    """

    name: str
    environment: dict[str, str]


def find_slots(training: TrainingConfig, parallel: int | None) -> list[Slot]:
    """The places to train at: one for each GPU (or for as many as a training takes), else one.

    Args:
        training: Which devices a training takes.
        parallel: How many places are wanted; as many as there are GPUs for, on other devices one, if not given.

    Raises:
        ConfigError: More are wanted than there are GPUs for.
    """
    gpus = visible_gpus() if training.accelerator in ("auto", "gpu") else []
    if not gpus:
        count = parallel or 1
        threads = str(max(1, count_cores() // count))
        return [Slot(f"process {number}", {"OMP_NUM_THREADS": threads}) for number in range(1, count + 1)]
    each = training.devices
    groups = [gpus[start : start + each] for start in range(0, len(gpus) - each + 1, each)]
    if parallel is not None and parallel > len(groups):
        raise ConfigError(
            "not enough GPUs to train this many at a time",
            expected=f"--parallel of at most {len(groups)}: {len(gpus)} GPUs, {each} for each training",
            got=f"--parallel {parallel}",
        )
    return [Slot(f"GPU {'+'.join(group)}", {"CUDA_VISIBLE_DEVICES": ",".join(group)}) for group in groups[:parallel]]


def visible_gpus() -> list[str]:
    """The GPUs that this process may use, by the names that ``CUDA_VISIBLE_DEVICES`` takes."""
    import torch

    count = torch.cuda.device_count()
    named = [name.strip() for name in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if name.strip()]
    return named[:count] if named else [str(number) for number in range(count)]


def trial_command(trial: Trial) -> list[str]:
    """What trains and scores a trial, in a process of its own."""
    return [sys.executable, "-m", "inflate3d.comparison.trial", str(trial.folder.root)]


def run_in_parallel(
    trials: Sequence[Trial],
    slots: Sequence[Slot],
    tell: Callable[[str], None],
    *,
    command: Command = trial_command,
    pause: float = 0.2,
) -> None:
    """Runs the trials that are not finished, as many at a time as there are slots.

    After a failure no other is begun; those that run come to their end. A stop (Ctrl-C, SIGTERM) is passed on: each
    training writes a checkpoint, from which the next call goes on.

    Args:
        trials: What to run.
        slots: Where.
        tell: Shows a line of progress.
        command: What a trial's process runs.
        pause: Seconds between looks at the processes.

    Raises:
        TrialError: The first one that failed, with its last words.
    """
    waiting = [trial for trial in trials if not trial.finished]
    free, running = list(slots), {}
    failed: list[tuple[Trial, int]] = []
    with interruptible(signal.SIGTERM):
        try:
            while running or (waiting and not failed):
                while waiting and free and not failed:
                    trial, slot = waiting.pop(0), free.pop(0)
                    tell(f"{trial.name}: begun on {slot.name}, see {trial.folder.root / LOG}")
                    running[trial.name] = (trial, slot, time.monotonic(), _start(command(trial), trial, slot))
                for name, (trial, slot, started, process) in list(running.items()):
                    if process.poll() is None:
                        continue
                    del running[name]
                    free.append(slot)
                    ended = "finished" if process.returncode == 0 else f"ended with code {process.returncode}"
                    tell(f"{name}: {ended} after {(time.monotonic() - started) / 60:.1f} min")
                    if process.returncode:
                        failed.append((trial, process.returncode))
                time.sleep(pause if running else 0)
        finally:
            _stop([process for _, _, _, process in running.values()])
    if failed:
        raise _failure(*failed[0])


def _start(command: list[str], trial: Trial, slot: Slot) -> subprocess.Popen[bytes]:
    trial.config.write(trial.folder.root / SETTINGS)
    with (trial.folder.root / LOG).open("ab") as log:
        environment = {**os.environ, **slot.environment}
        return subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, env=environment)  # noqa: S603 - our own


def _stop(processes: list[subprocess.Popen[bytes]]) -> None:
    for process in processes:
        process.terminate()  # a training writes a checkpoint then
    for process in processes:
        process.wait()


def _failure(trial: Trial, code: int) -> TrialError:
    log = trial.folder.root / LOG
    return TrialError(
        f"a training of the comparison failed: {trial.name}",
        got=f"exit code {code}\n{_last_lines(log)}",
        hint="mend it, and give the same command again: what is finished is not trained anew",
        file=log,
    )


def _last_lines(log: Path) -> str:
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
    return "\n".join(f"    {line}" for line in lines[-LINES_TOLD:])
