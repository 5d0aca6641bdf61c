"""Cases prepared before the plan is complete, in a hidden folder of the store.

The folder contains the two files of each prepared case and a record. Any number of processes on machines that share a
disk may add to it at the same time, and an interrupted preparation resumes from it. It replaces the store when all
cases are known to be valid; until then an older store stays in place.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Literal

from pydantic import ValidationError

from inflate3d.atomic import atomic_path, flush_files
from inflate3d.datasets.case import Case, Dataset
from inflate3d.distributed.shard import Shard
from inflate3d.errors import ConfigError, DataError, OutputError
from inflate3d.lock import locked
from inflate3d.preparation.file_signatures import sign_case
from inflate3d.preparation.fingerprint import CaseFingerprint
from inflate3d.preparation.plan import ModelSpace
from inflate3d.preparation.store import ARRAY_KINDS, ArrayKind, StoredCase, case_file
from inflate3d.settings import FrozenModel

MIN_FREE_BYTES = 2**20
"""Least free disk space for a preparation."""

_SHARD_WAITS = 2.0
"""Seconds to wait for other shards, which lock the store only while they start."""


class StagedCase(FrozenModel):
    """The record of a case that was read, checked, measured and stored in model space.

    Attributes:
        stored: Its entry in the store's index, with its own percentiles as value ranges.
        written: Size in bytes and modification time in nanoseconds of its two files.
    """

    version: Literal[2] = 2
    root: str
    space: ModelSpace
    measured: CaseFingerprint
    scan_notes: tuple[str, ...]
    label_notes: tuple[str, ...]
    stored: StoredCase
    written: dict[ArrayKind, tuple[int, int]]


class Staging:
    """The staging folder of a store, locked by this process.

    Attributes:
        keep: Whether to keep it if the dataset is invalid: if it contains earlier work, or work of several machines.
    """

    def __init__(self, store: Path) -> None:
        self.store = store
        self.folder = store / ".unfinished"
        self.keep = any(self.folder.glob("*.json"))

    def completed(self, dataset: Dataset, space: ModelSpace) -> dict[str, StagedCase]:
        """The cases that are already prepared, by id.

        Args:
            dataset: The dataset as it is now; a case whose files have changed is not included.
            space: Model space; cases that were prepared differently are not included.
        """
        found = {case.id: self._read_record(case.id) for case in dataset.cases}
        return {
            case.id: record
            for case in dataset.cases
            if (record := found[case.id]) and record.space == space and self._is_current(case, record, dataset)
        }

    def publish(self, cases: Sequence[str]) -> None:
        """Moves file pairs to the store's location; the caller then writes the index."""
        moves = [
            (case_file(self.folder, case, kind), case_file(self.store, case, kind))
            for case in cases
            for kind in ARRAY_KINDS
        ]
        flush_files(source for source, _ in moves)
        try:
            (self.store / "store.json").unlink(missing_ok=True)  # a half-moved store must not look complete
            for source, target in moves:
                source.replace(target)
        except OSError as error:
            raise OutputError("cannot move a prepared case", got=error.strerror, file=self.store) from error

    def remove(self) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)

    def _is_current(self, case: Case, record: StagedCase, dataset: Dataset) -> bool:
        """Whether a case was made from its current files, and its file pair is still there."""
        missing = tuple(index for index, image in enumerate(case.images) if image is None)
        measured = record.measured
        if (record.root, measured.missing) != (str(dataset.root.absolute()), missing):
            return False
        if measured.files != sign_case(case, dataset.root):
            return False
        return all(self._has(case.id, record, kind) for kind in ARRAY_KINDS)

    def _has(self, case: str, record: StagedCase, kind: ArrayKind) -> bool:
        """Whether a file is as it was written; one that has already been moved to the store is moved back."""
        staged, place = (case_file(folder, case, kind) for folder in (self.folder, self.store))
        if not staged.is_file() and place.is_file() and not (self.store / "store.json").exists():
            place.replace(staged)
        return staged.is_file() and file_state(staged) == record.written[kind]

    def _read_record(self, case: str) -> StagedCase | None:
        try:
            return StagedCase.model_validate_json(_record_file(self.folder, case).read_bytes())
        except (FileNotFoundError, ValidationError):
            return None  # the case is prepared again


def write_record(folder: Path, record: StagedCase) -> None:
    """Marks a case as prepared."""
    with atomic_path(_record_file(folder, record.stored.case), flush=False) as temporary:
        temporary.write_text(record.model_dump_json(), encoding="utf-8")


def file_state(path: Path) -> tuple[int, int]:
    """Size of a file, and its modification time in nanoseconds."""
    state = path.stat()
    return state.st_size, state.st_mtime_ns


@contextmanager
def open_staging(store: Path, shard: Shard | None = None) -> Iterator[Staging]:
    """Locks a store's folder to prepare cases there.

    If the dataset or an option is invalid, the folder is removed, unless it contains earlier work (see `Staging`);
    after any other error the preparation can be resumed.

    Args:
        store: The store's folder; created if missing.
        shard: The share of the cases to prepare; None for all.
    """
    staging = Staging(store)
    created = [folder for folder in (store, *store.parents) if not folder.exists()]
    _make_folder(staging.folder, store)
    with _locked(staging.folder, store, shard):
        try:
            yield staging
        except (DataError, ConfigError):
            if staging.keep:
                raise
            staging.remove()
            with suppress(OSError):  # not empty: somebody else's files are there
                for folder in created:
                    folder.rmdir()
            raise


@contextmanager
def _locked(folder: Path, store: Path, shard: Shard | None) -> Iterator[None]:
    """Locks the whole store; shards hold this lock only until they have their own."""
    with ExitStack() as locks:
        if shard is None:
            locks.enter_context(locked(folder / "lock", store))
            for other in folder.glob("shard-*.lock"):
                with locked(other, store):
                    pass  # nobody prepares this shard
        else:
            with locked(folder / "lock", store, wait=_SHARD_WAITS):
                locks.enter_context(locked(folder / f"shard-{shard.name}.lock", store))
        yield


def _make_folder(folder: Path, store: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        free = shutil.disk_usage(folder).free
    except OSError as error:
        raise OutputError("cannot create folder", file=store, got=error.strerror) from error
    if free < MIN_FREE_BYTES:
        raise OutputError("no space left on the device", file=store, got=f"{free} bytes free")


def _record_file(folder: Path, case: str) -> Path:
    return folder / f"{case}.json"
