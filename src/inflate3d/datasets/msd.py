"""The layout of the Medical Segmentation Decathlon: ``dataset.json`` beside ``imagesTr`` and ``labelsTr``."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path, PurePosixPath

from pydantic import BaseModel, ConfigDict, ValidationError

from inflate3d.atomic import write_text
from inflate3d.datasets.case import Case, Dataset
from inflate3d.errors import DataError, DatasetProblems
from inflate3d.io import SUFFIXES

LISTING = "dataset.json"
"""The file that describes the data set."""

_EXAMPLE = '{"modality": {"0": "CT"}, "labels": {"0": "background", "1": "spleen"}, "training": [...]}'


class _Pair(BaseModel):
    model_config = ConfigDict(strict=True)

    image: str
    label: str


class _Listing(BaseModel):
    """What is read of ``dataset.json``; the Decathlon's other keys are for people."""

    name: str | None = None
    modality: dict[int, str]
    labels: dict[int, str]
    training: list[_Pair]


def read_msd(folder: str | Path) -> Dataset:
    """Reads the listing of a data set in the Decathlon's layout; no scan is opened.

    Args:
        folder: The folder that holds ``dataset.json``.

    Returns:
        The labelled cases (``training``), each named by its scan's file without the suffix.

    Raises:
        DataError: ``dataset.json`` is missing, is not JSON, or says too little.
        DatasetProblems: All entries that lead to no file, out of the folder, or to one name twice.
    """
    folder = Path(folder)
    listing = _read_listing(folder / LISTING)
    pairs = [pair for pair in listing.training if not _is_macos_shadow(pair)]
    if not pairs:
        raise DataError(
            "no labelled case is listed",
            expected='entries {"image": "./imagesTr/...", "label": "./labelsTr/..."} in "training"',
            file=folder / LISTING,
        )
    cases = [
        Case(_case_id(pair.image), (folder / PurePosixPath(pair.image),), folder / PurePosixPath(pair.label))
        for pair in pairs
    ]
    problems = [
        problem
        for case, pair in zip(cases, pairs, strict=True)
        for entry in (pair.image, pair.label)
        if (problem := _entry_problem(folder, entry, case.id))
    ]
    problems += [
        DataError("two entries have one name", got=f"{count} scans", case=case, file=folder / LISTING)
        for case, count in Counter(case.id for case in cases).items()
        if count > 1
    ]
    if problems:
        raise DatasetProblems(problems)
    return Dataset(
        name=listing.name or folder.resolve().name,
        root=folder,
        modalities=tuple(name for _, name in sorted(listing.modality.items())),
        classes=dict(sorted(listing.labels.items())),
        cases=tuple(sorted(cases, key=lambda case: case.id)),
    )


def write_msd_listing(dataset: Dataset) -> None:
    """Writes ``dataset.json`` for a data set whose files lie in its folder, one scan file a case.

    Raises:
        OutputError: The file can't be written.
    """

    def entry(path: Path | None) -> str:
        assert path is not None, "the listing is of labelled cases"
        return f"./{path.relative_to(dataset.root).as_posix()}"

    listing = {
        "name": dataset.name,
        "tensorImageSize": "3D" if len(dataset.modalities) == 1 else "4D",
        "modality": {str(index): name for index, name in enumerate(dataset.modalities)},
        "labels": {str(value): name for value, name in dataset.classes.items()},
        "numTraining": len(dataset.cases),
        "numTest": 0,
        "training": [{"image": entry(case.images[0]), "label": entry(case.label)} for case in dataset.cases],
        "test": [],
    }
    write_text(dataset.root / LISTING, json.dumps(listing, indent=1) + "\n")


def _read_listing(path: Path) -> _Listing:
    try:
        listing = _Listing.model_validate_json(path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise DataError(
            f"{LISTING} can't be read",
            expected=f"a file like {_EXAMPLE}",
            got=error.strerror,
            file=path,
        ) from error
    except (ValidationError, UnicodeDecodeError) as error:
        raise DataError(
            f"{LISTING} does not describe a data set of the Decathlon",
            expected=f"JSON like {_EXAMPLE}",
            got=_first_mistakes(error) if isinstance(error, ValidationError) else error,
            remedy="correct the file",
            file=path,
        ) from error
    if not listing.modality:
        raise DataError("no modality is named", expected='"modality" like {"0": "CT"}', file=path)
    if 0 not in listing.labels or len(listing.labels) < 2 or min(listing.labels) < 0:
        raise DataError(
            "the classes can't be used",
            expected="a name for 0, the background, and for at least one class from 1 on",
            got=listing.labels,
            remedy='correct "labels"',
            file=path,
        )
    return listing


def _first_mistakes(error: ValidationError, most: int = 3) -> str:
    mistakes = [f"{'.'.join(map(str, mistake['loc'])) or 'the file'}: {mistake['msg']}" for mistake in error.errors()]
    return "; ".join(mistakes[:most]) + (f"; and {len(mistakes) - most} more" if len(mistakes) > most else "")


def _is_macos_shadow(pair: _Pair) -> bool:
    """Whether the entry is one of the ``._`` files that macOS leaves beside the real ones in archives."""
    return PurePosixPath(pair.image).name.startswith("._")


def _case_id(entry: str) -> str:
    name = PurePosixPath(entry).name
    for suffix in sorted(SUFFIXES, key=len, reverse=True):
        if name.lower().endswith(suffix):
            return name[: -len(suffix)]
    return name


def _entry_problem(folder: Path, entry: str, case: str) -> DataError | None:
    path = PurePosixPath(entry)
    if path.is_absolute() or ".." in path.parts:
        return DataError(
            "a listed path leads out of the data set",
            expected="a path below the folder, like ./imagesTr/case.nii.gz",
            got=entry,
            remedy="put the file into the folder and correct the entry",
            case=case,
            file=folder / LISTING,
        )
    if not (folder / path).is_file():
        return DataError(
            "a listed file is missing",
            remedy=f"fetch it again, or take its entry out of {LISTING}",
            case=case,
            file=folder / path,
        )
    return None
