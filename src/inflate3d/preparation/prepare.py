"""From a data set's files to its store: verify, fingerprint, plan, write."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import TypeVar

from inflate3d.config import FrozenModel
from inflate3d.datasets.case import Case, Dataset
from inflate3d.errors import DataError, DatasetProblems, Inflate3dError, OutputError
from inflate3d.preparation.fingerprint import CaseFingerprint, Fingerprint, measure_case
from inflate3d.preparation.plan import Plan, make_plan
from inflate3d.preparation.store import Store, StoredCase, write_case, write_index
from inflate3d.preparation.verify import check_case, check_classes
from inflate3d.progress import Progress, silent
from inflate3d.volume import DepthAxis

Result = TypeVar("Result")


class PlanOptions(FrozenModel):
    """What the user knows better than the plan."""

    depth_axis: DepthAxis | None = None
    """Direction along which slices are stacked; the one of largest spacing if not given."""
    planned_size: tuple[int, int] | None = None
    """In-plane size in pixels (rows, columns) to plan for; from the median slice if not given."""
    clip: tuple[float, float] | None = None
    """Voxel values that become 0 and 1 in every case; by modality if not given."""
    flips: bool | None = None
    """Whether windows may be mirrored; from the class names if not given."""


def prepare(
    dataset: Dataset,
    folder: Path,
    *,
    options: PlanOptions = PlanOptions(),  # noqa: B008 - frozen
    workers: int | None = None,
    progress: Progress = silent,
) -> Store:
    """Checks every case, measures it, plans, and writes the store.

    Args:
        dataset: What to prepare.
        folder: Where the store goes; an older store there is replaced, case files by case files.
        options: Choices that the plan must take over.
        workers: Processes; as many as cores if not given.
        progress: Shows how far it is.

    Raises:
        DatasetProblems: All that is wrong with any case; nothing is written then.
        OutputError: The store can't be written.
    """
    processes = workers or os.cpu_count() or 1
    fingerprint = examine(dataset, workers=processes, progress=progress)
    plan = make_plan(
        dataset,
        fingerprint,
        depth_axis=options.depth_axis,
        image_size=options.planned_size,
        clip=options.clip,
        flips=options.flips,
    )
    _make_folder(folder)
    (folder / "store.json").unlink(missing_ok=True)  # an interrupted preparation must not pass for a finished one
    written = _in_parallel(partial(_store_case, dataset, folder, plan), dataset.cases, processes)
    stored: list[StoredCase] = []
    for outcome in progress(written, len(dataset.cases), "writing the store"):
        if isinstance(outcome, Inflate3dError):
            raise outcome
        stored.append(outcome)
    write_index(folder, dataset.root.resolve(), stored, plan, fingerprint)
    return Store(folder)


def examine(dataset: Dataset, *, workers: int | None = None, progress: Progress = silent) -> Fingerprint:
    """Checks and measures every case, reading each once.

    Raises:
        DatasetProblems: All that is wrong with any case, at once.
    """
    looked = _in_parallel(partial(_measure, dataset), dataset.cases, workers or os.cpu_count() or 1)
    measured: list[CaseFingerprint] = []
    problems: list[Inflate3dError] = []
    for outcome in progress(looked, len(dataset.cases), "checking cases"):
        if isinstance(outcome, DatasetProblems):
            problems.extend(outcome.problems)
        elif isinstance(outcome, Inflate3dError):
            problems.append(outcome)
        else:
            measured.append(outcome)
    if not problems:
        problems.extend(check_classes(dataset, [case.class_voxels for case in measured]))
    if problems:
        raise DatasetProblems(problems)
    return Fingerprint(cases=tuple(measured))


def _measure(dataset: Dataset, case: Case) -> CaseFingerprint | Inflate3dError:
    try:
        volume, labels = check_case(case, dataset)
    except DataError as error:
        return error
    return measure_case(case.id, volume, labels.array[0])


def _store_case(dataset: Dataset, folder: Path, plan: Plan, case: Case) -> StoredCase | Inflate3dError:
    try:
        volume, labels = check_case(case, dataset)
        return write_case(folder, case.id, volume, labels, plan)
    except (DataError, OutputError) as error:
        return error


def _in_parallel(work: Callable[[Case], Result], cases: Sequence[Case], workers: int) -> Iterator[Result]:
    """Yields ``work(case)`` in order; in this process when one worker is enough."""
    if workers == 1 or len(cases) < 4:
        yield from map(work, cases)
        return
    # Fresh processes: a fork of a process that has used torch or blosc2 threads can hang.
    with ProcessPoolExecutor(min(workers, len(cases)), mp_context=get_context("spawn")) as pool:
        yield from pool.map(work, cases, chunksize=max(1, len(cases) // (8 * workers)))


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        free = shutil.disk_usage(folder).free
    except OSError as error:
        raise OutputError("folder can't be made", file=folder, got=error.strerror) from error
    if free < 2**20:
        raise OutputError("no space left on the device", file=folder, got=f"{free} bytes free")
