"""The description of a folder that ``inflate3d init`` proposes: its cases, modalities and classes."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
import yaml
from jaxtyping import Shaped

from inflate3d.atomic import write_text
from inflate3d.datasets.case_table import TABLE, Row, read_table, write_table
from inflate3d.datasets.classes import map_labels
from inflate3d.datasets.dicom_pairing import DicomPairing, pair_dicom
from inflate3d.datasets.file_names import MODALITY_WORDS, ScanFile, named_channels
from inflate3d.datasets.folder import LISTING, class_name, read_folder
from inflate3d.datasets.layouts import LAYOUTS
from inflate3d.datasets.masks import (
    MOST_VALUES,
    Combination,
    combine_masks,
    combine_objects,
    overlay_masks,
    too_many_combinations,
)
from inflate3d.datasets.pairing import COMBINED, Pairing, pair_files
from inflate3d.errors import ConfigError, DataError, DatasetProblems, OutputError, truncate
from inflate3d.io import find_series, read_labels, read_volume, suffix_of, write_labels
from inflate3d.io.segments import plain_name
from inflate3d.progress import Progress, silent
from inflate3d.volume import Volume

AIR = (-1100, -900)
"""Range of air in Hounsfield units, with noise."""

DICOM_MODALITIES = {"CT": "CT", "MR": "MRI", "PT": "PET"}
"""Our names of modalities by DICOM's."""

MIXED = "mixed"
"""Name of a channel that is CT in some cases and something else in others; each is normalized by its own values."""

_MOST_VALUES = 256
"""A file with more values than this is not a label map."""


