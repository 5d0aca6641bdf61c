"""Which scan files of a folder belong together: one image per modality, and the label map."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Literal

from inflate3d.datasets.case_table import Row
from inflate3d.datasets.file_names import (
    READINGS,
    Key,
    Reading,
    ScanFile,
    case_ids,
    channel_order,
    key_of,
    mask_name,
    patients,
    patients_of_modalities,
    words_of,
)
from inflate3d.errors import ConfigError, DataError, truncate
from inflate3d.io import SUFFIXES, find_series, scan_files, stem_of

_EXPECTED = (
    "images and label maps in two folders (images/, labels/), a folder for each case, or label maps named like their "
    "images with _seg, _label, _mask or _gt"
)


COMBINED = "combined_labels"
"""Folder for label maps that are combined from one mask per class."""


@dataclass(frozen=True)
class Pairing:
    """The cases found in a folder.

    Attributes:
        rows: The cases, sorted by id, with paths below the folder.
        channels: For each image column, what the file names contain: a modality, nnU-Net's number, or nothing.
        unpaired: Files that belong to no case, sorted, with the reason.
        masks: For cases with one mask per class instead of a label map: the mask of each class, by case. The label maps
            in their rows have yet to be written.
    """

    rows: tuple[Row, ...]
    channels: tuple[str, ...]
    unpaired: tuple[tuple[str, str], ...]
    masks: Mapping[str, Mapping[str, str]] = field(default_factory=dict)


@dataclass
class _Case:
    """Files with the same key, or joined by folder; lists are longer than one where names don't distinguish files."""

    images: dict[str, list[ScanFile]] = field(default_factory=dict)
    labels: list[ScanFile] = field(default_factory=list)
    masks: dict[str, ScanFile] = field(default_factory=dict)
    by_folder: bool = False

    @property
    def problem(self) -> str:
        """Why it is not a case; empty if it is one."""
        if not self.labels and not self.masks:
            return "no matching label map"
        if not self.images:
            return "no matching image"
        if len(self.labels) > 1:
            return "several matching label maps"
        return "several matching images" if max(map(len, self.images.values())) > 1 else ""

    @property
    def files(self) -> list[ScanFile]:
        return [*self.labels, *self.masks.values(), *(file for images in self.images.values() for file in images)]


def pair_files(folder: Path, *, images: str | None = None, labels: str | None = None) -> Pairing:
    """Finds out from names alone which files of a folder are images, which are label maps, and which belong together.

    For DICOM series, headers are considered too.

    Args:
        folder: The folder to search, subfolders included; hidden files are skipped.
        images: Shell pattern of the images' paths below the folder, such as ``"*/PET_image*"``. None: by their names.
        labels: The same of the label maps.
    """
    files, no_volumes = _scan_files(folder)
    files, others = _chosen(files, images, labels, folder)
    if not files:
        raise DataError(
            "no scan files in the folder",
            expected=f"files that end in {', '.join(SUFFIXES)}, or DICOM series",
            file=folder,
        )
    cases, reading = max(((_cases(files, reading), reading) for reading in READINGS), key=lambda found: _fit(found[0]))
    paired = [case for case in cases if not case.problem]
    if not paired:
        count = sum(file.is_label for file in files)
        raise DataError(
            "no image matches a label map",
            expected=_EXPECTED,
            got=f"{len(files) - count} images and {count} label maps, by their names, such as {files[0].path}",
            hint="rename the files, or list them by hand in a cases.csv with the columns case, image, label",
            file=folder,
        )
    channels = sorted({channel for case in paired for channel in case.images}, key=channel_order)
    rows = _rows(paired, channels, reading)
    left_over = [(str(file.path), case.problem) for case in cases if case.problem for file in case.files]
    return Pairing(
        rows=tuple(row for row, _ in rows),
        channels=tuple(channels),
        unpaired=tuple(sorted([*no_volumes, *others, *left_over])),
        masks={
            row.case: {name: mask.path.as_posix() for name, mask in sorted(case.masks.items())}
            for row, case in rows
            if case.masks
        },
    )


