"""From a dataset's files to its store: read every case once, plan, and lay out what the plan wants otherwise."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path

from inflate3d.datasets.case import Case, Dataset
from inflate3d.engines.engine import Engine, LostError
from inflate3d.engines.shard import Shard
from inflate3d.errors import DataError, DatasetProblems, OutputError
from inflate3d.preparation.drafting import DraftedCase, draft_case, redraft_case
from inflate3d.preparation.examine import Outcome, conclude
from inflate3d.preparation.memory import available_memory
from inflate3d.preparation.parallel import in_parallel
from inflate3d.preparation.plan import Plan
from inflate3d.preparation.plan_options import PlanOptions
from inflate3d.preparation.planning import check_class_count, doubt_plan, make_plan
from inflate3d.preparation.store import Store, StoredCase, remove_other_cases, write_index
from inflate3d.preparation.unfinished import Terms, Unfinished, claimed, note_done, terms_of
from inflate3d.progress import Progress, silent


def prepare(
    dataset: Dataset,
    folder: Path,
    *,
    options: PlanOptions = PlanOptions(),  # noqa: B008 - frozen
    workers: int | None = None,
    engine: Engine | None = None,
    progress: Progress = silent,
    warn: Callable[[DataError], object] = lambda warning: None,
) -> Store:
    """Checks every case, measures it, plans, and writes the store.

    Each case is read once. A preparation that was killed goes on where it was when it is called again: cases that
    are done, by itself or by shards, are kept, unless their files, the classes or modalities, or the options that
    concern them have changed.

    Args:
        dataset: What to prepare.
        folder: Where the store goes; an older store there is replaced when the new one is whole.
        options: Choices that the plan must take over.
        workers: Processes; as many as cores if not given. Each holds one case, in about three times the memory that
            its voxels take.
        engine: Does the work in place of processes of this machine; dataset and folder need absolute paths then.
        progress: Shows how far it is.
        warn: Told of everything odd that is no reason to stop.

    Raises:
        DatasetProblems: All that is wrong with any case; nothing is left of the new store then, unless shards, an
            engine or an interrupted preparation have worked on it, which is gone on with next time.
        ConfigError: An option can't be used.
        OutputError: The store can't be written, or another process is preparing it.
    """
    spread = engine or _processes(workers)
    dataset = options.choose_classes(dataset)
    check_class_count(dataset)
    with claimed(folder) as unfinished:
        unfinished.keep |= engine is not None
        drafted, outcomes = _draft_cases(dataset, options, unfinished, spread, progress)
        examined = conclude(dataset, outcomes)
        plan = make_plan(dataset, examined.fingerprint, available_memory(), options)
        for warning in (*examined.warnings, *doubt_plan(plan, examined.fingerprint)):
            warn(warning)
        redrafted = _redraft_cases(dataset, plan, drafted, unfinished, spread, progress)
        fitting = {case.id: drafted[case.id].finish(plan, case.group) for case in dataset.cases}
        stored = [redrafted.get(case.id) or fitting[case.id] for case in dataset.cases]
        unfinished.publish([case.id for case in dataset.cases], redrafted)
        write_index(folder, dataset, options, stored, plan, examined.fingerprint)
        remove_other_cases(folder, [case.case for case in stored])
        unfinished.remove()
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
    """Checks, measures and stores a share of the cases; `prepare` then plans for all, and finishes the store.

    Any number of shards may be worked on at the same time, by machines that share the folder. What one has left out
    `prepare` does itself.

    Args:
        dataset: What to prepare, whole.
        folder: Where the store goes.
        shard: The share.
        options: As `prepare` is given them.
        workers: Processes; as many as cores if not given.
        progress: Shows how far it is.
        warn: Told of everything odd about the share's cases.

    Returns:
        Ids of the share's cases; all of them are done.

    Raises:
        DatasetProblems: All that is wrong with any case of the share; those of all others are done.
        ConfigError: An option can't be used.
        OutputError: A case can't be written, or another process is preparing the store or this share.
    """
    dataset = options.choose_classes(dataset)
    check_class_count(dataset)
    dataset = replace(dataset, cases=tuple(shard.share(dataset.cases)))
    with claimed(folder, shard) as unfinished:
        unfinished.keep = True  # others may work there
        _, outcomes = _draft_cases(dataset, options, unfinished, _processes(workers), progress)
    notes = [note for outcome in outcomes for note in outcome.notes]
    if problems := [problem for outcome in outcomes for problem in outcome.problems]:
        raise DatasetProblems(problems, warnings=notes)
    for note in notes:
        warn(note)
    return [case.id for case in dataset.cases]


def _processes(workers: int | None) -> Engine:
    return partial(in_parallel, workers=workers)


def _draft_cases(
    dataset: Dataset, options: PlanOptions, unfinished: Unfinished, engine: Engine, progress: Progress
) -> tuple[dict[str, DraftedCase], list[Outcome]]:
    """Reads, checks, measures and stores every case that is not done already."""
    terms = terms_of(dataset, options)
    drafted = unfinished.resume(dataset, terms)
    todo = [case for case in dataset.cases if case.id not in drafted]
    work = partial(_draft_noted, replace(dataset, cases=()), options, unfinished.drafts, terms)
    outcomes = {case.id: drafted[case.id].outcome(case) for case in dataset.cases if case.id in drafted}
    done = progress(engine(work, todo), len(todo), "reading and storing cases")
    for case, result in zip(todo, done, strict=True):
        if isinstance(result, OutputError):
            raise result
        if isinstance(result, LostError):
            result = Outcome(None, problems=(result.with_context(case=case.id, file=case.scan),))
        if isinstance(result, DraftedCase):
            drafted[case.id] = result
            result = result.outcome(case)
        outcomes[case.id] = result
    return drafted, [outcomes[case.id] for case in dataset.cases]


def _draft_noted(
    dataset: Dataset, options: PlanOptions, drafts: Path, terms: Terms, case: Case
) -> DraftedCase | Outcome | OutputError:
    """Drafts a case and records that it is done."""
    drafted = draft_case(dataset, options, drafts, case)
    try:
        if isinstance(drafted, DraftedCase):
            note_done(drafts, terms, drafted)
    except OutputError as error:
        return error
    return drafted


def _redraft_cases(
    dataset: Dataset,
    plan: Plan,
    drafted: Mapping[str, DraftedCase],
    unfinished: Unfinished,
    engine: Engine,
    progress: Progress,
) -> dict[str, StoredCase]:
    """Brings the cases that don't lie as the plan wants it into its frame."""
    todo = [(drafted[case.id], case) for case in dataset.cases if not drafted[case.id].fits(plan)]
    if not todo:
        return {}
    work = partial(_redraft, unfinished.drafts, plan, unfinished.redrafts)
    redrafted = {}
    done = progress(engine(work, todo), len(todo), "resampling cases")
    for (_, case), result in zip(todo, done, strict=True):
        if isinstance(result, LostError):
            raise result.with_context(case=case.id, file=unfinished.drafts)
        if isinstance(result, OutputError):
            raise result
        redrafted[result.case] = result
    return redrafted


def _redraft(drafts: Path, plan: Plan, folder: Path, pair: tuple[DraftedCase, Case]) -> StoredCase | OutputError:
    return redraft_case(drafts, plan, folder, *pair)