@dataclass(frozen=True)
class Proposal:
    """What was found out about a folder.

    Attributes:
        modalities: Name of each channel.
        label_files: Number of label maps in which each value occurs.
        left_out: Files that could not be used, with the reason.
        has_table: Whether the cases come from an existing ``cases.csv``.
        masks: The mask of each class, by case, for label maps that have yet to be written.
        objects: The same of several DICOM objects of a series.
        overlaps: Number of voxels in several masks, by case; the class with fewer voxels is kept.
        combinations: The value of each combination of overlapping masks, if they are kept.
    """

    folder: Path
    rows: tuple[Row, ...]
    modalities: tuple[str, ...]
    modality_reason: str
    label_files: dict[int, int]
    left_out: tuple[tuple[str, str], ...]
    has_table: bool
    masks: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    objects: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    class_names: Mapping[int, str] = field(default_factory=dict)
    overlaps: Mapping[str, int] = field(default_factory=dict)
    combinations: Mapping[Combination, int] = field(default_factory=dict)

    @property
    def regions(self) -> dict[str, list[int]]:
        """The values of each class, if some overlap and all of it is kept."""
        if all(len(names) < 2 for names in self.combinations):
            return {}
        names = sorted({name for names in self.combinations for name in names})
        return {name: sorted(value for held, value in self.combinations.items() if name in held) for name in names}

    @property
    def classes(self) -> dict[int, str]:
        """Name or placeholder of every value; the background is included even if no file contains it."""
        return {value: self.class_names.get(value, class_name(value)) for value in sorted({0, *self.label_files})}

    @property
    def groups(self) -> set[str]:
        """The groups of cases that a split keeps together."""
        return {row.group for row in self.rows if row.group}

    def write(self) -> list[Path]:
        """Writes ``dataset.yaml``, ``cases.csv`` unless it existed, and label maps made of masks.

        Returns:
            The paths of the first two.
        """
        values = {name: value for value, name in self.class_names.items()}
        for row in self.rows:
            if masks := self._masks_of(row):
                if self.combinations:
                    overlaid, numbers = overlay_masks(masks, case=row.case)
                    to_values = {number: self.combinations[names] for names, number in numbers.items()}
                    labels = map_labels(overlaid.array[0], to_values)
                else:
                    labels = combine_masks(masks, values, case=row.case)[0].array[0]
                write_labels(self.folder / row.label, labels, like=next(iter(masks.values())))
            elif row.case in self.objects:
                labels, _ = _combine_row(self.folder, row, self.objects[row.case], self.class_names)
                write_labels(self.folder / row.label, labels.array[0], like=self.folder / str(row.images[0]))
        written = [self.folder / LISTING]
        if not self.has_table:
            written.insert(0, self.folder / TABLE)
            write_table(self.folder / TABLE, self.rows)
        write_text(self.folder / LISTING, self.listing())
        return written

    def overlap_note(self) -> str:
        """Where masks overlap, in one sentence."""
        cases = [f"{case} ({count} voxels)" for case, count in self.overlaps.items()]
        return (
            f"Masks overlap in {truncate(cases, 3)}; there the class with fewer voxels is kept "
            "(--overlaps regions keeps both)."
        )

    def _masks_of(self, row: Row) -> dict[str, Path]:
        return {name: self.folder / path for name, path in self.masks.get(row.case, {}).items()}

    def listing(self) -> str:
        """The text of ``dataset.yaml``, with comments that say what was guessed."""
        lines = [
            "# Proposed by `inflate3d init`. Correct what is wrong, then run `inflate3d verify`.",
            "",
            f"name: {_quoted(self.folder.resolve().name)}",
            "",
            f"# One name for each image column of {TABLE}, or for each channel where a file holds all.",
            f"# Guess: {self.modality_reason}.",
            "# CT is clipped to one range for all cases; anything else is normalized case by case.",
            "modalities:",
            *(f"  - {_quoted(name)}" for name in self.modalities),
            "",
            "# Label value and name; 0 is the background. Name the classes. Say left or right where it matters: scans",
            "# are then never mirrored.",
            "classes:",
            *(
                f"  {value}: {_quoted(name)}  # in {self.label_files.get(value, 0)} of {len(self.rows)} label maps"
                for value, name in self.classes.items()
            ),
            "",
            *self._region_lines(),
            *self._class_hints(),
            *self._table_hints(),
            f"cases: {TABLE}",
        ]
        if self.overlaps:
            lines += ["", f"# {self.overlap_note()}"]
        if self.left_out:
            lines += ["", "# Could not be used:", *(f"# - {_printable(file)}: {why}" for file, why in self.left_out)]
        return "\n".join(lines) + "\n"

    def _region_lines(self) -> list[str]:
        """The regions, where masks overlap and all of them are kept."""
        if not self.regions:
            return []
        listed = [f"  {_quoted(name)}: {values}" for name, values in self.regions.items()]
        return ["# What to segment: masks that overlap, each with its label values.", "regions:", *listed, ""]

    def _table_hints(self) -> list[str]:
        """What was guessed for the optional columns of the table."""
        if self.has_table:
            return []
        hints = []
        if self.groups:
            patient = min(self.groups)
            hints.append(f"# Guess: the column group names the patient, such as {patient} of the cases {patient}...")
        if any(row.part for row in self.rows):
            hints.append("# Guess: the column split, from the names of the folders.")
        return hints

    def _class_hints(self) -> list[str]:
        """What else can be declared about the classes."""
        if self.regions:
            return []
        last = max(self.classes)
        hints = [
            "# If needed (and take the value out of the classes):",
            f"# merge: {{{last}: {min(set(self.classes) - {0})}}}  # voxels of the one value count as the other",
            f"# ignore: {last}  # voxels without a label, neither trained on nor scored",
            "",
        ]
        return hints if len(self.classes) > 2 else []


Overlaps = Literal["smallest", "regions"]
"""What to do where masks overlap: keep the class with fewer voxels, or all of them as regions."""


