"""How a run was made, ``provenance.json`` in its folder: data, 2D weights, and the environment of each session.

Digests are of the voxels that training reads, not of the bytes of files: preparing the same scans again, or
compressing them differently, leaves them unchanged; one changed voxel does not.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from inflate3d.atomic import write_text
from inflate3d.config import RunConfig
from inflate3d.datasets.case import Case
from inflate3d.environment import Environment, command_line, this_environment
from inflate3d.errors import DataError, ModelError, truncate
from inflate3d.preparation.model_space import to_model_space
from inflate3d.preparation.plan import Plan
from inflate3d.preparation.store import Store, StoredCase
from inflate3d.run_folder import RunFolder
from inflate3d.settings import FrozenModel, parse_settings, read_json
from inflate3d.stopping import Interrupted
from inflate3d.volume import Volume

if TYPE_CHECKING:
    import torch

SLICES_AT_ONCE = 16
"""Slices digested together, to limit memory."""

Outcome = Literal["running", "finished", "stopped", "failed"]
"""How a session ended; one that was killed stays ``running``."""

Triple = tuple[float, float, float]

_PREPARE = "run `inflate3d prepare` on the dataset that the run was trained on"


class Session(FrozenModel):
    """One call of `train`: the first, or a resumption.

    Attributes:
        ended: Time of its end; None while it runs, or if it was killed.
        command: The command line; only the name of other programs than ours.
    """

    started: str
    ended: str | None = None
    outcome: Outcome = "running"
    command: tuple[str, ...]
    environment: Environment


class Spread(FrozenModel):
    """Minimum, median and maximum over the cases, along left-right, posterior-anterior, inferior-superior."""

    minimum: Triple
    median: Triple
    maximum: Triple


class DataOrigin(FrozenModel):
    """The cases that a run was trained and validated on.

    Attributes:
        cases: SHA-256 of each prepared case.
        sha256: SHA-256 of all of them.
        spacing: Millimeters between voxels.
        shape: Voxels.
    """

    cases: dict[str, str]
    sha256: str
    spacing: Spread
    shape: Spread

    def check_same(self, now: DataOrigin, *, hint: str = _PREPARE, file: Path | None = None) -> None:
        """Raises an error if other cases are not the same as these."""
        names = self.cases.keys() | now.cases.keys()
        if changed := sorted(name for name in names if self.cases.get(name) != now.cases.get(name)):
            raise DataError(
                "the data have changed since the run was trained",
                expected=f"cases with the SHA-256 digest {self.sha256}",
                got=f"{now.sha256}; {len(changed)} of {len(self.cases)} cases differ: {truncate(changed)}",
                hint=hint,
                case=changed[0],
                file=file,
            )


class WeightsOrigin(FrozenModel):
    """The 2D weights that a run started from.

    Attributes:
        hub_id: Model id on the Hugging Face hub, if they are from there.
        revision: Its commit or branch on the hub, if one was asked for.
        sha256: Checksum of the file; None if it is not in timm's cache.
        license: SPDX identifier, or ``not known``.
    """

    source: str
    hub_id: str | None = None
    revision: str | None = None
    file: str | None = None
    sha256: str | None = None
    license: str = "not known"
    page: str | None = None

    def check_same(self, now: WeightsOrigin | None) -> None:
        """Raises an error if other weights are not these; nothing is checked if a checksum is unknown."""
        if now is not None and None not in (self.sha256, now.sha256) and self.sha256 != now.sha256:
            raise ModelError(
                "the 2D weights have changed since the run was started",
                expected=f"{self.source} with the SHA-256 checksum {self.sha256}",
                got=now.sha256,
                hint="restore the file, or give its new path by --weights",
                file=now.file,
            )


class PushedModel(FrozenModel):
    """A copy of the model on the Hugging Face hub.

    Attributes:
        revision: The commit that uploaded it.
        sha256: Checksum of ``model.safetensors`` there.
    """

    hub_id: str
    revision: str
    sha256: str


class Provenance(FrozenModel):
    """Everything that a run can be traced back to.

    Attributes:
        seeds: Seeds of the training, the split, and the choice of training cases.
        data: The cases that it was trained on.
        weights: The 2D weights that it started from; None for random ones.
        sessions: The first training and each resumption.
        model_sha256: Checksum of ``model/model.safetensors``; None until the run is finished.
        pushed: Its copies on the hub.
    """

    version: Literal[1] = 1
    seeds: dict[str, int]
    data: DataOrigin
    weights: WeightsOrigin | None
    sessions: tuple[Session, ...] = ()
    model_sha256: str | None = None
    pushed: tuple[PushedModel, ...] = ()

    def write(self, folder: RunFolder) -> None:
        """Writes the record into a run's folder."""
        write_text(folder.provenance, self.model_dump_json(indent=1) + "\n")

    @classmethod
    def read(cls, folder: RunFolder) -> Provenance:
        """Reads a run's record."""
        return parse_settings(cls, read_json(folder.provenance), file=folder.provenance)


