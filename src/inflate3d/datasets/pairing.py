"""Which scan files of a folder belong together: images, one for each modality, and their label map."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from inflate3d.datasets.case_table import Row
from inflate3d.datasets.file_names import (
    READINGS,
    Key,
    Reading,
    ScanFile,
    case_ids,
    channel_order,
    key_of,
    patients,
)
from inflate3d.errors import DataError
from inflate3d.io import SUFFIXES, find_series, scan_files, stem_of

_EXPECTED = (
    "images and label maps in two folders (images/, labels/), a folder for each case, or label maps named like their "
    "images with _seg, _label, _mask or _gt"
)


@dataclass(frozen=True)
class Pairing:
    """What was found in a folder.

    Attributes:
        rows: The cases, sorted by id, with paths below the folder.
        channels: Of each image column, what the names say: a modality, nnU-Net's number, or nothing.
        unpaired: Files that are in no case, each with the reason, sorted.
    """

    rows: tuple[Row, ...]
    channels: tuple[str, ...]
    unpaired: tuple[tuple[str, str], ...]


@dataclass
class _Case:
    """Files of one key, or joined by their folder. Lists are longer than one where names don't tell files apart."""

    images: dict[str, list[ScanFile]] = field(default_factory=dict)
    labels: list[ScanFile] = field(default_factory=list)
    by_folder: bool = False

    @property
    def problem(self) -> str:
        """Why it is no case; empty if it is one."""
        if not self.labels:
            return "no label map of its name"
        if not self.images:
            return "no image of its name"
        if len(self.labels) > 1:
            return "several label maps of one name"
        return "several images of one name" if max(map(len, self.images.values())) > 1 else ""

    @property
    def files(self) -> list[ScanFile]:
        return [*self.labels, *(file for images in self.images.values() for file in images)]


def pair_files(folder: Path) -> Pairing:
    """Tells from names alone which files of a folder are images, which label maps, and which belong together.

    Args:
        folder: What to look through, with its sub-folders; hidden files are passed over.

    Raises:
        DataError: There is no scan file, or no image has a label map.
    """
    files = _scan_files(folder)
    if not files:
        raise DataError(
            "no scan file is in the folder",
            expected=f"files that end in {', '.join(SUFFIXES)}, or DICOM series",
            file=folder,
        )
    cases, reading = max(((_cases(files, reading), reading) for reading in READINGS), key=lambda found: _fit(found[0]))
    paired = [case for case in cases if not case.problem]
    if not paired:
        labels = sum(file.is_label for file in files)
        raise DataError(
            "no image could be paired with a label map",
            expected=_EXPECTED,
            got=f"{len(files) - labels} images and {labels} label maps, by their names, such as {files[0].path}",
            hint="rename the files, or list them by hand in a cases.csv with the columns case, image, label",
            file=folder,
        )
    channels = sorted({channel for case in paired for channel in case.images}, key=channel_order)
    return Pairing(
        rows=tuple(_rows(paired, channels, reading)),
        channels=tuple(channels),
        unpaired=tuple(sorted((str(file.path), case.problem) for case in cases if case.problem for file in case.files)),
    )


def _fit(cases: Sequence[_Case]) -> tuple[int, int, int]:
    """How well a reading of the names explains the files: cases, files in them, cases by names alone."""
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
    return _joined_by_folder(list(cases.values()))


def _joined_by_folder(cases: Sequence[_Case]) -> list[_Case]:
    """Joins images and label map of different names that are alone with one another in their folder."""
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


def _rows(cases: Sequence[_Case], channels: Sequence[str], reading: Reading) -> list[Row]:
    first = [next(case.images[channel][0] for channel in channels if channel in case.images) for case in cases]
    ids = case_ids([reading(file)[0] for file in first])
    groups = patients(ids) or [None] * len(ids)
    parts = [file.part_of_split for file in first]
    if not (all(parts) and {"train", "validation"} <= set(parts)):
        parts = [None] * len(ids)
    rows = [
        Row(
            case=name,
            images=tuple(
                case.images[channel][0].path.as_posix() if channel in case.images else None for channel in channels
            ),
            label=case.labels[0].path.as_posix(),
            part=part,
            group=group,
        )
        for name, case, part, group in zip(ids, cases, parts, groups, strict=True)
    ]
    return sorted(rows, key=lambda row: row.case)


def _scan_files(folder: Path) -> list[ScanFile]:
    """Every scan file and DICOM series, their paths without the folders that all have in common."""
    places = list(_folders(folder))
    files = [file for place in places for file in scan_files(place)]
    # the search for series goes into folders by itself, but follows no links
    series = [found for place in places if place == folder or place.is_symlink() for found in find_series(place)]
    found = [(path.relative_to(folder), stem_of(path)) for path in files]
    found += [(each.path.relative_to(folder), each.path.name) for each in series]
    found = sorted(pair for pair in found if not any(map(_is_hidden, pair[0].parts)))
    shared = len(Path(os.path.commonpath([path.parent for path, _ in found])).parts) if len(found) > 1 else 0
    return [ScanFile(path, (*path.parts[:-1], stem)[shared:]) for path, stem in found]


def _folders(folder: Path) -> Iterator[Path]:
    """The folder and all below it, each once; links to folders are followed."""
    seen: set[Path] = set()
    for place, inner, _ in os.walk(folder, followlinks=True):
        inner[:] = sorted(name for name in inner if not _is_hidden(name))
        real = Path(place).resolve()
        if real in seen:
            inner.clear()
            continue
        seen.add(real)
        yield Path(place)


def _is_hidden(name: str) -> bool:
    return name.startswith((".", "__MACOSX"))
