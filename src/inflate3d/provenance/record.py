"""The record of a run, ``provenance.json``: what it learned from, and what each of its sessions was computed by."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

import torch

import inflate3d
from inflate3d.atomic import write_text
from inflate3d.config import RunConfig
from inflate3d.datasets.splits import Split
from inflate3d.models.download import sha256_of
from inflate3d.preparation.store import Store
from inflate3d.provenance.code import Code, this_code
from inflate3d.provenance.data import DataOrigin, check_data, data_origin
from inflate3d.provenance.machine import Machine, this_machine
from inflate3d.provenance.weights import WeightsOrigin, check_weights, weights_origin
from inflate3d.run_folder import RunFolder
from inflate3d.settings import FrozenModel, parse_settings, read_json
from inflate3d.stopping import Interrupted

RECORD = "provenance.json"
"""In a run's folder."""

Outcome = Literal["running", "finished", "stopped", "failed"]
"""``running`` is also what a session that was killed leaves."""


class Session(FrozenModel):
    """One call of the training, from its start or a resume to its end.

    Attributes:
        started: When, in UTC.
        ended: When; none while it runs, and of one that was killed.
        outcome: How it ended.
        command: The command line as given; of a script of somebody else's its name alone.
        code: The code that ran.
        machine: What ran it.
    """

    started: str
    ended: str | None = None
    outcome: Outcome = "running"
    command: tuple[str, ...]
    code: Code
    machine: Machine


class Provenance(FrozenModel):
    """All that a run can be traced back to, and be run again from.

    Attributes:
        seeds: Of the training, the split and the draw of training cases.
        data: What it learned from.
        weights: The 2D weights that it started from; none for random ones.
        sessions: The first training and each resume.
        model_sha256: Checksum of ``model/model.safetensors``; none before the run is finished.
    """

    version: Literal[1] = 1
    seeds: dict[str, int]
    data: DataOrigin
    weights: WeightsOrigin | None
    sessions: tuple[Session, ...]
    model_sha256: str | None = None

    def write(self, folder: RunFolder) -> None:
        """Writes the record into a run's folder, whole or not at all.

        Raises:
            OutputError: It can't be written.
        """
        write_text(record_path(folder), self.model_dump_json(indent=1) + "\n")

    @classmethod
    def read(cls, folder: RunFolder) -> Provenance:
        """Reads a run's record.

        Raises:
            ConfigError: There is none, or it is damaged.
        """
        path = record_path(folder)
        return parse_settings(cls, read_json(path), file=path)


def record_path(folder: RunFolder) -> Path:
    """Where a run's record lies; runs of version 0.1 have none."""
    return folder.root / RECORD


@contextmanager
def recorded(
    folder: RunFolder,
    config: RunConfig,
    store: Store,
    split: Split,
    *,
    device: torch.device,
) -> Iterator[None]:
    """Notes a session of a training: what it starts from before it begins, how it ended after.

    A session of a run that was begun before is added to its record.

    Args:
        folder: The run's folder.
        config: Its settings.
        store: The prepared cases.
        split: Who is learned from and who is held out.
        device: What trains.

    Raises:
        DataError: The prepared cases are not those that the run was begun with, or can't be read.
        ModelError: The 2D weights are not those that it was begun with.
        OutputError: The record can't be written.
    """
    record = _begun(folder, config, store, split)
    session = Session(started=_now(), command=command_line(), code=this_code(), machine=this_machine(device))
    before = record.sessions
    record = record.model_copy(update={"sessions": (*before, session)})
    record.write(folder)
    outcome: Outcome = "failed"
    try:
        yield
        outcome = "finished"
    except (Interrupted, KeyboardInterrupt):
        outcome = "stopped"
        raise
    finally:
        ended = session.model_copy(update={"ended": _now(), "outcome": outcome})
        checksum = sha256_of(folder.model / "model.safetensors") if outcome == "finished" else None
        record.model_copy(update={"sessions": (*before, ended), "model_sha256": checksum}).write(folder)


def _begun(folder: RunFolder, config: RunConfig, store: Store, split: Split) -> Provenance:
    """The record so far: a new one, or that of the run that is gone on with."""
    data = data_origin(store, (*split.train, *split.validation))
    weights = weights_origin(config.model)
    if record_path(folder).exists():
        before = Provenance.read(folder)
        check_data(before.data, data, store)
        check_weights(before.weights, weights)
        return before
    seeds = {
        "training": config.training.seed,
        "split": config.data.split_seed,
        "training_cases": config.data.training_cases_seed,
    }
    return Provenance(seeds=seeds, data=data, weights=weights, sessions=())


def command_line(words: Sequence[str] | None = None) -> tuple[str, ...]:
    """The command line of this process, if it is one of ours; the user's home folder in it is ``~``.

    A script or a notebook of somebody else's is told by its name alone: its options are not ours to keep.

    Args:
        words: Instead of the process's own.
    """
    program, *others = sys.argv if words is None else words
    path = Path(program)
    package = Path(inflate3d.__file__).resolve().parent
    if path.resolve().is_relative_to(package):
        parts = path.resolve().relative_to(package.parent).with_suffix("").parts
        start = ("python", "-m", ".".join(parts).removesuffix(".__main__"))
    elif path.stem == "inflate3d":
        start = ("inflate3d",)
    else:
        return (path.name or "python",)
    home = str(Path.home())
    return (*start, *(word.replace(home, "~") if len(home) > 1 else word for word in others))


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
