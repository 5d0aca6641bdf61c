"""Several trainings of a comparison at a time, each in a process of its own and on its own devices."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from inflate3d.comparison.runs import LOG, ComparisonRun, RunError, last_lines
from inflate3d.comparison.worker import PARENT, SETTINGS
from inflate3d.config import TrainingConfig
from inflate3d.errors import ConfigError
from inflate3d.resources import count_cores
from inflate3d.stopping import interruptible

Command = Callable[[ComparisonRun], list[str]]


@dataclass(frozen=True)
class Slot:
    """Devices on which one training runs at a time.

    Attributes:
        environment: Additional environment variables of its processes.
    """

    name: str
    environment: dict[str, str]


def find_slots(training: TrainingConfig, parallel: int | None, threads: int | None = None) -> list[Slot]:
    """The slots to train in: one per GPU (or per group of GPUs that a training needs), otherwise one.

    Args:
        parallel: Number of slots; by default as many as the GPUs allow, or one on other devices.
        threads: Threads per training; by default the slots share all cores.
    """
    gpus = visible_gpus() if training.accelerator in ("auto", "gpu") else []
    if not gpus:
        count = parallel or 1
        limit = {"OMP_NUM_THREADS": str(threads or max(1, count_cores() // count))}
        return [Slot(f"process {number}", limit) for number in range(1, count + 1)]
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
    """The GPUs that this process may use, as ``CUDA_VISIBLE_DEVICES`` names them."""
    import torch

    count = torch.cuda.device_count()
    named = [name.strip() for name in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if name.strip()]
    return named[:count] if named else [str(number) for number in range(count)]


def worker_command(run: ComparisonRun) -> list[str]:
    """The command that trains and scores a run in its own process."""
    own = [sys.executable, "-m", "inflate3d.comparison.worker", str(run.folder.root)]
    return [*own, str(run.budget or 0), *run.command]


def run_in_parallel(
    runs: Sequence[ComparisonRun],
    slots: Sequence[Slot],
    log: Callable[[str], None],
    *,
    command: Command = worker_command,
    pause: float = 0.2,
) -> None:
    """Trains and scores the unfinished runs, as many at a time as there are slots.

    A failure does not stop the others. A stop signal (Ctrl-C, SIGTERM) is passed on: each training writes a checkpoint,
    from which the next call resumes it.

    Args:
        command: The command of a run's process.
        pause: Seconds between checks of the processes.
    """
    waiting = [run for run in runs if not run.finished]
    free, running = list(slots), {}
    failed: list[tuple[ComparisonRun, int]] = []
    with interruptible(signal.SIGTERM):
        try:
            while running or waiting:
                while waiting and free:
                    run, slot = waiting.pop(0), free.pop(0)
                    log(f"{run.name}: started on {slot.name}, see {run.folder.root / LOG}")
                    running[run.name] = (run, slot, time.monotonic(), _start(command(run), run, slot))
                for name, (run, slot, started, process) in list(running.items()):
                    if process.poll() is None:
                        continue
                    del running[name]
                    free.append(slot)
                    ended = "finished" if process.returncode == 0 else f"exited with code {process.returncode}"
                    log(f"{name}: {ended} after {(time.monotonic() - started) / 60:.1f} min")
                    if process.returncode:
                        failed.append((run, process.returncode))
                time.sleep(pause if running else 0)
        finally:
            _stop([process for _, _, _, process in running.values()])
    if failed:
        raise _failure(*failed[0])


def _start(command: list[str], run: ComparisonRun, slot: Slot) -> subprocess.Popen[bytes]:
    run.config.write(run.folder.root / SETTINGS)
    with (run.folder.root / LOG).open("ab") as log:
        environment = {**os.environ, **slot.environment, PARENT: str(os.getpid())}
        return subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, env=environment)  # noqa: S603 - our own


def _stop(processes: list[subprocess.Popen[bytes]]) -> None:
    for process in processes:
        process.terminate()  # a training writes a checkpoint then
    for process in processes:
        process.wait()


def _failure(run: ComparisonRun, code: int) -> RunError:
    log = run.folder.root / LOG
    return RunError(
        f"training failed: {run.name}",
        got=f"exit code {code}\n{last_lines(log)}",
        hint="fix it and repeat the command: finished runs are not trained again",
        file=log,
    )
