"""ACDC, the cardiac MR scans of the "Automated Cardiac Diagnosis Challenge"."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

from inflate3d.datasets.case import Case, Dataset
from inflate3d.datasets.file_names import check_one_format
from inflate3d.datasets.splits import Split
from inflate3d.errors import DataError

CLASSES = {0: "background", 1: "right ventricle", 2: "myocardium", 3: "left ventricle"}
"""Class name by label value; the ventricles are their cavities."""

_PATIENTS = range(1, 101)
"""The training patients; 101 to 150 are the challenge's test set."""

_PAPER_TEST = (2, 3, 8, 9, 12, 14, 17, 24, 42, 48, 49, 53, 55, 64, 67, 79, 81, 88, 92, 95)
"""The patients that the paper tests on, and also chooses its checkpoint on."""

_HOLDOUT_VALIDATION = (13, 20, 21, 25, 43, 58, 62, 63, 85, 97)
"""Who picks the checkpoint instead: two of each diagnosis (each is twenty patients in a row), drawn once.

Drawn by ``random.Random(1234)``: a ``sample`` of 2 for each diagnosis in turn, from its patients, ascending, who are
not in ``_PAPER_TEST``.
"""

_PATIENT = re.compile(r"patient(\d{3})")
_INFO = "Info.cfg"
_FRAME = re.compile(r"(patient\d{3}_frame\d{2})(?:_gt)?\.nii(?:\.gz)?")


def is_acdc(folder: Path) -> bool:
    """Whether the folder, or its ``training`` or ``database/training``, holds the patients of ACDC."""
    return _training_of(folder) is not None


def read_acdc(folder: Path) -> Dataset:
    """Reads ACDC's training patients; no scan is opened.

    Args:
        folder: The folder ``training`` with ``patientNNN/patientNNN_frameMM.nii.gz``, ``..._gt.nii.gz`` and
            ``Info.cfg``, or one above it: ``database``, or its parent.

    Returns:
        The two labeled frames of each patient, named ``patientNNN_frameMM``, grouped by patient. The whole cine scans
        (``_4d``) and the challenge's test patients, 101 to 150, are left out.

        If both frames of all 100 patients exist, two splits: ``paper`` (80 for training; 20 to choose the checkpoint
        and score it) and ``paper-holdout`` (the same 20 only for testing, 10 others for validation, 70 for training).
    """
    training = _training_of(folder)
    assert training is not None, "the layout is recognized by is_acdc"
    cases = tuple(
        case
        for patient in sorted(training.iterdir())
        if (match := _PATIENT.fullmatch(patient.name)) and int(match[1]) in _PATIENTS and patient.is_dir()
        for case in _cases_of(patient)
    )
    named = {path: case.id for case in cases for path in (*case.images, case.label) if path is not None}
    check_one_format(list(named), case_of=named)
    return Dataset("ACDC", folder, ("MRI",), CLASSES, cases, splits=_splits(cases))


def _training_of(folder: Path) -> Path | None:
    for candidate in (folder / "database" / "training", folder / "training", folder):
        if any(_is_patient(path) for path in _entries(candidate)):
            return candidate
    return None


def _is_patient(folder: Path) -> bool:
    """Whether a folder is an ACDC patient and not just named like one: it holds ``Info.cfg`` or a frame."""
    if not (_PATIENT.fullmatch(folder.name) and folder.is_dir()):
        return False
    return any(path.name == _INFO or _FRAME.fullmatch(path.name) for path in folder.iterdir())


def _entries(folder: Path) -> Iterable[Path]:
    return folder.iterdir() if folder.is_dir() else ()


def _cases_of(patient: Path) -> list[Case]:
    """The frames in a patient's folder, and those that ``Info.cfg`` announces."""
    files = {path.name: path for path in patient.iterdir()}
    frames = {match[1] for name in files if (match := _FRAME.fullmatch(name))}
    frames |= {f"{patient.name}_frame{frame:02d}" for frame in _labeled_frames(patient / _INFO)}

    def file(stem: str) -> Path:
        return files.get(f"{stem}.nii", patient / f"{stem}.nii.gz")

    return [Case(frame, (file(frame),), file(f"{frame}_gt"), group=patient.name) for frame in sorted(frames)]


def _labeled_frames(info: Path) -> list[int]:
    """End-diastole and end-systole, from lines like ``ED: 1``; none if a copy of the data lacks the file."""
    if not info.exists():
        return []
    try:
        lines = [line.partition(":") for line in info.read_text(encoding="utf-8").splitlines()]
        values = {key.strip(): value.strip() for key, _, value in lines}
        return [int(values["ED"]), int(values["ES"])]
    except (OSError, UnicodeDecodeError, KeyError, ValueError) as error:
        raise DataError(
            "Info.cfg does not name the labeled frames",
            expected="lines like ED: 1 and ES: 12",
            got=f"{type(error).__name__}: {error}",
            hint="restore the file, or remove it: all frames are then used",
            file=info,
        ) from error


def _splits(cases: tuple[Case, ...]) -> dict[str, tuple[Split, ...]]:
    patients = [f"patient{number:03d}" for number in _PATIENTS]
    if sorted(case.group or "" for case in cases) != sorted(2 * patients):
        return {}
    test, others = _parted(cases, _PAPER_TEST)
    validation, train = _parted(others, _HOLDOUT_VALIDATION)
    paper = Split(
        train=_ids(others),
        validation=_ids(test),
        source="the paper's 80 training and 20 test patients; its checkpoint is picked on the test patients",
    )
    holdout = Split(
        train=_ids(train),
        validation=_ids(validation),
        test=_ids(test),
        source="the paper's 20 test patients, held out to the end; the checkpoint is picked on 10 of its 80 others",
    )
    return {"paper": (paper,), "paper-holdout": (holdout,)}


def _parted(cases: Iterable[Case], numbers: tuple[int, ...]) -> tuple[list[Case], list[Case]]:
    """The cases of patients with these numbers, and all others."""
    chosen = {f"patient{number:03d}" for number in numbers}
    cases = list(cases)
    return [case for case in cases if case.group in chosen], [case for case in cases if case.group not in chosen]


def _ids(cases: list[Case]) -> tuple[str, ...]:
    return tuple(case.id for case in cases)
