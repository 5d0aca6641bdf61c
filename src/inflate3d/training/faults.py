"""Turns errors of torch and Lightning into ours, and hides harmless warnings."""

from __future__ import annotations

import traceback
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytorch_lightning as lightning

from inflate3d.errors import ConfigError, Inflate3dError
from inflate3d.models.oom import is_oom
from inflate3d.stopping import Interrupted
from inflate3d.training.checkpoints import CheckpointOnSignal
from inflate3d.training.processes import end_others
from inflate3d.training.resuming import bad_checkpoint

_HARMLESS = (
    ".*your dataloader is not resumable.*",  # it is: it asks for the step (see `SamplesModule`)
    ".*does not have many workers.*",
    "Checkpoint directory .* exists and is not empty",  # a resumed run's
    r"Found \d+ module\(s\) in eval mode.*",  # a frozen backbone's
    ".*LeafSpec.*",  # Lightning 2.6 with torch 2.15
    ".*sync_dist=True.*",  # all processes log the same numbers
    ".*find_unused_parameters=True was specified.*",
    ".*Grad strides do not match bucket view strides.*",  # channels_last
)
"""Warnings of torch and Lightning that are of no use to the user."""


@contextmanager
def explained(trainer: lightning.Trainer, checkpoint: Path | None) -> Iterator[None]:
    """Ends the other processes together with this one, and turns errors of torch and Lightning into ours."""
    try:
        with warnings.catch_warnings():
            for message in _HARMLESS:
                warnings.filterwarnings("ignore", message)
            yield
    except Interrupted:
        raise  # the others are leaving, too
    except BaseException as error:
        end_others(trainer)
        if type(error).__module__.startswith(("torch._dynamo", "torch._inductor")):
            raise _cannot_compile(error) from error
        if _is_lost_worker(error):
            raise _worker_ended(error) from error
        started = any(isinstance(each, CheckpointOnSignal) and each.started for each in trainer.callbacks)  # type: ignore[attr-defined]
        ours = isinstance(error, Inflate3dError | KeyboardInterrupt | SystemExit) or is_oom(error)
        if checkpoint is not None and not started and not ours:
            raise bad_checkpoint(checkpoint, error) from error
        raise


def _is_lost_worker(error: BaseException) -> bool:
    """Whether a loader process was killed; torch notices it, or the connection that delivers a batch breaks."""
    if str(error).startswith("DataLoader worker (pid"):  # torch has no class of its own for it
        return True
    files = [Path(frame.filename) for frame in traceback.extract_tb(error.__traceback__)]
    receiving = any(file.parts[-2:] == ("data", "dataloader.py") for file in files) and any(
        file.parent.name == "multiprocessing" for file in files
    )
    return receiving and isinstance(error, EOFError | OSError)


def _worker_ended(error: BaseException) -> Inflate3dError:
    return Inflate3dError(
        "a data loader process was killed",
        expected="enough memory for as many of them as --workers",
        got=str(error).partition("\n")[0] or type(error).__name__,
        hint="lower --workers, and repeat the command with --resume",
    )


def _cannot_compile(error: BaseException) -> ConfigError:
    return ConfigError(
        "the network can't be compiled",
        got=" ".join(str(error).partition("\n\n")[0].split()),  # its first paragraph
        hint="leave out --compile, or install what it needs: a C++ compiler for a CPU, Triton for a GPU",
    )