@contextmanager
def recorded(
    folder: RunFolder,
    config: RunConfig,
    data: DataOrigin,
    weights: WeightsOrigin | None,
    *,
    device: torch.device,
) -> Iterator[None]:
    """Records a training session; a resumed run must have the data and 2D weights it was started with.

    Args:
        weights: The 2D weights that it starts from.
    """
    if folder.provenance.exists():
        before = Provenance.read(folder)
        before.data.check_same(data, file=config.store)
        if before.weights is not None:
            before.weights.check_same(weights)
    else:
        seeds = {
            "training": config.training.seed,
            "split": config.data.split_seed,
            "training_cases": config.data.training_cases_seed,
        }
        before = Provenance(seeds=seeds, data=data, weights=weights)
    session = Session(started=_now(), command=command_line(), environment=this_environment(device))
    before.model_copy(update={"sessions": (*before.sessions, session)}).write(folder)
    outcome: Outcome = "failed"
    try:
        yield
        outcome = "finished"
    except (Interrupted, KeyboardInterrupt):
        outcome = "stopped"
        raise
    finally:
        ended = session.model_copy(update={"ended": _now(), "outcome": outcome})
        checksum = file_sha256(folder.model / "model.safetensors") if outcome == "finished" else None
        update = {"sessions": (*before.sessions, ended), "model_sha256": checksum}
        before.model_copy(update=update).write(folder)


def data_origin(store: Store, cases: Iterable[str]) -> DataOrigin:
    """Digests of prepared cases; reads all their voxels."""
    digests = {name: _digest(store, name) for name in sorted(cases)}
    lines = "".join(f"{digest}  {name}\n" for name, digest in digests.items())
    chosen = [case for case in store.fingerprint.cases if case.case in digests]
    return DataOrigin(
        cases=digests,
        sha256=hashlib.sha256(lines.encode()).hexdigest(),
        spacing=_spread([case.spacing for case in chosen]),
        shape=_spread([case.shape for case in chosen]),
    )


def _digest(store: Store, name: str) -> str:
    if name not in store.cases:
        raise DataError("a case of the run is not in the store", hint=_PREPARE, case=name, file=store.folder)

    def read(slices: Callable[[str, list[int]], np.ndarray], first: int, last: int) -> np.ndarray:
        try:
            return slices(name, list(range(first, last)))
        except RuntimeError as error:  # Blosc2's, of a damaged file
            raise DataError(
                "prepared case can't be read", got=error, hint=_PREPARE, case=name, file=store.folder
            ) from error

    return _digest_slices(store.cases[name], partial(read, store.image_slices), partial(read, store.label_slices))


def digest_case(case: Case, volume: Volume, labels: Volume, plan: Plan) -> str:
    """The digest that a case will have once prepared, from its files as they are now.

    Args:
        volume: Its scan ``(C, I, J, K)``.
        labels: Its label map ``(1, I, J, K)``.
    """
    scan = to_model_space(volume, plan)
    image, numbered = scan.image(), plan.number_classes(scan.labels(labels.array[0]))
    ranges = scan.value_ranges(plan.normalization)
    entry = StoredCase(case=case.id, shape=numbered.shape, spacing=scan.spacing, ranges=ranges, slices={})
    return _digest_slices(entry, lambda first, last: image[:, first:last], lambda first, last: numbered[first:last])


def _digest_slices(case: StoredCase, *reads: Callable[[int, int], np.ndarray]) -> str:
    """SHA-256 of what training uses of a case: geometry, value ranges, image and labels, slice by slice."""
    digest = hashlib.sha256(case.model_dump_json(include={"shape", "spacing", "ranges"}).encode())
    for read in reads:
        for first in range(0, case.shape[0], SLICES_AT_ONCE):
            block = read(first, min(first + SLICES_AT_ONCE, case.shape[0]))
            if not first:
                digest.update(f"{block.dtype.str}{block.ndim}".encode())
            for index in range(block.shape[-3]):
                digest.update(np.ascontiguousarray(block[..., index, :, :]).data)
    return digest.hexdigest()


def _spread(figures: Sequence[Triple | tuple[int, int, int]]) -> Spread:
    table = np.array(figures, np.float64)
    low, median, high = (each.tolist() for each in (table.min(0), np.median(table, 0), table.max(0)))
    return Spread(minimum=tuple(low), median=tuple(median), maximum=tuple(high))


def file_sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
