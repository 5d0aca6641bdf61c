"""Reads every case of a dataset once: whether it can be used, its measurements, and what is unusual about it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial

from inflate3d.datasets.case import Case, Dataset
from inflate3d.errors import DataError, DatasetProblems, Inflate3dError
from inflate3d.preparation.dataset_warnings import case_warnings, class_warnings
from inflate3d.preparation.file_signatures import sign_case
from inflate3d.preparation.fingerprint import CaseFingerprint, Fingerprint, measure_case
from inflate3d.preparation.parallel import in_parallel
from inflate3d.preparation.units import in_units
from inflate3d.preparation.verify import check_case, check_classes
from inflate3d.progress import Progress, silent
from inflate3d.volume import Volume


@dataclass(frozen=True)
class Examination:
    """A dataset that can be used.

    Attributes:
        warnings: What is unusual about it, in the form of errors.
    """

    fingerprint: Fingerprint
    warnings: tuple[DataError, ...]


@dataclass(frozen=True)
class Outcome:
    """The result for one case; it is not measured if there are problems."""

    measured: CaseFingerprint | None
    problems: tuple[Inflate3dError, ...] = ()
    notes: tuple[DataError, ...] = ()


@dataclass(frozen=True)
class ReadCase:
    """A case that can be used, as it lies in its files.

    Attributes:
        volume: The scan, ``(C, I, J, K)``.
        labels: Its label map on the same grid, ``(1, I, J, K)``.
    """

    volume: Volume
    labels: Volume
    measured: CaseFingerprint


def examine(
    dataset: Dataset,
    *,
    allow_missing_modality: bool = False,
    workers: int | None = None,
    progress: Progress = silent,
) -> Examination:
    """Checks and measures every case, reading each once.

    Args:
        allow_missing_modality: Whether to replace missing modalities by zeros.
        workers: Number of processes; by default one per core.
    """
    look = partial(_examine_case, replace(dataset, cases=()), allow_missing_modality)
    looked = in_parallel(look, dataset.cases, workers)
    outcomes = list(progress(looked, len(dataset.cases), "checking cases"))
    return conclude(dataset, outcomes)


def conclude(dataset: Dataset, outcomes: Sequence[Outcome], *, may_lack: bool = False) -> Examination:
    """Combines the results of all cases.

    Args:
        outcomes: Outcomes of its cases, in order.
        may_lack: Whether classes that no case has are allowed.
    """
    fingerprint = Fingerprint(cases=tuple(outcome.measured for outcome in outcomes if outcome.measured))
    problems = [problem for outcome in outcomes for problem in outcome.problems]
    warnings = [note for outcome in outcomes for note in outcome.notes]
    warnings.extend(case_warnings(dataset, fingerprint))
    if not problems:
        voxels = [case.class_voxels for case in fingerprint.cases]
        problems.extend(check_classes(dataset, voxels, may_lack=may_lack))
        warnings.extend(class_warnings(dataset, fingerprint))
    if problems:
        raise DatasetProblems(problems, warnings=warnings)
    return Examination(fingerprint, tuple(warnings))


def check_cases(dataset: Dataset, *, workers: int | None = None, progress: Progress = silent) -> None:
    """Checks every case by itself, reading each once; zeros may replace missing modalities.

    Args:
        workers: Number of processes; by default one per core.
    """
    check = partial(_problems_of, replace(dataset, cases=()))
    found = progress(in_parallel(check, dataset.cases, workers), len(dataset.cases), "checking cases")
    problems = [problem for case_problems in found for problem in case_problems]
    if problems:
        raise DatasetProblems(problems)


def _problems_of(dataset: Dataset, case: Case) -> tuple[Inflate3dError, ...]:
    try:
        check_case(case, dataset, allow_missing_modality=True)
    except DatasetProblems as error:
        return tuple(error.problems)
    return ()


def read_case(dataset: Dataset, case: Case, *, allow_missing_modality: bool, units: Sequence[str] = ()) -> ReadCase:
    """Reads, checks and measures one case.

    Args:
        dataset: Its dataset.
        allow_missing_modality: Whether to replace missing modalities by zeros.
        units: The unit of each modality to convert to; empty: the files'.
    """
    files = sign_case(case, dataset.root)  # before it is read: a change in between is then seen
    volume, labels = check_case(case, dataset, allow_missing_modality=allow_missing_modality)
    volume = in_units(volume, units)
    measured = measure_case(
        case.id,
        volume,
        labels.array[0],
        merged=dataset.merged,
        ignore=dataset.ignore,
        missing=[index for index, image in enumerate(case.images) if image is None],
        files=files,
    )
    return ReadCase(volume, labels, measured)


def note_warnings(case: Case, of_scan: Sequence[str], of_labels: Sequence[str]) -> tuple[DataError, ...]:
    """Warnings about what the readers found unusual in a case's files."""
    found = [(note, case.scan) for note in of_scan] + [(note, case.label) for note in of_labels]
    return tuple(
        DataError(
            "unusual header (the file is still usable)",
            got=note,
            hint="if this is not intended, correct the file's header",
            case=case.id,
            file=file,
        )
        for note, file in found
    )


def _examine_case(dataset: Dataset, allow_missing_modality: bool, case: Case) -> Outcome:
    try:
        read = read_case(dataset, case, allow_missing_modality=allow_missing_modality)
    except DatasetProblems as error:
        return Outcome(None, problems=tuple(error.problems))
    return Outcome(read.measured, notes=note_warnings(case, read.volume.notes, read.labels.notes))
