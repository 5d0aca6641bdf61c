"""Finds out what a folder contains, for ``inflate3d init``: cases from file names or headers, classes from voxels."""

from __future__ import annotations

import dataclasses
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Literal

import numpy as np

from inflate3d.datasets.case_table import TABLE, Row, read_table
from inflate3d.datasets.dicom_pairing import DicomPairing, combined_name, pair_dicom
from inflate3d.datasets.file_names import ScanFile, named_channels
from inflate3d.datasets.folder import LISTING, read_folder
from inflate3d.datasets.layouts import LAYOUTS
from inflate3d.datasets.masks import MOST_VALUES, Combination, combine_masks, overlay_masks, too_many_combinations
from inflate3d.datasets.modality_guess import guess_modalities
from inflate3d.datasets.pairing import COMBINED, Pairing, pair_files
from inflate3d.datasets.proposal import Proposal, combine_row, overlay_row
from inflate3d.errors import ConfigError, DataError, DatasetProblems, OutputError
from inflate3d.io import read_labels
from inflate3d.progress import Progress, silent

_MOST_VALUES = 256
"""A file with more values than this is not a label map."""

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
            f"{TABLE} already lists the files",
            got="--images or --labels",
            hint=f"omit them, or give --overwrite to replace {TABLE}",
            file=folder / TABLE,
        )
    if has_table:
        rows = read_table(folder / TABLE)
        pairing = Pairing(tuple(rows), _channels_of(rows), ())
    elif not by_pattern and (dicom := pair_dicom(folder)):
        regions = _dicom_regions(folder, dicom, progress, replace=replace) if overlaps == "regions" else None
        return regions or _dicom_proposal(folder, dicom, replace=replace)
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

        def overlaid(row: Row) -> Iterable[Combination]:
            masks = {name: folder / path for name, path in pairing.masks.get(row.case, {}).items()}
            if not masks:
                raise DataError("the case has a label map, others have masks", file=folder / row.label)
            return overlay_masks(masks, case=row.case)[1]

        combinations, label_files, unusable = _combinations(folder, pairing.rows, overlaid, progress)
        values = {" + ".join(names): value for names, value in combinations.items() if value}
    else:
        label_files, unusable, voxels_shared = _label_values(folder, pairing, values, progress)
    rows = tuple(row for row in pairing.rows if row.case not in unusable or row.case not in pairing.masks)
    modalities, reason = guess_modalities(folder, rows, pairing.channels)
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


def _dicom_proposal(folder: Path, pairing: DicomPairing, *, replace: bool) -> Proposal:
    if pairing.objects:
        _check_combined(folder, replace=replace)
    overlaps = {
        row.case: combine_row(folder, row, pairing.objects[row.case], pairing.class_names)[1]
        for row in pairing.rows
        if row.case in pairing.objects
    }
    modalities, reason = guess_modalities(folder, pairing.rows, ("",))
    return Proposal(
        folder=folder,
        rows=pairing.rows,
        modalities=modalities,
        modality_reason=reason,
        label_files=pairing.label_files,
        left_out=pairing.unpaired,
        has_table=False,
        source="the DICOM headers",
        objects=pairing.objects,
        class_names=pairing.class_names,
        overlaps={case: count for case, count in overlaps.items() if count},
    )


def _dicom_regions(folder: Path, pairing: DicomPairing, progress: Progress, *, replace: bool) -> Proposal | None:
    """Label maps in which each combination of structures has a value of its own; None if no structures overlap."""
    objects = {row.case: pairing.objects.get(row.case, (row.label,)) for row in pairing.rows}
    names = pairing.class_names.values()
    combinations, label_files, unusable = _combinations(
        folder, pairing.rows, lambda row: overlay_row(folder, row, objects[row.case], names)[1], progress
    )
    if all(len(names) < 2 for names in combinations):
        return None
    _check_combined(folder, replace=replace)
    rows = tuple(
        dataclasses.replace(row, label=combined_name(row.case)) for row in pairing.rows if row.case not in unusable
    )
    modalities, reason = guess_modalities(folder, rows, ("",))
    return Proposal(
        folder=folder,
        rows=rows,
        modalities=modalities,
        modality_reason=reason,
        label_files=label_files,
        left_out=(*pairing.unpaired, *unusable.values()),
        has_table=False,
        source="the DICOM headers",
        objects=objects,
        class_names={value: " + ".join(names) for names, value in combinations.items() if value},
        combinations=combinations,
    )


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
            "regions are built from one mask per class",
            expected="a folder of masks for each case",
            got=found,
            hint="omit --overlaps; list the regions of label maps in dataset.yaml",
            file=folder,
        )


def _combinations(
    folder: Path, rows: Sequence[Row], overlaid: Callable[[Row], Iterable[Combination]], progress: Progress
) -> tuple[dict[Combination, int], dict[int, int], dict[str, tuple[str, str]]]:
    """A value for each combination of structures, the number of cases with each value; per case, the unusable file.

    Args:
        overlaid: Gives the combinations in a case.
    """
    counts: Counter[Combination] = Counter()
    problems: dict[str, DataError] = {}
    for row in progress(rows, len(rows), "reading masks"):
        try:
            counts.update([*overlaid(row)])  # of a mapping it would add the values
        except DataError as error:
            problems[row.case] = error
    if not counts:
        raise DatasetProblems(list(problems.values()))
    ordered = sorted(counts, key=lambda names: (len(names), names))
    if len(ordered) > MOST_VALUES + 1:
        raise too_many_combinations(ordered)
    if len(ordered) < 2:
        raise DataError("the label maps contain only background", expected="voxels of some class", file=folder)
    _check_distinct(ordered, folder)
    combinations = {names: value for value, names in enumerate(ordered)}
    return (
        combinations,
        {value: counts[names] for names, value in combinations.items()},
        {case: (_within(folder, Path(error.file or "")), error.what) for case, error in problems.items()},
    )


def _check_distinct(combinations: Sequence[Combination], folder: Path) -> None:
    """Two structures of the same voxels can't be two regions."""
    several: defaultdict[frozenset[Combination], list[str]] = defaultdict(list)
    for name in sorted({name for names in combinations for name in names}):
        several[frozenset(names for names in combinations if name in names)].append(name)
    if same := next((names for names in several.values() if len(names) > 1), None):
        raise DataError(
            "structures have the same voxels in all cases",
            expected="regions that differ",
            got=" and ".join(same),
            hint="leave one of them out of the folder",
            file=folder,
        )


def _within(folder: Path, file: Path) -> str:
    """A file's path as the case table has it: relative to the folder, or absolute if it is elsewhere."""
    return str(file.relative_to(folder) if file.is_relative_to(folder) else file)