def propose(
    folder: str | Path,
    *,
    images: str | None = None,
    labels: str | None = None,
    replace: bool = False,
    overlaps: Overlaps = "smallest",
    progress: Progress = silent,
) -> Proposal:
    """Finds out what a folder contains: cases from file names, classes and modality from voxels.

    An existing ``cases.csv`` is used instead of the file names.

    Args:
        images: Shell pattern of the images' paths below the folder, such as ``"*/PET_image*"``. None: all that are
            named as images.
        labels: The same of the label maps.
        replace: Whether to overwrite existing files.
        overlaps: What to do where masks of one case overlap.
    """
    folder = Path(folder)
    _check_folder(folder, replace=replace)
    has_table = (folder / TABLE).is_file() and not replace
    by_pattern = images is not None or labels is not None
    if has_table and by_pattern:
        raise ConfigError(
            f"{TABLE} names the files already",
            got="--images or --labels",
            hint=f"omit them, or give --overwrite to replace {TABLE}",
            file=folder / TABLE,
        )
    if has_table:
        rows = read_table(folder / TABLE)
        pairing = Pairing(tuple(rows), _channels_of(rows), ())
    elif not by_pattern and (dicom := pair_dicom(folder)):
        _check_overlaps(overlaps, "SEG or RTSTRUCT objects", folder)
        return _dicom_proposal(folder, dicom, replace=replace)
    else:
        pairing = pair_files(folder, images=images, labels=labels)
    if pairing.masks:
        _check_combined(folder, replace=replace)
    else:
        _check_overlaps(overlaps, "label maps", folder)
    names = sorted({name for masks in pairing.masks.values() for name in masks})
    values: dict[str, int] = {name: value for value, name in enumerate(names, start=1)}
    combinations: dict[Combination, int] = {}
    voxels_shared: dict[str, int] = {}
    if overlaps == "regions":
        combinations, label_files, unusable = _combinations(folder, pairing, progress)
        values = {" + ".join(names): value for names, value in combinations.items() if value}
    else:
        label_files, unusable, voxels_shared = _label_values(folder, pairing, values, progress)
    rows = tuple(row for row in pairing.rows if row.case not in unusable or row.case not in pairing.masks)
    modalities, reason = _modalities(folder, rows, pairing.channels)
    return Proposal(
        folder=folder,
        rows=rows,
        modalities=modalities,
        modality_reason=reason,
        label_files=label_files,
        left_out=(*pairing.unpaired, *unusable.values()),
        has_table=has_table,
        masks=pairing.masks,
        class_names={value: name for name, value in values.items()},
        overlaps=voxels_shared,
        combinations=combinations,
    )


def _combine_row(folder: Path, row: Row, objects: Sequence[str], class_names: Mapping[int, str]) -> tuple[Volume, int]:
    """The label map of a case with several DICOM objects, and how many voxels are in several of them."""
    values = {plain_name(name): value for value, name in class_names.items()}
    paths = [folder / path for path in objects]
    return combine_objects(paths, values, scan=folder / str(row.images[0]), case=row.case)


def _dicom_proposal(folder: Path, pairing: DicomPairing, *, replace: bool) -> Proposal:
    if pairing.objects:
        _check_combined(folder, replace=replace)
    overlaps = {
        row.case: _combine_row(folder, row, pairing.objects[row.case], pairing.class_names)[1]
        for row in pairing.rows
        if row.case in pairing.objects
    }
    modalities, reason = _modalities(folder, pairing.rows, ("",))
    return Proposal(
        folder=folder,
        rows=pairing.rows,
        modalities=modalities,
        modality_reason=reason,
        label_files=pairing.label_files,
        left_out=pairing.unpaired,
        has_table=False,
        objects=pairing.objects,
        class_names=pairing.class_names,
        overlaps={case: count for case, count in overlaps.items() if count},
    )


def looks_like_ct(array: Shaped[np.ndarray, "..."]) -> bool:
    """Whether voxel values look like Hounsfield units: whole numbers, some of them as low as air."""
    air = (array >= AIR[0]) & (array <= AIR[1])
    is_whole = array.dtype.kind in "iu" or np.array_equal(array, np.rint(array))
    return is_whole and bool(air.mean() > 0.001)


