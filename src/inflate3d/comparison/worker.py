"""Trains and scores one run of a comparison, and records its cost.

Comparisons that train several runs at a time start ``python -m inflate3d.comparison.worker RUN BUDGET COMMAND`` for
each, with the settings in ``settings.yaml`` in the folder RUN.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from pathlib import Path
from threading import Thread
from typing import TYPE_CHECKING

from inflate3d.atomic import write_text
from inflate3d.comparison.runs import COST, ComparisonRun
from inflate3d.config import RunConfig
from inflate3d.errors import Inflate3dError
from inflate3d.evaluation.scores import Scores
from inflate3d.preparation.store import Store
from inflate3d.progress import Progress, silent
from inflate3d.run_folder import RunFolder
from inflate3d.stopping import Interrupted, exit_code, interruptible

if TYPE_CHECKING:
    from rich.console import Console

SETTINGS = "settings.yaml"
"""In a run's folder: what its process trains. (``config.yaml`` is written when the training starts.)"""

PARENT = "INFLATE3D_COMPARISON_PROCESS"
"""Environment variable with the process number of the comparison that started this one."""

USER_ERROR = 2
"""Exit code, as the command line's."""

_LOOK_SECONDS = 1.0


def train_and_score(
    run: ComparisonRun, store: Store, *, console: Console | None = None, progress: Progress = silent
) -> Scores | None:
    """Trains a run, or resumes it, and scores it; the run of a program starts over.

    Args:
        console: Where to show progress; by default nowhere.

    Returns:
        Its scores; None in all but the first process of a training with several devices.
    """
    import torch

    from inflate3d.comparison.timing import StepClock, choose_clock, decide_steps
    from inflate3d.inference.runs import evaluate_run
    from inflate3d.training.precision import training_device
    from inflate3d.training.run import train

    config, folder = run.config, run.folder
    if run.command:
        from inflate3d.comparison.program import run_program

        return run_program(run, store, threads=torch.get_num_threads(), progress=progress)
    device = training_device(config.training)
    on_gpu = device.type == "cuda"
    if not folder.finished:
        clock = StepClock(choose_clock(device))
        if run.budget:
            config = decide_steps(config, run.budget, folder, store, clock.clock)
        if on_gpu:
            torch.cuda.reset_peak_memory_stats()
        if not train(config, folder, store, resume=True, console=console, callbacks=[clock]):
            return None
        cost = {
            "device": torch.cuda.get_device_name() if on_gpu else device.type.upper(),
            "peak_memory_bytes": torch.cuda.max_memory_allocated() if on_gpu else None,
            "training_seconds": clock.seconds,
            "other_seconds": clock.validation_seconds,
        }
        write_text(folder.root / COST, json.dumps(cost, indent=1) + "\n")
    return evaluate_run(folder, progress=progress)


def main(arguments: list[str]) -> int:
    """Trains and scores the run in one folder; prints its progress in lines."""
    from rich.console import Console

    folder = RunFolder(Path(arguments[0]))
    if parent := os.environ.pop(PARENT, None):  # not for processes that this one starts: it is their parent
        Thread(target=_end_with, args=(int(parent),), daemon=True).start()
    try:
        with interruptible(signal.SIGTERM):
            config = RunConfig.read(folder.root / SETTINGS)
            budget, command = float(arguments[1]) or None, tuple(arguments[2:])
            run = ComparisonRun("", None, config.training.seed, config, folder, budget, command)
            train_and_score(run, Store(config.store), console=Console())
    except Inflate3dError as error:
        print(f"error: {error}", file=sys.stderr)
        return USER_ERROR
    except (Interrupted, KeyboardInterrupt) as stop:
        print(str(stop) or "stopped", file=sys.stderr)
        return exit_code(stop)
    return 0


def _end_with(parent: int) -> None:
    """Stops this process, as Ctrl-C would, when the comparison that started it is gone (killed, out of memory)."""
    while os.getppid() == parent:
        time.sleep(_LOOK_SECONDS)
    os.kill(os.getpid(), signal.SIGTERM)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
