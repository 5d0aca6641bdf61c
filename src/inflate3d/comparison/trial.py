"""One training of a comparison, trained, scored, and its cost written down.

``python -m inflate3d.comparison.trial RUN`` does it in a process of its own, by the settings in ``trial.yaml`` in the
folder RUN; so do comparisons that train several at a time.
"""

from __future__ import annotations

import json
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from inflate3d.atomic import write_text
from inflate3d.config import RunConfig, TrainingConfig
from inflate3d.errors import Inflate3dError
from inflate3d.evaluation.scores import Scores
from inflate3d.preparation.store import Store
from inflate3d.progress import Progress, silent
from inflate3d.run_folder import RunFolder
from inflate3d.stopping import Interrupted, exit_code, interruptible

if TYPE_CHECKING:
    import torch
    from rich.console import Console

COST = "cost.json"
"""In a run's folder: what its training needed."""

SETTINGS = "trial.yaml"
"""In a run's folder: what its process is to train. (``config.yaml`` is written where the training begins.)"""

MISTAKE = 2
"""Exit code, as the command line's."""


def run_trial(
    config: RunConfig, folder: RunFolder, store: Store, *, console: Console | None = None, progress: Progress = silent
) -> Scores | None:
    """Trains a run, or goes on with it, and scores it.

    Args:
        config: Its settings.
        folder: Its folder.
        store: The prepared dataset.
        console: Where to show the training; nowhere if not given.
        progress: Shows how far the evaluation is.

    Returns:
        Its scores; none from the processes that a training on several devices has beside the first.

    Raises:
        Inflate3dError: As `train` and `evaluate_run` do.
        Interrupted: The user stopped it; it can be gone on with.
    """
    import torch

    from inflate3d.inference.runs import evaluate_run
    from inflate3d.training.run import train

    device = _device(config.training)
    on_gpu = device.type == "cuda"
    if not folder.finished:
        if on_gpu:
            torch.cuda.reset_peak_memory_stats()
        if not train(config, folder, store, resume=True, console=console):
            return None
        cost = {
            "device": torch.cuda.get_device_name() if on_gpu else device.type.upper(),
            "peak_memory_bytes": torch.cuda.max_memory_allocated() if on_gpu else None,
        }
        write_text(folder.root / COST, json.dumps(cost, indent=1) + "\n")
    return evaluate_run(folder, progress=progress)


def _device(training: TrainingConfig) -> torch.device:
    """The kind of device that a training takes here."""
    import torch

    accelerator = training.accelerator
    if accelerator in ("auto", "gpu") and torch.cuda.is_available():
        return torch.device("cuda")
    if accelerator in ("auto", "gpu", "mps") and torch.backends.mps.is_available():
        return torch.device("mps")
    return torch.device("cpu")


def main(arguments: list[str]) -> int:
    """Runs the trial of one folder, showing its progress as lines."""
    from rich.console import Console

    folder = RunFolder(Path(arguments[0]))
    try:
        with interruptible(signal.SIGTERM):
            config = RunConfig.read(folder.root / SETTINGS)
            run_trial(config, folder, Store(config.store), console=Console())
    except Inflate3dError as error:
        print(f"error: {error}", file=sys.stderr)
        return MISTAKE
    except (Interrupted, KeyboardInterrupt) as stop:
        print(str(stop) or "stopped", file=sys.stderr)
        return exit_code(stop)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
