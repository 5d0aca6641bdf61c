"""Own folders: ``dataset.yaml`` names modalities and classes, ``cases.csv`` lists the cases."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml
from pydantic import ConfigDict, Field, field_validator

from inflate3d.atomic import write_text
from inflate3d.datasets.case import Case, Dataset, listed_path
from inflate3d.datasets.case_table import TABLE, Row, read_table, write_table
from inflate3d.datasets.dataset_json import LARGEST_VALUE
from inflate3d.datasets.regions import Regions
from inflate3d.datasets.splits import OWN, Split, check_split
from inflate3d.errors import ConfigError, DataError
from inflate3d.io.segments import SegmentCode, plain_name
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
    synonyms: dict[str, str] = Field(default_factory=dict)
    codes: dict[str, SegmentCode] = Field(default_factory=dict)
    regions: dict[str, list[int]] = Field(default_factory=dict)
    regions_class_order: list[int] = Field(default_factory=list)
    cases: str = TABLE

    @field_validator("classes", mode="before")
    @classmethod
    def _named(cls, classes: Any) -> Any:
        """Values may be listed without names."""
        if isinstance(classes, list) and all(type(value) is int for value in classes):
            if len(set(classes)) < len(classes):
                raise ValueError("each class value once")
            return {value: class_name(value) for value in classes}
        return classes

    @field_validator("regions", mode="before")
    @classmethod
    def _listed(cls, regions: Any) -> Any:
        """A single value needs no list."""
        if not isinstance(regions, dict):
            return regions
        return {name: [held] if type(held) is int else held for name, held in regions.items()}

    @property
    def as_regions(self) -> Regions | None:
        values = {name: tuple(held) for name, held in self.regions.items()}
        return Regions(values=values, order=tuple(self.regions_class_order)) if values else None


def class_name(value: int) -> str:
    """Placeholder name of a class until the user names it."""
    return "background" if value == 0 else f"class {value}"


def is_folder(folder: Path) -> bool:
    """Whether the folder has our ``dataset.yaml``, or a case table only; reading it then says how to get the rest."""
    is_described_otherwise = (folder / "dataset.json").exists()
    return (folder / LISTING).is_file() or ((folder / TABLE).is_file() and not is_described_otherwise)


def read_folder(folder: str | Path) -> Dataset:
    """Reads a folder that is described by ``dataset.yaml`` and a table of cases; no scan is opened.

    Paths in the table are relative to the folder. Absolute paths and ``..`` are allowed, since scans may be elsewhere.

    Args:
        folder: The folder that holds ``dataset.yaml``.

    Returns:
        The cases; the table's column ``split`` becomes the split ``own``.
    """
    folder = Path(folder)
    listing = _read_listing(folder)
    table = folder / listing.cases
    rows = read_table(table)
    if len(rows[0].images) not in (1, len(listing.modalities)):
        raise DataError(
            "the number of image columns differs from the number of modalities",
            expected=f"{len(listing.modalities)} ({', '.join(listing.modalities)}), or one for files that hold all",
            got=f"{len(rows[0].images)} in {table.name}",
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
        structures=_structures(listing),
        codes=listing.codes,
        regions=listing.as_regions,
    )


def write_folder_listing(dataset: Dataset) -> None:
    """Writes ``cases.csv`` and ``dataset.yaml`` into a dataset's folder; files elsewhere get absolute paths.

    The split ``own`` becomes a column of the table if it assigns one part to each case.

    Raises:
        DataError: Cases have their modalities in different numbers of files, which one table can't list.
    """
    check_as_many_files(dataset.cases)
    listing = listing_of(dataset)
    parts = _parts(dataset)

    def entry(path: Path | None) -> str | None:
        if path is None:
            return None
        return (path.relative_to(dataset.root) if path.is_relative_to(dataset.root) else path.absolute()).as_posix()

    rows = [
        Row(case.id, tuple(map(entry, case.images)), entry(case.label) or "", parts.get(case.id), case.group)
        for case in dataset.cases
    ]
    write_table(dataset.root / TABLE, rows)
    lines = {**listing.model_dump(exclude_defaults=True), "cases": TABLE}
    write_text(dataset.root / LISTING, yaml.safe_dump(lines, sort_keys=False, allow_unicode=True))


def check_as_many_files(cases: Sequence[Case]) -> None:
    """Checks that all cases have their modalities in as many files as the first one."""
    files = len(cases[0].images)
    if other := next((case for case in cases if len(case.images) != files), None):
        raise DataError(
            "the case stores its modalities in a different number of files than other cases",
            expected=f"{files} file{'s' if files > 1 else ''}, as {cases[0].id} has",
            got=len(other.images),
            hint="write the modalities of all scans into one file each, or each into its own file; "
            "for labeled cases, use `inflate3d convert --to folder`",
            case=other.id,
            file=other.scan,
        )


def listing_of(dataset: Dataset) -> _Listing:
    """The contents of ``dataset.yaml`` for a dataset."""
    regions = dataset.regions.values if dataset.regions else {}
    named = {value: name for value, name in dataset.classes.items() if value} | {
        held: name for name, held in regions.items()
    }
    own = {plain_name(name) for name in (*dataset.classes.values(), *regions)}
    listing = _Listing(
        name=dataset.name,
        modalities=list(dataset.modalities),
        classes=dict(dataset.classes),
        merge=dict(dataset.merged),
        ignore=dataset.ignore,
        synonyms={
            name: named[value] for name, value in dataset.structures.items() if name not in own and value in named
        },
        codes=dict(dataset.codes),
        regions={name: list(held) for name, held in regions.items()},
        regions_class_order=list(dataset.regions.order) if dataset.regions else [],
    )
    _check_names(listing, dataset.root)
    _check_regions(listing, dataset.root)
    return listing


def _read_listing(folder: Path) -> _Listing:
    path = folder / LISTING
    if not path.exists() and (folder / TABLE).is_file():
        raise DataError(
            f"{LISTING} not found beside {TABLE}; it names the modalities and classes",
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
    _check_names(listing, path)
    _check_regions(listing, path)
    return listing


def _check_names(listing: _Listing, file: Path) -> None:
    modalities = [name.strip().lower() for name in listing.modalities]
    if "" in modalities or len(set(modalities)) < len(modalities):
        raise DataError(
            "a modality's name is empty or repeated",
            expected="a name of its own for each, such as CT arterial and CT venous",
            got=", ".join(listing.modalities),
            hint="correct the dataset's list of modalities",
            file=file,
        )
    classes = listing.classes
    names = [name.strip().lower() for name in classes.values()]
    wrong = ""
    if 0 not in classes or len(classes) < 2 or min(classes) < 0 or max(classes) >= LARGEST_VALUE:
        wrong = "classes: they must hold 0, the background, and at least one value from 1 on"
    elif "" in names or len(set(names)) < len(names):
        wrong = "classes: a name is empty or repeated"
    elif strange := sorted({*listing.merge} & {*classes}):
        wrong = f"merge: {strange[0]} counts as another value, so it cannot be a class"
    elif strange := sorted({*listing.merge.values()} - {*classes}):
        wrong = f"merge: {strange[0]}, which others count as, is not a class"
    elif listing.ignore is not None and (listing.ignore in {*classes, *listing.merge} or listing.ignore < 0):
        wrong = f"ignore: {listing.ignore} is a class or negative"
    elif strange := sorted({*listing.codes} - {*classes.values(), *listing.regions}):
        wrong = f"codes: {strange[0]} is not a class"
    elif strange := sorted({*listing.synonyms.values()} - {*classes.values(), *listing.regions}):
        wrong = f"synonyms: {strange[0]} is not a class"
    elif listing.synonyms and len(_structures(listing)) < _count_names(listing):
        wrong = "synonyms: a name stands for two classes"
    if wrong:
        raise DataError(
            "invalid classes",
            expected=f"like {_EXAMPLE}",
            got=wrong,
            hint="correct the dataset's list of classes",
            file=file,
        )


def _count_names(listing: _Listing) -> int:
    """Number of different names of structures, the background left out."""
    given = [name for value, name in listing.classes.items() if value]
    return len({plain_name(name) for name in (*listing.synonyms, *given, *listing.regions)})


def _check_regions(listing: _Listing, file: Path) -> None:
    regions = listing.as_regions
    wrong = "regions_class_order without regions" if listing.regions_class_order and regions is None else ""
    if regions and (mistake := regions.mistake(listing.classes, listing.ignore)):
        wrong = mistake
    if wrong:
        raise DataError(
            "invalid regions",
            expected="like regions: {whole: [1, 2], core: [2]}, with values of classes",
            got=wrong,
            hint="correct the dataset's list of regions",
            file=file,
        )


def _structures(listing: _Listing) -> dict[str, int | tuple[int, ...]]:
    """The label value of each class, and those of each region, by its plain name and by those of its synonyms."""
    values: dict[str, int | tuple[int, ...]] = {name: value for value, name in listing.classes.items() if value}
    values |= {name: tuple(held) for name, held in listing.regions.items()}
    synonyms = {plain_name(other): values[name] for other, name in listing.synonyms.items() if name in values}
    return {**synonyms, **{plain_name(name): value for name, value in values.items()}}


def _own_split(rows: Sequence[Row], table: Path) -> dict[str, tuple[Split, ...]]:
    if rows[0].part is None:
        return {}

    def named(part: str) -> tuple[str, ...]:
        return tuple(sorted(row.case for row in rows if row.part == part))

    split = Split(named("train"), named("validation"), named("test"), source=f"the column split of {table.name}")
    check_split(split, [row.case for row in rows], file=table)
    return {OWN: (split,)}


def _parts(dataset: Dataset) -> dict[str, str]:
    """Each case's part in the split ``own``; None where the column ``split`` can't express it."""
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