def _check_folder(folder: Path, *, replace: bool) -> None:
    if not folder.is_dir():
        raise DataError("folder not found", hint="check the path", file=folder)
    if replace:
        return
    if (folder / LISTING).exists():
        raise OutputError(
            f"{LISTING} already exists",
            hint=f"edit it, or give --overwrite to replace it and {TABLE}",
            file=folder / LISTING,
        )
    known = [layout for layout in LAYOUTS if layout.read is not read_folder and layout.matches(folder)]
    if known:
        raise OutputError(
            "the folder needs no description",
            got=f"the layout of {known[0].name}",
            hint=f"continue with `inflate3d verify {folder}`, or give --overwrite to write a {LISTING}",
            file=folder,
        )


def _check_combined(folder: Path, *, replace: bool) -> None:
    if (folder / COMBINED).exists() and not replace:
        raise OutputError(
            f"{COMBINED} already exists",
            hint="remove it, or give --overwrite to write label maps into it",
            file=folder / COMBINED,
        )


def _channels_of(rows: Sequence[Row]) -> tuple[str, ...]:
    """The channels that a case's file names give; nothing unless they distinguish all of them."""
    images = max((row.images for row in rows), key=lambda images: len(images) - images.count(None))
    paths = [Path(image or "") for image in images]
    channels = [named_channels(ScanFile(path, (path.name,)))[1] for path in paths]
    return tuple(channels) if len(channels) > 1 and len(set(channels) - {""}) == len(channels) else ("",) * len(images)


def _label_values(
    folder: Path, pairing: Pairing, values: Mapping[str, int], progress: Progress
) -> tuple[dict[int, int], dict[str, tuple[str, str]], dict[str, int]]:
    """The number of label maps with each value; per case, the unusable file and the overlap of masks."""
    counts: Counter[int] = Counter()
    problems: dict[str, DataError] = {}
    overlaps: dict[str, int] = {}
    for row in progress(pairing.rows, len(pairing.rows), "reading label maps"):
        masks = {name: folder / path for name, path in pairing.masks.get(row.case, {}).items()}
        try:
            if masks:
                labels, overlaps[row.case] = combine_masks(masks, values, case=row.case)
            else:
                labels = read_labels(folder / row.label, case=row.case)
        except DataError as error:
            problems[row.case] = error
            continue
        counts.update(np.unique(labels.array).tolist())
        if len(counts) > _MOST_VALUES:
            raise DataError(
                "the label maps hold too many values to be classes",
                expected=f"at most {_MOST_VALUES}",
                got=f"{len(counts)} and more, such as {', '.join(map(str, sorted(counts)[:5]))}",
                hint="check that label maps, not scans, are listed as labels",
                case=row.case,
                file=folder / row.label,
            )
    if not counts:
        raise DatasetProblems(list(problems.values()))
    if set(counts) == {0}:
        raise DataError("the label maps contain only background", expected="voxels of some class", file=folder)
    unusable = {case: (_within(folder, Path(error.file or "")), error.what) for case, error in problems.items()}
    return dict(sorted(counts.items())), unusable, {case: count for case, count in overlaps.items() if count}


def _check_overlaps(overlaps: Overlaps, found: str, folder: Path) -> None:
    """Only masks can be kept where they overlap."""
    if overlaps == "regions":
        raise ConfigError(
            "regions are made of a mask per class",
            expected="a folder of masks for each case",
            got=found,
            hint="omit --overlaps; list the regions of label maps in dataset.yaml",
            file=folder,
        )


