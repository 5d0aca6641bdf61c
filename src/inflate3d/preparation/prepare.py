"""From a data set's files to its store: read every case once, plan, and lay out what the plan wants otherwise."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path

from inflate3d.datasets.case import Case, Dataset
from inflate3d.errors import DataError, OutputError
from inflate3d.preparation.drafting import DraftedCase, draft_case, redraft_case
from inflate3d.preparation.examine import Examination, Outcome, conclude
from inflate3d.preparation.memory import available_memory
from inflate3d.preparation.parallel import in_parallel
from inflate3d.preparation.plan import Plan
from inflate3d.preparation.plan_options import PlanOptions
from inflate3d.preparation.planning import check_class_count, doubt_plan, make_plan
from inflate3d.preparation.store import Store, StoredCase, remove_other_cases, write_index
from inflate3d.preparation.unfinished import Unfinished, claimed, note_done, terms_of
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

    Each case is read once. A preparation that was killed goes on where it was when it is called again: cases that
    are done are kept, unless their files, the classes or modalities, or the options that concern them have changed.

    Args:
        dataset: What to prepare.
        folder: Where the store goes; an older store there is replaced when the new one is whole.
        options: Choices that the plan must take over.
        workers: Processes; as many as cores if not given. Each holds one case, in about three times the memory that
            its voxels take.
        progress: Shows how far it is.
        warn: Told of everything odd that is no reason to stop.

    Raises:
        DatasetProblems: All that is wrong with any case; nothing is left of the new store then.
        ConfigError: An option can't be used.
        OutputError: The store can't be written, or another process is preparing it.
    """
    dataset = options.choose_classes(dataset)
    check_class_count(dataset)
    with claimed(folder) as unfinished:
        drafted, examined = _draft_cases(dataset, options, unfinished, workers, progress)
        plan = make_plan(dataset, examined.fingerprint, available_memory(), options)
        for warning in (*examined.warnings, *doubt_plan(plan, examined.fingerprint)):
            warn(warning)
        redrafted = _redraft_cases(dataset, plan, drafted, unfinished, workers, progress)
        fitting = {case.id: drafted[case.id].finish(plan, case.group) for case in dataset.cases}
        stored = [redrafted.get(case.id) or fitting[case.id] for case in dataset.cases]
        unfinished.publish([case.id for case in dataset.cases], redrafted)
        write_index(folder, dataset, options, stored, plan, examined.fingerprint)
        remove_other_cases(folder, [case.case for case in stored])
        unfinished.remove()
    return Store(folder)


def _draft_cases(
    dataset: Dataset, options: PlanOptions, unfinished: Unfinished, workers: int | None, progress: Progress
) -> tuple[dict[str, DraftedCase], Examination]:
    """Reads, checks, measures and stores every case that is not done already."""
    drafted = unfinished.resume(dataset, terms_of(dataset, options))
    todo = [case for case in dataset.cases if case.id not in drafted]
    work = partial(_draft_noted, replace(dataset, cases=()), options, unfinished.drafts, unfinished.journal)
    outcomes = {case.id: drafted[case.id].outcome(case) for case in dataset.cases if case.id in drafted}
    done = progress(in_parallel(work, todo, workers), len(todo), "reading and storing cases")
    for case, result in zip(todo, done, strict=True):
        if isinstance(result, OutputError):
            raise result
        if isinstance(result, DraftedCase):
            drafted[case.id] = result
            result = result.outcome(case)
        outcomes[case.id] = result
    return drafted, conclude(dataset, [outcomes[case.id] for case in dataset.cases])


def _draft_noted(
    dataset: Dataset, options: PlanOptions, folder: Path, journal: Path, case: Case
) -> DraftedCase | Outcome | OutputError:
    """Drafts a case and notes in the journal that it is done."""
    drafted = draft_case(dataset, options, folder, case)
    try:
        if isinstance(drafted, DraftedCase):
            note_done(journal, drafted)
    except OutputError as error:
        return error
    return drafted


def _redraft_cases(
    dataset: Dataset,
    plan: Plan,
    drafted: Mapping[str, DraftedCase],
    unfinished: Unfinished,
    workers: int | None,
    progress: Progress,
) -> dict[str, StoredCase]:
    """Brings the cases that don't lie as the plan wants it into its frame."""
    todo = [(drafted[case.id], case) for case in dataset.cases if not drafted[case.id].fits(plan)]
    if not todo:
        return {}
    work = partial(_redraft, unfinished.drafts, plan, unfinished.redrafts)
    redrafted = {}
    for result in progress(in_parallel(work, todo, workers), len(todo), "resampling cases"):
        if isinstance(result, OutputError):
            raise result
        redrafted[result.case] = result
    return redrafted


def _redraft(drafts: Path, plan: Plan, folder: Path, pair: tuple[DraftedCase, Case]) -> StoredCase | OutputError:
    return redraft_case(drafts, plan, folder, *pair)
