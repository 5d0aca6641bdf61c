"""From a data set's files to its store: examine, plan, write."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path

from inflate3d.datasets.case import Case, Dataset
from inflate3d.errors import DataError, Inflate3dError, OutputError
from inflate3d.preparation.examine import examine
from inflate3d.preparation.memory import available_memory
from inflate3d.preparation.parallel import in_parallel
from inflate3d.preparation.plan import Plan
from inflate3d.preparation.plan_options import PlanOptions
from inflate3d.preparation.planning import doubt_plan, make_plan
from inflate3d.preparation.store import Store, StoredCase, remove_other_cases, write_case, write_index
from inflate3d.preparation.verify import check_case
from inflate3d.progress import Progress, silent


def prepare(
    dataset: Dataset,
    folder: Path,
    *,
    options: PlanOptions = PlanOptions(),  # noqa: B008 - frozen
    workers: int | None = None,
    progress: Progress = silent,
    warn: Callable[[DataError], object] = lambda warning: None,
) -> Store:
    """Checks every case, measures it, plans, and writes the store.

    Args:
        dataset: What to prepare.
        folder: Where the store goes; an older store there is replaced.
        options: Choices that the plan must take over.
        workers: Processes; as many as cores if not given.
        progress: Shows how far it is.
        warn: Told of everything odd that is no reason to stop.

    Raises:
        DatasetProblems: All that is wrong with any case; nothing is written then.
        ConfigError: An option can't be used.
        OutputError: The store can't be written.
    """
    dataset = options.choose_classes(dataset)
    examined = examine(
        dataset, allow_missing_modality=options.allow_missing_modality, workers=workers, progress=progress
    )
    plan = make_plan(dataset, examined.fingerprint, available_memory(), options)
    for warning in (*examined.warnings, *doubt_plan(plan, examined.fingerprint)):
        warn(warning)
    _make_folder(folder)
    (folder / "store.json").unlink(missing_ok=True)  # an interrupted preparation must not pass for a finished one
    written = in_parallel(partial(_store_case, dataset, folder, plan), dataset.cases, workers)
    stored: list[StoredCase] = []
    for outcome in progress(written, len(dataset.cases), "writing the store"):
        if isinstance(outcome, Inflate3dError):
            raise outcome
        stored.append(outcome)
    write_index(folder, dataset, options, stored, plan, examined.fingerprint)
    remove_other_cases(folder, [case.case for case in stored])
    return Store(folder)


def _store_case(dataset: Dataset, folder: Path, plan: Plan, case: Case) -> StoredCase | Inflate3dError:
    try:
        volume, labels = check_case(case, dataset, allow_missing_modality=plan.allow_missing_modality)
        return write_case(folder, case, volume, labels, plan)
    except (DataError, OutputError) as error:
        return error


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        free = shutil.disk_usage(folder).free
    except OSError as error:
        raise OutputError("folder can't be made", file=folder, got=error.strerror) from error
    if free < 2**20:
        raise OutputError("no space left on the device", file=folder, got=f"{free} bytes free")