def _chosen(
    files: list[ScanFile], images: str | None, labels: str | None, folder: Path
) -> tuple[list[ScanFile], list[tuple[str, str]]]:
    """The files that the user's patterns name, with their roles, and the others, with the reason."""
    if images is None and labels is None:
        return files, []
    chosen: list[ScanFile] = []
    others: list[tuple[str, str]] = []
    for file in files:
        path = file.path.as_posix()
        is_image, is_label = (pattern is not None and fnmatchcase(path, pattern) for pattern in (images, labels))
        if is_image and is_label:
            raise ConfigError(
                "a file is selected both as an image and as a label map",
                expected="--images and --labels with no file in common",
                got=f"{path}: {images} and {labels}",
                file=folder / path,
            )
        by_name: Literal["image", "label"] = "label" if file.is_label else "image"
        role = "image" if is_image else "label" if is_label else by_name
        if is_image or is_label or (labels if role == "label" else images) is None:
            chosen.append(replace(file, role=role))
        else:
            others.append((path, f"not chosen by --{role}s {labels if role == 'label' else images}"))
    patterns: dict[str, str | None] = {"image": images, "label": labels}
    for name, pattern in patterns.items():
        if pattern is not None and not any(file.role == name for file in chosen):
            raise DataError(
                f"no file matches --{name}s",
                expected="a pattern of paths below the folder, such as '*/PET_image*'",
                got=f"{pattern}; the files are {truncate([file.path.as_posix() for file in files], 5)}",
                file=folder,
            )
    return chosen, others


def _fit(cases: Sequence[_Case]) -> tuple[int, int, int]:
    """How well one interpretation of the names explains the files: cases, their files, cases by names alone."""
    whole = [case for case in cases if not case.problem]
    return len(whole), sum(len(case.files) for case in whole), sum(not case.by_folder for case in whole)


def _cases(files: Sequence[ScanFile], reading: Reading) -> list[_Case]:
    cases: dict[Key, _Case] = {}
    for file in files:
        plain, channel = reading(file)
        case = cases.setdefault(key_of(plain), _Case())
        if file.is_label:
            case.labels.append(file)
        else:
            case.images.setdefault(channel, []).append(file)
    return _with_masks(_joined_by_folder(list(cases.values())), reading)


def _with_masks(cases: list[_Case], reading: Reading) -> list[_Case]:
    """Gives images without a label map the masks whose names hold all words of theirs, as ``p1_liver`` does of ``p1``.

    A class has to be in several cases, unless there is only one case.
    """
    images = {number: case for number, case in enumerate(cases) if case.images and len(case.labels) != 1}
    words = {
        number: {word for part in key_of(reading(_first(case))[0]) for word in part.split("_")}
        for number, case in images.items()
    }
    common = Counter(word for each in words.values() for word in each)
    index: dict[str, list[int]] = {}  # by its rarest word
    for number, each in words.items():
        index.setdefault(min(each, key=lambda word: (common[word], word), default=""), []).append(number)
    found: dict[int, list[tuple[str, ScanFile]]] = {}
    for label in (label for case in cases if case.problem for label in case.labels):
        own = {word for part in label.parts for word in words_of(part)}
        fitting = [number for word in {*own, ""} for number in index.get(word, ()) if words[number] <= own]
        longest = max((len(words[number]) for number in fitting), default=0)
        best = [number for number in fitting if len(words[number]) == longest]
        if len(best) == 1 and re.search("[a-z]", name := mask_name(label, _first(images[best[0]]))):
            found.setdefault(best[0], []).append((name, label))
    counts = Counter(name for masks in found.values() for name, _ in masks)
    if max(map(len, found.values()), default=0) < 2:
        return cases
    for number, masks in found.items():
        named = {name: label for name, label in masks if counts[name] > 1 or len(found) == 1}
        if len(named) == len(masks):
            cases[number].masks = named
            cases[number].labels = []
    taken = {id(mask) for case in cases for mask in case.masks.values()}
    for case in cases:
        case.labels = [label for label in case.labels if id(label) not in taken]
    return [case for case in cases if case.files]


