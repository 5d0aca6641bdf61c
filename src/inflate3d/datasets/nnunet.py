"""The raw data layout of nnU-Net v2: ``dataset.json``, one file per modality, one label map per case."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, Field, RootModel

from inflate3d.atomic import write_text
from inflate3d.datasets.case import Case, Dataset, listed_path
from inflate3d.datasets.dataset_json import (
    IGNORE,
    LISTING,
    Announced,
    Labels,
    NamesByNumber,
    Order,
    have_regions,
    keys_of,
    read_classes,
    read_json_as,
    read_regions,
)
from inflate3d.datasets.file_names import check_one_format
from inflate3d.datasets.msd import read_msd
from inflate3d.datasets.regions import Regions
from inflate3d.datasets.splits import OWN, Split, check_split, kfold_split
from inflate3d.errors import DataError, truncate
from inflate3d.io import SUFFIXES, scan_files, stem_of, suffix_of

SPLITS = "splits_final.json"
"""The file with the folds."""

_EXAMPLE = '{"channel_names": {"0": "CT"}, "labels": {"background": 0, "spleen": 1}, "file_ending": ".nii.gz"}'
_BACKGROUND = "background"


class _Files(BaseModel):
    images: list[str]
    label: str


class _Listing(BaseModel):
    """The part of ``dataset.json`` that is read."""

    name: str | None = None
    channel_names: NamesByNumber
    labels: Labels
    regions_class_order: Order = []
    file_ending: str
    dataset: dict[str, _Files] | None = None
    announced: Announced = Field(default=None, alias="numTraining")


class _Fold(BaseModel):
    train: list[str]
    val: list[str]


class _Folds(RootModel[list[_Fold]]):
    """The contents of `SPLITS`."""


def is_nnunet(folder: Path) -> bool:
    """Whether the folder has nnU-Net's ``dataset.json``.

    If the listing also has the Decathlon's keys, the layout is the one in which more cases have all their files.
    """
    keys = keys_of(folder / LISTING)
    if keys.isdisjoint({"channel_names", "file_ending"}):
        return False
    return "training" not in keys or _whole_cases(read_nnunet, folder) >= _whole_cases(read_msd, folder)


def _whole_cases(read: Callable[[Path], Dataset], folder: Path) -> int:
    """The number of cases with all their files, if a folder is read in one layout."""
    try:
        cases = read(folder).cases
    except DataError:
        return 0
    return sum(all(path is not None and path.exists() for path in (*case.images, case.label)) for case in cases)


def read_nnunet(folder: str | Path) -> Dataset:
    """Reads a dataset of nnU-Net's raw data; no scan is opened.

    Args:
        folder: The folder that holds ``dataset.json``, such as ``nnUNet_raw/Dataset009_Spleen``.

    Returns:
        The cases of ``imagesTr`` and ``labelsTr``, or those that the listing names under ``dataset``. Missing
        modalities are ``None``. The split ``own`` has the folds of ``splits_final.json``, which may lie in the folder
        or in ``nnUNet_preprocessed`` beside ``nnUNet_raw``.
    """
    folder = Path(folder)
    path = folder / LISTING
    listing = read_json_as(_Listing, path, what=f"{path.name} does not describe a dataset of nnU-Net", example=_EXAMPLE)
    _check_usable(listing, path)
    regions = None
    if have_regions(listing.labels):
        classes, ignore, regions = read_regions(listing.labels, listing.regions_class_order, file=path)
    else:
        classes, ignore = read_classes(listing.labels, file=path)
    cases = _listed_cases(folder, listing) if listing.dataset is not None else _found_cases(folder, listing)
    for case in cases:
        if len(case.images) > len(listing.channel_names):
            raise DataError(
                "a case has more images than the dataset has modalities",
                expected=f"{len(listing.channel_names)} ({', '.join(listing.channel_names.values())})",
                got=f"{len(case.images)}",
                hint='correct "channel_names"',
                case=case.id,
                file=path,
            )
    return Dataset(
        name=listing.name or folder.resolve().name,
        root=folder,
        modalities=tuple(name for _, name in sorted(listing.channel_names.items())),
        classes=classes,
        cases=cases,
        ignore=ignore,
        splits=_own_split(folder, cases),
        regions=regions,
        announced=listing.announced,
    )


def nnunet_values(dataset: Dataset) -> tuple[dict[int, int], dict[str, int]]:
    """The label values that nnU-Net requires: consecutive in the order of the classes, the ignored one last.

    Returns:
        The new value of each label value that files may contain, and of each name.
    """
    numbers = {value: number for number, value in enumerate(sorted(dataset.classes))}
    values = numbers | {value: numbers[target] for value, target in dataset.merged.items()}
    labels = _label_names(dataset, numbers)
    if dataset.ignore is not None:
        values[dataset.ignore] = labels[IGNORE] = len(numbers)
    return values, labels


def write_nnunet_listing(dataset: Dataset, suffix: str) -> None:
    """Writes ``splits_final.json`` and ``dataset.json`` for a dataset whose files lie in its folder.

    The folds are the dataset's own, or otherwise five by `kfold_split`, which keeps groups together; fewer if there are
    fewer groups, and none with a single group.

    Args:
        dataset: The dataset, with its label values before they were changed (see `nnunet_values`).

    Raises:
        DataError: Classes have names that nnU-Net cannot tell apart, or regions can't be written one after another.
    """
    folds = [{"train": fold.train, "val": fold.validation} for fold in _folds_of(dataset)]
    if folds:
        write_text(dataset.root / SPLITS, json.dumps(folds, indent=1) + "\n")
    listing = {
        "name": dataset.name,
        "channel_names": {str(channel): name for channel, name in enumerate(dataset.modalities)},
        **_labels(dataset),
        "numTraining": len(dataset.cases),
        "file_ending": suffix,
    }
    write_text(dataset.root / LISTING, json.dumps(listing, indent=1) + "\n")


def _labels(dataset: Dataset) -> dict[str, Any]:
    """The classes or regions as nnU-Net lists them."""
    values, labels = nnunet_values(dataset)
    if dataset.regions is None:
        return {"labels": labels}
    regions = nnunet_regions(dataset.regions, dataset.root).renumber(values)
    ignored = {name: value for name, value in labels.items() if name == IGNORE}
    listed = {_BACKGROUND: 0, **{name: list(held) for name, held in regions.values.items()}, **ignored}
    return {"labels": listed, "regions_class_order": list(regions.order)}


def nnunet_regions(regions: Regions, root: Path) -> Regions:
    """The regions with an order, which nnU-Net requires."""
    if (ordered := regions.in_order()) is None:
        raise DataError(
            "regions overlap in a way that nnU-Net can't express",
            expected="regions that are nested or don't overlap",
            got=", ".join(f"{name} {list(held)}" for name, held in regions.values.items()),
            hint="choose another layout, or leave regions out",
            file=root,
        )
    return ordered


def _check_usable(listing: _Listing, path: Path) -> None:
    if listing.file_ending not in SUFFIXES:
        raise DataError(
            "unsupported file format",
            expected=f'"file_ending" of {", ".join(SUFFIXES)}',
            got=listing.file_ending,
            hint="include the dot" if f".{listing.file_ending}" in SUFFIXES else "convert the files",
            file=path,
        )
    if sorted(listing.channel_names) != list(range(len(listing.channel_names))) or not listing.channel_names:
        raise DataError(
            "invalid modalities",
            expected='"channel_names" that count from 0, like {"0": "T2", "1": "ADC"}',
            got=listing.channel_names,
            file=path,
        )


def _listed_cases(folder: Path, listing: _Listing) -> tuple[Case, ...]:
    assert listing.dataset is not None
    return tuple(
        Case(name, tuple(listed_path(folder, image) for image in files.images), listed_path(folder, files.label))
        for name, files in sorted(listing.dataset.items())
    )


def _found_cases(folder: Path, listing: _Listing) -> tuple[Case, ...]:
    ending = re.escape(listing.file_ending)
    images = _matching(folder / "imagesTr", rf"(?P<case>.+)_(?P<channel>\d{{4}}){ending}")
    labels = _matching(folder / "labelsTr", rf"(?P<case>.+){ending}")
    if not images and not labels:
        raise _no_files(folder, listing.file_ending)
    _check_other_endings(folder, listing.file_ending)
    check_one_format([*images, *labels], case_of={path: match["case"] for path, match in (images | labels).items()})
    channels: dict[str, dict[int, Path]] = {match["case"]: {} for match in labels.values()}
    for path, match in images.items():
        channels.setdefault(match["case"], {})[int(match["channel"])] = path
    cases = []
    for name, found in sorted(channels.items()):
        if not found and name.endswith("_0000") and channels.get(name.removesuffix("_0000")):
            raise _named_as_a_scan(folder, name, listing.file_ending)
        if not found:  # a missing scan is reported by the name of its first file
            found[0] = folder / "imagesTr" / f"{name}_0000{listing.file_ending}"
        count = max(len(listing.channel_names), max(found) + 1)
        label = folder / "labelsTr" / f"{name}{listing.file_ending}"
        cases.append(Case(name, tuple(found.get(channel) for channel in range(count)), label))
    return tuple(cases)


def _named_as_a_scan(folder: Path, name: str, ending: str) -> DataError:
    return DataError(
        "the label map is named as a scan",
        expected=f"{name.removesuffix('_0000')}{ending}: only scans are numbered",
        got=f"{name}{ending}",
        hint="rename the label maps: without _0000",
        case=name.removesuffix("_0000"),
        file=folder / "labelsTr" / f"{name}{ending}",
    )


def _no_files(folder: Path, ending: str) -> DataError:
    found = {
        part: truncate(sorted(path.name for path in (folder / part).iterdir() if not path.name.startswith(".")), 3)
        for part in ("imagesTr", "labelsTr")
    }
    return DataError(
        "no file has the dataset's file ending",
        expected=f"imagesTr/CASE_0000{ending} and labelsTr/CASE{ending}",
        got="; ".join(f"{part}: {names or 'nothing'}" for part, names in found.items()),
        hint='correct "file_ending", or the names of the files',
        file=folder / LISTING,
    )


def _check_other_endings(folder: Path, ending: str) -> None:
    """Rejects cases whose files all have another ending: they would be left out silently."""
    named = {path for part in ("imagesTr", "labelsTr") for path in scan_files(folder / part)}
    ours = {stem_of(path) for path in named if path.name.endswith(ending)}
    others = sorted(path for path in named if not path.name.endswith(ending) and stem_of(path) not in ours)
    labels = {stem_of(path): path for path in others if path.parent.name == "labelsTr"}
    scans = {path.name[: -len("_0000") - len(suffix_of(path))] for path in others if path.parent.name == "imagesTr"}
    if left_out := sorted(labels.keys() & scans):
        raise DataError(
            "the file ending of some cases differs from the dataset's",
            expected=f"{ending} for all cases",
            got=f"{len(left_out)} cases: {truncate([labels[case].name for case in left_out])}",
            hint="convert these files, or move them out of the folder",
            case=left_out[0],
            file=folder / LISTING,
        )


def _matching(folder: Path, pattern: str) -> dict[Path, re.Match[str]]:
    if not folder.is_dir():
        raise DataError(
            "folder not found", expected="imagesTr and labelsTr", hint="unpack the dataset again", file=folder
        )
    matches = {path: re.fullmatch(pattern, path.name) for path in folder.iterdir() if not path.name.startswith(".")}
    return {path: match for path, match in matches.items() if match}


def _own_split(folder: Path, cases: tuple[Case, ...]) -> dict[str, tuple[Split, ...]]:
    beside = folder.resolve().parents[1] if len(folder.resolve().parents) > 1 else folder
    places = (folder / SPLITS, beside / "nnUNet_preprocessed" / folder.resolve().name / SPLITS)
    path = next((path for path in places if path.is_file()), None)
    if path is None:
        return {}
    example = '[{"train": ["case", ...], "val": [...]}, ...]'
    folds = read_json_as(_Folds, path, what="invalid list of folds", example=example).root
    splits = tuple(
        Split(tuple(sorted(fold.train)), tuple(sorted(fold.val)), source=f"fold {number} of {len(folds)} in {SPLITS}")
        for number, fold in enumerate(folds)
    )
    for split in splits:
        check_split(split, [case.id for case in cases], file=path)
    return {OWN: splits} if splits else {}


def _label_names(dataset: Dataset, numbers: Mapping[int, int]) -> dict[str, int]:
    names = [name for value, name in dataset.classes.items() if value]
    taken = sorted({name for name in names if names.count(name) > 1 or name in (_BACKGROUND, IGNORE)})
    if taken:
        raise DataError(
            "class names that nnU-Net can't distinguish",
            expected=f"distinct names, none of them {_BACKGROUND} or {IGNORE}",
            got=", ".join(taken),
            hint="rename them in the dataset's list of classes",
            file=dataset.root,
        )
    return {_BACKGROUND: 0} | {name: numbers[value] for value, name in dataset.classes.items() if value}


def _folds_of(dataset: Dataset) -> tuple[Split, ...]:
    if OWN in dataset.splits:
        return dataset.splits[OWN]
    groups = {case.id: case.group for case in dataset.cases}
    count = min(5, len({group or case for case, group in groups.items()}))
    return tuple(kfold_split(groups, fold, count) for fold in range(count)) if count > 1 else ()
