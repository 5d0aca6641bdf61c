"""The layout of a folder of one's own: ``dataset.yaml``, which names modalities and classes, and a table of cases."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from pydantic import ConfigDict, Field, field_validator

from inflate3d.atomic import write_text
from inflate3d.datasets.case import Case, Dataset, listed_path
from inflate3d.datasets.case_table import TABLE, Row, read_table, write_table
from inflate3d.datasets.conversion import check_suffix, read_case
from inflate3d.datasets.dataset_json import LARGEST_VALUE
from inflate3d.datasets.splits import OWN, Split, check_split
from inflate3d.errors import ConfigError, DataError
from inflate3d.io import write_labels, write_volume
from inflate3d.progress import Progress, silent
from inflate3d.settings import FrozenModel, parse_settings, read_yaml

LISTING = "dataset.yaml"
"""The file that describes the dataset."""

_EXAMPLE = "modalities: [CT], classes: {0: background, 1: liver}"


class _Listing(FrozenModel):
    model_config = ConfigDict(strict=True)

    name: str | None = None
    modalities: list[str] = Field(min_length=1)
    classes: dict[int, str]
    merge: dict[int, int] = Field(default_factory=dict)
    ignore: int | None = None
    cases: str = TABLE

    @field_validator("classes", mode="before")
    @classmethod
    def _named(cls, classes: Any) -> Any:
        """Values without names are a way to write classes down, too."""
        if isinstance(classes, list) and all(type(value) is int for value in classes):
            if len(set(classes)) < len(classes):
                raise ValueError("duplicate class value")
            return {value: class_name(value) for value in classes}
        return classes


def class_name(value: int) -> str:
    """What a class is called until a person names it."""
    return "background" if value == 0 else f"class {value}"


def is_folder(folder: Path) -> bool:
    """Whether the folder has our listing, or a table of cases alone, whose reader tells how to get the listing."""
    is_described_otherwise = (folder / "dataset.json").exists()
    return (folder / LISTING).is_file() or ((folder / TABLE).is_file() and not is_described_otherwise)


def read_folder(folder: str | Path) -> Dataset:
    """Reads a folder that is described by ``dataset.yaml`` and a table of cases; no scan is opened.

    Paths in the table are taken from the folder on; a user's scans may lie elsewhere too, so that absolute paths
    and ``..`` are followed.

    Args:
        folder: The folder that holds ``dataset.yaml``.

    Returns:
        The cases; the table's column ``split`` is the split ``own``.

    Raises:
        DataError: A file is missing or says something that can't be.
        DatasetProblems: All that is wrong in the table.
    """
    folder = Path(folder)
    listing = _read_listing(folder)
    table = folder / listing.cases
    rows = read_table(table)
    if len(rows[0].images) not in (1, len(listing.modalities)):
        raise DataError(
            "the table has another number of image columns than there are modalities",
            expected=f"{len(listing.modalities)} ({', '.join(listing.modalities)}), or one for files that hold all",
            got=f"{len(rows[0].images)} ({LISTING} and {table.name} don't agree)",
            file=table,
        )
    cases = [
        Case(
            id=row.case,
            images=tuple(None if image is None else listed_path(folder, image) for image in row.images),
            label=listed_path(folder, row.label),
            group=row.group,
        )
        for row in rows
    ]
    return Dataset(
        name=listing.name or folder.resolve().name,
        root=folder,
        modalities=tuple(listing.modalities),
        classes=dict(sorted(listing.classes.items())),
        cases=tuple(sorted(cases, key=lambda case: case.id)),
        merged=listing.merge,
        ignore=listing.ignore,
        splits=_own_split(rows, table),
    )


def write_folder(
    dataset: Dataset, folder: str | Path, *, suffix: str = ".nii.gz", progress: Progress = silent
) -> Dataset:
    """Writes a dataset as a folder of one's own: a file a modality, label values as they are.

    ``dataset.yaml`` is written last, so that what was interrupted is not taken for a dataset.

    Args:
        dataset: What to write. Of its splits the one named ``own`` is kept where it gives every case one part.
        folder: Where it goes; files of the same names are replaced.
        suffix: The files' format, such as ``".nii.gz"`` or ``".nrrd"``.
        progress: Shows how far it is.

    Returns:
        The dataset that was written, as `read_folder` reads it.

    Raises:
        ConfigError: Files of that suffix can't be written.
        DataError: Two classes have one name, or a case can't be used (see `read_case`).
        OutputError: A file can't be written.
    """
    check_suffix(suffix)
    listing = _Listing(
        name=dataset.name,
        modalities=list(dataset.modalities),
        classes=dict(dataset.classes),
        merge=dict(dataset.merged),
        ignore=dataset.ignore,
    )
    _check_classes(listing, dataset.root)
    folder = Path(folder)
    parts = _parts(dataset)
    rows = [
        dataclasses.replace(_write_case(case, dataset, folder, suffix), part=parts.get(case.id))
        for case in progress(dataset.cases, len(dataset.cases), "writing")
    ]
    write_table(folder / TABLE, rows)
    lines = {**listing.model_dump(exclude_defaults=True), "cases": TABLE}
    write_text(folder / LISTING, yaml.safe_dump(lines, sort_keys=False, allow_unicode=True))
    return read_folder(folder)


def _write_case(case: Case, dataset: Dataset, folder: Path, suffix: str) -> Row:
    scan, labels = read_case(case, dataset, {value: value for value in dataset.label_values})
    images: list[str | None] = []
    for channel, array in enumerate(scan.array):
        name = case.id if len(scan.array) == 1 else f"{case.id}_{channel:04d}"
        is_missing = len(case.images) > 1 and case.images[channel] is None
        images.append(None if is_missing else f"images/{name}{suffix}")
        if not is_missing:
            write_volume(folder / f"images/{name}{suffix}", dataclasses.replace(scan, array=array[np.newaxis]))
    label = f"labels/{case.id}{suffix}"
    write_labels(folder / label, labels, like=folder / next(image for image in images if image))
    return Row(case.id, tuple(images), label, group=case.group)


def _read_listing(folder: Path) -> _Listing:
    path = folder / LISTING
    if not path.exists() and (folder / TABLE).is_file():
        raise DataError(
            f"{TABLE} is there, but not the {LISTING} that names modalities and classes",
            hint=f"run `inflate3d init {folder}`, which proposes one",
            file=path,
        )
    try:
        listing = parse_settings(_Listing, read_yaml(path), file=path)
    except ConfigError as error:
        raise DataError(
            f"{LISTING} does not describe a dataset: {error.what}",
            expected=f"{error.expected or 'a file'}, as in {_EXAMPLE}",
            got=error.got,
            file=path,
        ) from error
    _check_classes(listing, path)
    return listing


def _check_classes(listing: _Listing, file: Path) -> None:
    classes = listing.classes
    names = [name.strip().lower() for name in classes.values()]
    wrong = ""
    if 0 not in classes or len(classes) < 2 or min(classes) < 0 or max(classes) >= LARGEST_VALUE:
        wrong = "classes: they have to hold 0, the background, and at least one value from 1 on"
    elif "" in names or len(set(names)) < len(names):
        wrong = "classes: a name is empty, or stands there twice"
    elif strange := sorted({*listing.merge} & {*classes}):
        wrong = f"merge: {strange[0]} counts as another value and so can't be a class itself"
    elif strange := sorted({*listing.merge.values()} - {*classes}):
        wrong = f"merge: {strange[0]}, which others are to count as, is no class"
    elif listing.ignore is not None and (listing.ignore in {*classes, *listing.merge} or listing.ignore < 0):
        wrong = f"ignore: {listing.ignore} is a class or negative"
    if wrong:
        raise DataError(
            "the classes can't be used",
            expected=f"like {_EXAMPLE}",
            got=wrong,
            hint="correct the dataset's list of classes",
            file=file,
        )


def _own_split(rows: Sequence[Row], table: Path) -> dict[str, tuple[Split, ...]]:
    if rows[0].part is None:
        return {}

    def named(part: str) -> tuple[str, ...]:
        return tuple(sorted(row.case for row in rows if row.part == part))

    split = Split(named("train"), named("validation"), named("test"), source=f"the column split of {table.name}")
    check_split(split, [row.case for row in rows], file=table)
    return {OWN: (split,)}


def _parts(dataset: Dataset) -> dict[str, str]:
    """Each case's part in the split ``own``; none where the column ``split`` can't say it."""
    folds = dataset.splits.get(OWN, ())
    if len(folds) != 1:
        return {}
    split = folds[0]
    parts = {
        **dict.fromkeys(split.train, "train"),
        **dict.fromkeys(split.validation, "validation"),
        **dict.fromkeys(split.test, "test"),
    }
    return parts if parts.keys() == {case.id for case in dataset.cases} else {}
