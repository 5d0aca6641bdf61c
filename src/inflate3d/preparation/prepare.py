"""Prepares a dataset: from its files to its store in one pass.

The headers of all scans determine model space: depth axis and slice spacing. Then each case is read once, checked,
measured, and stored in model space. The rest of the plan follows from the measurements.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np

from inflate3d.datasets.case import Case, Dataset
from inflate3d.distributed.ray_cluster import Engine, LostError
from inflate3d.distributed.shard import Shard
from inflate3d.errors import DataError, DatasetProblems, OutputError
from inflate3d.io import read_grid
from inflate3d.orientation import Orientation
from inflate3d.preparation.examine import Outcome, conclude, note_warnings, read_case
from inflate3d.preparation.parallel import in_parallel
from inflate3d.preparation.plan import ModelSpace, Plan
from inflate3d.preparation.plan_options import PlanOptions
from inflate3d.preparation.planning import check_class_count, choose_model_space, make_plan, plan_warnings
from inflate3d.preparation.staging import StagedCase, Staging, file_state, open_staging, write_record
from inflate3d.preparation.store import (
    ARRAY_KINDS,
    Store,
    StoredCase,
    case_file,
    remove_other_cases,
    write_case,
    write_index,
)
from inflate3d.preparation.training_defaults import available_memory
from inflate3d.preparation.units import may_state_unit, read_units
from inflate3d.progress import Progress, silent
from inflate3d.units import Unit


def prepare(
    dataset: Dataset,
    folder: Path,
    *,
    options: PlanOptions = PlanOptions(),  # noqa: B008 - frozen
    workers: int | None = None,
    engine: Engine | None = None,
    may_lack: bool = False,
    progress: Progress = silent,
    warn: Callable[[DataError], object] = lambda warning: None,
) -> Store:
    """Checks and measures every case, makes the plan, and writes the store.

    Each case is read once. Calling it again resumes an interrupted preparation: prepared cases, including those of
    shards, are kept unless their files, the classes, the modalities, or the options that concern them have changed.

    Args:
        dataset: The dataset.
        folder: Folder for the store; an older store there is replaced when the new one is complete.
        options: Overrides of the automatic plan.
        workers: Number of processes; by default one per core. Each holds one case, in about three times the memory of
            its voxels.
        engine: Does the work instead of processes on this machine; dataset and folder then need absolute paths.
        may_lack: Whether classes that no case has are allowed, as while cases are still being labeled.
        progress: Shows the progress.
        warn: Called with each warning about the dataset.

    Raises:
        DatasetProblems: All problems of all cases. Nothing of the new store is kept, except the work of shards, of an
            engine or of an interrupted preparation, which the next call uses.
        ConfigError: An option is invalid.
        OutputError: The store can't be written, or another process is preparing it.

    Examples:
        >>> from tempfile import TemporaryDirectory
        >>> from inflate3d.datasets.phantom import write_phantoms
        >>> with TemporaryDirectory() as folder:
        ...     dataset = write_phantoms(Path(folder) / "phantoms", 2)
        ...     store = prepare(dataset, Path(folder) / "store", workers=1)
        ...     store.plan.depth_axis, len(store.cases)
        ('axial', 2)
    """
    dataset = options.choose_classes(dataset)
    check_class_count(dataset)
    with open_staging(folder) as staging:
        staging.keep |= engine is not None
        space = _model_space(dataset, options, progress)
        staged, outcomes = _stage_cases(dataset, space, staging, engine or _processes(workers), progress)
        examined = conclude(dataset, outcomes, may_lack=may_lack)
        plan = make_plan(dataset, examined.fingerprint, available_memory(), options)
        _check_space(plan, space, dataset)
        for warning in (*examined.warnings, *plan_warnings(plan, examined.fingerprint)):
            warn(warning)
        stored = [_finish(staged[case.id], plan, case) for case in dataset.cases]
        staging.publish([case.id for case in dataset.cases])
        write_index(folder, dataset, options, stored, plan, examined.fingerprint)
        remove_other_cases(folder, [case.case for case in stored])
        staging.remove()
    return Store(folder)


def prepare_shard(
    dataset: Dataset,
    folder: Path,
    shard: Shard,
    *,
    options: PlanOptions = PlanOptions(),  # noqa: B008 - frozen
    workers: int | None = None,
    progress: Progress = silent,
    warn: Callable[[DataError], object] = lambda warning: None,
) -> list[str]:
    """Checks, measures and stores one shard of the cases; `prepare` then makes the plan and completes the store.

    Any number of shards may be prepared at the same time, by machines that share the folder. `prepare` then does the
    remaining cases.

    Args:
        options: The same as for `prepare`.
        workers: Number of processes; by default one per core.
        warn: Called with each warning about the share's cases.

    Returns:
        Ids of the share's cases, which are all prepared.
    """
    dataset = options.choose_classes(dataset)
    check_class_count(dataset)
    with open_staging(folder, shard) as staging:
        staging.keep = True  # others may work there
        space = _model_space(dataset, options, progress)
        dataset = replace(dataset, cases=tuple(shard.share(dataset.cases)))
        _, outcomes = _stage_cases(dataset, space, staging, _processes(workers), progress)
    notes = [note for outcome in outcomes for note in outcome.notes]
    if problems := [problem for outcome in outcomes for problem in outcome.problems]:
        raise DatasetProblems(problems, warnings=notes)
    for note in notes:
        warn(note)
    return [case.id for case in dataset.cases]


def _processes(workers: int | None) -> Engine:
    return partial(in_parallel, workers=workers)


def _model_space(dataset: Dataset, options: PlanOptions, progress: Progress) -> ModelSpace:
    """Model space, from the headers of all cases where the options leave it open."""
    spacing = _median_spacing(dataset, progress) if options.needs_median_spacing else None
    return choose_model_space(dataset, spacing, _units(dataset, progress), options)[0]


def _median_spacing(dataset: Dataset, progress: Progress) -> tuple[float, float, float]:
    """Median millimeters along the RAS+ axes, from headers alone."""
    spacings = []
    for case in progress(dataset.cases, len(dataset.cases), "reading headers"):
        try:
            grid = read_grid(case.scan, case=case.id)
        except (DataError, StopIteration):
            continue  # the error is reported when the whole case is read
        spacings.append([grid.spacing[axis] for axis in Orientation.toward(grid.affine, "RAS").axes])
    x, y, z = np.median(spacings or [(1.0, 1.0, 1.0)], axis=0).tolist()
    return x, y, z


def _units(dataset: Dataset, progress: Progress) -> dict[str, tuple[Unit | None, ...]]:
    """The units of all cases, from headers alone."""
    found: dict[str, tuple[Unit | None, ...]] = {case.id: () for case in dataset.cases}
    stating = [case for case in dataset.cases if may_state_unit(case)]
    for case in progress(stating, len(stating), "reading units") if stating else ():
        try:
            found[case.id] = read_units(case)
        except DataError:
            del found[case.id]  # the error is reported when the whole case is read
    return found


def _stage_cases(
    dataset: Dataset, space: ModelSpace, staging: Staging, engine: Engine, progress: Progress
) -> tuple[dict[str, StagedCase], list[Outcome]]:
    """Prepares every case that is not prepared yet."""
    staged = staging.completed(dataset, space)
    todo = [case for case in dataset.cases if case.id not in staged]
    outcomes = {case.id: _outcome(staged[case.id], case) for case in dataset.cases if case.id in staged}
    work = partial(_stage_case, replace(dataset, cases=()), space, staging.folder)
    results = progress(engine(work, todo), len(todo), "reading and storing cases")
    for case, result in zip(todo, results, strict=True):
        if isinstance(result, OutputError):
            raise result
        if isinstance(result, LostError):
            result = Outcome(None, problems=(result.with_context(case=case.id, file=case.scan),))
        if isinstance(result, StagedCase):
            staged[case.id] = result
            result = _outcome(result, case)
        outcomes[case.id] = result
    return staged, [outcomes[case.id] for case in dataset.cases]


def _stage_case(dataset: Dataset, space: ModelSpace, folder: Path, case: Case) -> StagedCase | Outcome | OutputError:
    """Reads, checks, measures and stores one case; worker processes return errors as values."""
    try:
        missing = space.allow_missing_modality
        read = read_case(dataset, case, allow_missing_modality=missing, units=space.units)
        stored = write_case(folder, case, read.volume, read.labels, space)
        record = StagedCase(
            root=str(dataset.root.absolute()),
            space=space,
            measured=read.measured,
            scan_notes=read.volume.notes,
            label_notes=read.labels.notes,
            stored=stored,
            written={kind: file_state(case_file(folder, case.id, kind)) for kind in ARRAY_KINDS},
        )
        write_record(folder, record)
    except DatasetProblems as error:
        return Outcome(None, problems=tuple(error.problems))
    except OutputError as error:
        return error
    return record


def _outcome(record: StagedCase, case: Case) -> Outcome:
    return Outcome(record.measured, notes=note_warnings(case, record.scan_notes, record.label_notes))


def _finish(record: StagedCase, plan: Plan, case: Case) -> StoredCase:
    """The case's entry in the index, with the value ranges of the plan."""
    blank = [values == (0, 0) for values in record.measured.ranges]
    ranges = tuple(
        rule.own_or_fixed(own, blank=empty)
        for rule, own, empty in zip(plan.normalization, record.stored.ranges, blank, strict=True)
    )
    return record.stored.model_copy(update={"ranges": ranges, "group": case.group})


def _check_space(plan: Plan, space: ModelSpace, dataset: Dataset) -> None:
    """Checks that the measured cases lead to the model space in which they were stored."""
    changed = [name for name in ModelSpace.model_fields if getattr(plan, name) != getattr(space, name)]
    if changed:
        raise DataError(
            "files changed while they were prepared",
            expected=", ".join(f"{name} {getattr(space, name)}" for name in changed),
            got=", ".join(f"{name} {getattr(plan, name)}" for name in changed),
            hint="run the same command again",
            file=dataset.root,
        )
