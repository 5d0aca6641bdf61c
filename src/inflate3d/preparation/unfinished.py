"""A store in the making: in a hidden folder of the store's own, so that a preparation that was killed can go on.

The folder holds the file pairs of the cases that are done, and a record beside each: many processes, of many machines
that share a disk, may add to it at the same time. It is moved into the store's place when all cases are known to be
fine; until then an older store there stays as it is.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Literal

from pydantic import ValidationError

from inflate3d.atomic import atomic_path, flush_files
from inflate3d.datasets.case import Case, Dataset
from inflate3d.engines.shard import Shard
from inflate3d.errors import ConfigError, DataError, OutputError
from inflate3d.lock import locked
from inflate3d.preparation.drafting import DraftedCase, file_state
from inflate3d.preparation.plan_options import PlanOptions
from inflate3d.preparation.stamps import stamp_case
from inflate3d.preparation.store import ARRAY_KINDS, ArrayKind, case_file
from inflate3d.settings import FrozenModel

LEAST_FREE = 2**20
"""Bytes without which nothing is begun."""


class Terms(FrozenModel):
    """What every draft follows: under other terms none can be kept."""

    version: Literal[1] = 1
    root: str
    modalities: tuple[str, ...]
    classes: dict[int, str]
    merged: dict[int, int]
    ignore: int | None
    depth_axis: str | None
    allow_missing_modality: bool


def terms_of(dataset: Dataset, options: PlanOptions) -> Terms:
    """The terms of a dataset whose classes are chosen."""
    return Terms(
        root=str(dataset.root.absolute()),
        modalities=dataset.modalities,
        classes=dataset.classes,
        merged=dict(dataset.merged),
        ignore=dataset.ignore,
        depth_axis=options.depth_axis,
        allow_missing_modality=options.allow_missing_modality,
    )


class _Record(FrozenModel):
    """A case that is done."""

    terms: Terms
    drafted: DraftedCase


class Unfinished:
    """A store in the making, claimed by this process, or a share of it.

    Args:
        store: The store's folder.

    Attributes:
        drafts: Where the cases' file pairs lie before the plan is known.
        redrafts: Where those lie that the plan wanted otherwise.
        keep: Whether it is kept where the dataset can't be used: it goes on from earlier work, or much was done.
    """

    def __init__(self, store: Path) -> None:
        self.store = store
        self.folder = store / ".unfinished"
        self.drafts = self.folder / "drafts"
        self.redrafts = self.folder / "redrafts"
        self.keep = self.drafts.is_dir()

    def resume(self, dataset: Dataset, terms: Terms) -> dict[str, DraftedCase]:
        """The cases that are done already, by id; what was done on other terms is done again.

        Args:
            dataset: The dataset as it is now.
            terms: What every draft follows.
        """
        self.drafts.mkdir(exist_ok=True)
        done = {case.id: _read_record(self.drafts, case.id) for case in dataset.cases}
        return {
            case.id: record.drafted
            for case in dataset.cases
            if (record := done[case.id]) and record.terms == terms and self._holds(case, record.drafted, dataset)
        }

    def publish(self, cases: Sequence[str], redrafted: Iterable[str]) -> None:
        """Moves file pairs to the store's place; the caller has to write its index then.

        Args:
            cases: Ids of all its cases.
            redrafted: Of those that the plan wanted otherwise.

        Raises:
            OutputError: A file can't be moved.
        """
        again = set(redrafted)
        moves = [
            (case_file(self.redrafts if case in again else self.drafts, case, kind), case_file(self.store, case, kind))
            for case in cases
            for kind in ARRAY_KINDS
        ]
        flush_files(source for source, _ in moves)
        try:
            (self.store / "store.json").unlink(missing_ok=True)  # a part must not pass for a finished store
            for source, target in moves:
                source.replace(target)
        except OSError as error:
            raise OutputError(
                "a prepared case can't be moved to its place", got=error.strerror, file=self.store
            ) from error

    def remove(self) -> None:
        """Removes all that a finished store doesn't need."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def _holds(self, case: Case, drafted: DraftedCase, dataset: Dataset) -> bool:
        """Whether a draft is that of the case's files as they are now, and still there."""
        missing = tuple(index for index, image in enumerate(case.images) if image is None)
        if drafted.measured.missing != missing or drafted.measured.files != stamp_case(case, dataset.root):
            return False
        return all(self._has(case.id, drafted, kind) for kind in ARRAY_KINDS)

    def _has(self, case: str, drafted: DraftedCase, kind: ArrayKind) -> bool:
        """Whether a file is there as it was written; what had its place in the store already is taken back."""
        draft, place = (case_file(folder, case, kind) for folder in (self.drafts, self.store))
        if not draft.is_file() and not self._is_finished() and place.is_file():
            place.replace(draft)
        return draft.is_file() and file_state(draft) == drafted.written[kind]

    def _is_finished(self) -> bool:
        return (self.store / "store.json").exists()


def note_done(drafts: Path, terms: Terms, drafted: DraftedCase) -> None:
    """Records beside a case's file pair that it is done.

    Raises:
        OutputError: It can't be written.
    """
    record = _Record(terms=terms, drafted=drafted)
    with atomic_path(_record_file(drafts, drafted.stored.case), flush=False) as temporary:
        temporary.write_text(record.model_dump_json(), encoding="utf-8")


@contextmanager
def claimed(store: Path, shard: Shard | None = None) -> Iterator[Unfinished]:
    """Claims a store's folder for making a store there, or going on with one.

    Where the dataset or an option can't be used, nothing is left of it, unless earlier work is (see `Unfinished`);
    after any other end it can be gone on with.

    Args:
        store: The store's folder; made where it is missing.
        shard: The share of the store that is made, beside others'; all of it if not given.

    Raises:
        OutputError: The folder can't be made, another process prepares a store there, or the disk is full.
    """
    unfinished = Unfinished(store)
    made = [folder for folder in (store, *store.parents) if not folder.exists()]
    _make_folder(unfinished.folder, store)
    with ExitStack() as locks:
        locks.enter_context(locked(unfinished.folder / "lock", store, shared=shard is not None))
        if shard is not None:
            locks.enter_context(locked(unfinished.folder / f"lock-{shard.name}", store))
        try:
            yield unfinished
        except (DataError, ConfigError):
            if unfinished.keep:
                raise
            unfinished.remove()
            with suppress(OSError):  # somebody else has put something there
                for folder in made:
                    folder.rmdir()
            raise


def _make_folder(folder: Path, store: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        free = shutil.disk_usage(folder).free
    except OSError as error:
        raise OutputError("folder can't be made", file=store, got=error.strerror) from error
    if free < LEAST_FREE:
        raise OutputError("no space left on the device", file=store, got=f"{free} bytes free")


def _record_file(drafts: Path, case: str) -> Path:
    return drafts / f"{case}.json"


def _read_record(drafts: Path, case: str) -> _Record | None:
    try:
        return _Record.model_validate_json(_record_file(drafts, case).read_bytes())
    except (FileNotFoundError, ValidationError):
        return None  # the case is done again