def _combinations(
    folder: Path, pairing: Pairing, progress: Progress
) -> tuple[dict[Combination, int], dict[int, int], dict[str, tuple[str, str]]]:
    """A value for each combination of masks, the number of cases with each value; per case, the unusable file."""
    counts: Counter[Combination] = Counter()
    problems: dict[str, DataError] = {}
    for row in progress(pairing.rows, len(pairing.rows), "reading masks"):
        masks = {name: folder / path for name, path in pairing.masks.get(row.case, {}).items()}
        try:
            if not masks:
                raise DataError("the case has a label map, others have masks", file=folder / row.label)
            counts.update(overlay_masks(masks, case=row.case)[1])
        except DataError as error:
            problems[row.case] = error
    if not counts:
        raise DatasetProblems(list(problems.values()))
    ordered = sorted(counts, key=lambda names: (len(names), names))
    if len(ordered) > MOST_VALUES + 1:
        raise too_many_combinations(ordered)
    if len(ordered) < 2:
        raise DataError("the label maps contain only background", expected="voxels of some class", file=folder)
    combinations = {names: value for value, names in enumerate(ordered)}
    return (
        combinations,
        {value: counts[names] for names, value in combinations.items()},
        {case: (_within(folder, Path(error.file or "")), error.what) for case, error in problems.items()},
    )


def _within(folder: Path, file: Path) -> str:
    """A file's path as the case table has it: relative to the folder, or absolute if it is elsewhere."""
    return str(file.relative_to(folder) if file.is_relative_to(folder) else file)


def _modalities(folder: Path, rows: Sequence[Row], channels: Sequence[str]) -> tuple[tuple[str, ...], str]:
    """A name for each channel, and the reason for it."""
    if all(channel in MODALITY_WORDS.values() for channel in channels):
        return tuple(channels), "from the names of the files"
    if len(channels) == 1 and (found := _named_in_all(rows)):
        return found
    named: list[str] = []
    reasons: list[str] = []
    for number, channel in enumerate(channels):
        if channel in MODALITY_WORDS.values():
            named.append(channel)
            continue
        image = next(row.images[number] for row in rows if row.images[number] is not None)
        assert image is not None
        if tag := _dicom_modality(folder / image):
            named.append(DICOM_MODALITIES.get(tag, tag))
            reasons.append(f"the DICOM header of {_printable(image)} says {_printable(tag)}")
            continue
        for array in read_volume(folder / image).array:
            is_ct = looks_like_ct(array)
            named.append("CT" if is_ct else "MRI")
            values = f"{_printable(image)} has values from {array.min():g} to {array.max():g}"
            reasons.append(f"{values}, {'with' if is_ct else 'without'} the air of CT at about -1000")
    repeated = Counter(named)
    names = [name if repeated[name] == 1 or name == "CT" else f"{name} {index}" for index, name in enumerate(named)]
    return tuple(names), "; ".join(reasons)


def _named_in_all(rows: Sequence[Row]) -> tuple[tuple[str, ...], str] | None:
    """The modality that the name of every case's only image gives: one for all, or several that make one dataset.

    That all are CT is left to the voxels: a clipping to Hounsfield units should not hang on a word.
    """
    paths = [Path(row.images[0] or "") for row in rows]
    counts = Counter(named_channels(ScanFile(path, path.parts))[1] for path in paths)
    if "" in counts or set(counts) == {"CT"}:
        return None
    if len(counts) == 1:
        return tuple(counts), "from the names of the files"
    listed = ", ".join(f"{count} of {name}" for name, count in sorted(counts.items()))
    reason = f"from the names of the files: {listed}, each with a label map of its own; --images and --labels choose"
    return (MIXED,), reason


def _dicom_modality(path: Path) -> str:
    """Modality from the header of a DICOM series; empty if the path names none."""
    if suffix_of(path):
        return ""
    found = find_series(path if path.is_dir() else path.parent)
    return next((series.modality for series in found if path == series.path or path in series.files), "")


def _quoted(text: str) -> str:
    """The text as YAML, quoted where it would be read as something else."""
    plain = yaml.safe_dump(text, allow_unicode=True, width=1000).removesuffix("\n...\n").strip()
    is_safe = "\n" not in plain and not plain.startswith(("'", '"'))
    return plain if is_safe else json.dumps(text)


def _printable(text: str) -> str:
    return text if text.isprintable() else repr(text)