def _first(case: _Case) -> ScanFile:
    return next(iter(case.images.values()))[0]


def _joined_by_folder(cases: Sequence[_Case]) -> list[_Case]:
    """Joins an image and a label map with different names if they are alone in their folder."""
    whole = [case for case in cases if not case.problem]
    lonely = [case for case in cases if case.problem]
    by_folder: dict[Path, list[_Case]] = {}
    for case in lonely:
        for folder in {file.path.parent for file in case.files}:
            by_folder.setdefault(folder, []).append(case)
    used = {file.path.parent for case in whole for file in case.files}
    joined = []
    for folder, there in by_folder.items():
        together = _Case(by_folder=True)
        for case in there:
            together.labels += case.labels
            for channel, images in case.images.items():
                together.images.setdefault(channel, []).extend(images)
        if folder not in used and not together.problem and {file.path.parent for file in together.files} == {folder}:
            joined.append(together)
            lonely = [case for case in lonely if case not in there]
    return whole + joined + lonely


def _rows(cases: Sequence[_Case], channels: Sequence[str], reading: Reading) -> list[tuple[Row, _Case]]:
    first = [next(case.images[channel][0] for channel in channels if channel in case.images) for case in cases]
    ids = case_ids([reading(file)[0] for file in first])
    groups = patients(ids) or patients_of_modalities(first) or [None] * len(ids)
    parts = [file.part_of_split for file in first]
    if not (all(parts) and {"train", "validation"} <= set(parts)):
        parts = [None] * len(ids)
    rows = [
        Row(
            case=name,
            images=tuple(
                case.images[channel][0].path.as_posix() if channel in case.images else None for channel in channels
            ),
            label=f"{COMBINED}/{name}.nii.gz" if case.masks else case.labels[0].path.as_posix(),
            part=part,
            group=group,
        )
        for name, case, part, group in zip(ids, cases, parts, groups, strict=True)
    ]
    return sorted(zip(rows, cases, strict=True), key=lambda pair: pair[0].case)


def _scan_files(folder: Path) -> tuple[list[ScanFile], list[tuple[str, str]]]:
    """All scan files and DICOM series, their paths without the folders that all of them share.

    Series that are not volumes, such as localizers, are returned separately, with the reason.
    """
    places = list(_folders(folder))
    files = [file for place in places for file in scan_files(place)]
    # the search for series goes into folders by itself, but follows no links
    series = [found for place in places if place == folder or place.is_symlink() for found in find_series(place)]
    found = [(path.relative_to(folder), stem_of(path), None) for path in files]
    found += [(each.path.relative_to(folder), each.path.name, each) for each in series if not each.flaw]
    found = sorted((each for each in found if not any(map(_is_hidden, each[0].parts))), key=lambda each: each[0])
    shared = len(Path(os.path.commonpath([path.parent for path, _, _ in found])).parts) if len(found) > 1 else 0
    studies: dict[str, list[Path]] = {}
    for path, _, each in found:
        if each and each.study:
            studies.setdefault(each.study, []).append(path)
    scans = [
        ScanFile(
            path,
            (*path.parts[:-1], stem)[shared:],
            Path(os.path.commonpath(studies[each.study])).parts[shared:] if each and each.study else None,
            (each.description, each.modality) if each else ("", ""),
        )
        for path, stem, each in found
    ]
    return scans, [(str(each.path.relative_to(folder)), each.flaw) for each in series if each.flaw]


def _folders(folder: Path) -> Iterator[Path]:
    """The folder and all below it, each once; links to folders are followed."""
    seen: set[Path] = set()
    for place, inner, _ in os.walk(folder, followlinks=True):
        inner[:] = sorted(name for name in inner if not _is_hidden(name) and name != COMBINED)
        real = Path(place).resolve()
        if real in seen:
            inner.clear()
            continue
        seen.add(real)
        yield Path(place)


def _is_hidden(name: str) -> bool:
    return name.startswith((".", "__MACOSX"))
