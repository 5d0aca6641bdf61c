"""The process that trains a model for the server: ``python -m inflate3d.server.train_model models/0001``.

It ends by itself, after a checkpoint, when its standard input is closed: that is when the server stops it, or dies.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
import threading
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from inflate3d.atomic import write_text
from inflate3d.datasets.case import Dataset
from inflate3d.datasets.splits import OWN
from inflate3d.errors import Inflate3dError
from inflate3d.preparation.store import Store
from inflate3d.server.memory import limit_training, planned_batches
from inflate3d.server.models import RESULT, ModelShelf, ModelVersion
from inflate3d.server.training_job import LONGEST_STOP, JobFolder, TrainingJob
from inflate3d.stopping import Interrupted, exit_code, interruptible

FAILED = 2
NICE = 5


def main(arguments: list[str]) -> int:
    """Trains, scores, and puts the model in service.

    Returns:
        The exit code: 0, 2 after an error that ``error.json`` has, 75 after a stop.
    """
    folder = JobFolder(Path(arguments[0]))
    folder.error.unlink(missing_ok=True)
    if hasattr(os, "nice"):
        os.nice(NICE)  # predictions go first
    threading.Thread(target=_stop_with_server, daemon=True).start()
    try:
        with interruptible(), folder.locked(LONGEST_STOP):
            _train(folder)
    except Inflate3dError as error:
        write_text(folder.error, json.dumps(error.to_dict()))
        return FAILED
    except Interrupted as stop:
        return exit_code(stop)
    return 0


def _stop_with_server() -> None:
    with suppress(OSError):
        while os.read(sys.stdin.fileno(), 1):  # without Python's buffer, whose lock would be held at exit
            pass
    os.kill(os.getpid(), signal.SIGTERM)


def _train(folder: JobFolder) -> None:
    from inflate3d.training.run import train

    job, dataset = folder.read_job(), folder.read_dataset()
    store = _open_store(folder, job, dataset)
    limit_training()
    train(_settings(folder, job, store), folder.run, store, resume=True)
    version = _score(folder, job, dataset, store)
    write_text(folder.root / RESULT, version.model_dump_json(indent=1) + "\n")
    if job.serve_if_worse or not version.is_worse:
        ModelShelf(folder.root.parent, None, {}).put_in_service(version.number)
    shutil.rmtree(folder.store, ignore_errors=True)


def _open_store(folder: JobFolder, job: TrainingJob, dataset: Dataset) -> Store:
    from inflate3d.preparation.plan_options import PlanOptions
    from inflate3d.preparation.prepare import prepare
    from inflate3d.settings import parse_settings

    if (folder.store / "store.json").exists():
        return Store(folder.store)
    options = parse_settings(PlanOptions, job.settings.get("plan", {}))
    return prepare(dataset, folder.store, options=options, workers=1, may_lack=True)


def _settings(folder: JobFolder, job: TrainingJob, store: Store) -> Any:
    """The run's settings: those of the job, but its split, one device, batches that fit, and the model to start."""
    from inflate3d.config import RunConfig
    from inflate3d.presets.preset import overlay
    from inflate3d.settings import parse_settings

    sections = {
        name: job.settings[name] for name in ("data", "model", "augmentation", "training") if name in job.settings
    }
    own: dict[str, Any] = {
        "dataset": folder.dataset.resolve(),
        "store": folder.store.resolve(),
        "data": {"split": "own", "fold": 0, "training_cases": None},
        "training": {"keep": "last", "devices": 1, "nodes": 1, "logger": "none", "extended_from": 0},
    }
    if sections.get("model", {}).get("network", "inflated") == "inflated":
        own["training"] |= planned_batches(sections.get("training", {}), store.plan.defaults)
    if job.steps is not None:
        own["training"]["steps"] = job.steps
    if job.start is not None:
        own["model"] = {"weights": str(job.start)}
    return parse_settings(RunConfig, overlay(sections, own)).resolve(store.plan.defaults)


def _score(folder: JobFolder, job: TrainingJob, dataset: Dataset, store: Store) -> ModelVersion:
    """The new model's Dice of the held-out cases, and on the same cases that of the model in service."""
    from inflate3d.server.scoring import held_out_dice, mean_of
    from inflate3d.training.build import absent_classes

    (split,) = dataset.splits[OWN]
    new = held_out_dice(folder.run.root, dataset, split.validation, device=job.device)
    before = held_out_dice(job.before, dataset, split.validation, device=job.device) if job.before else None
    return ModelVersion(
        number=job.number,
        trained=datetime.now(UTC),
        training_cases=len(split.train),
        absent=tuple(absent_classes(store, split.train)),
        held_out=new,
        dice=mean_of(new),
        before=None if before is None else mean_of(before),
    )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
