"""The scans that a path names."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

from inflate3d.datasets.case import Case
from inflate3d.errors import DataError, DatasetProblems
from inflate3d.io import SUFFIXES, Series, find_series, scan_files, stem_of
from inflate3d.preparation.plan import Plan

Warn = Callable[[DataError], object]
"""Told of what is odd and no reason to stop."""

_CHANNEL = re.compile(r"(.+)_(\d{4})")
"""A file of one modality, as nnU-Net names them."""

_FIRST = "_0000"
"""What nnU-Net puts behind the name of a scan's first, or only, modality."""

_NAMELESS = "scan"
"""What a scan is called whose path has no name."""


def tell_nobody(told: object) -> None:
    """Drops what it is told."""


def find_scans(path: Path, plan: Plan, *, warn: Warn = tell_nobody) -> list[Case]:
    """The scans that a path names, sorted by name.

    Args:
        path: A scan (see `inflate3d.io.read_volume`), a folder of scan files, or a folder with DICOM series,
            in sub-folders too. Files ``CASE_0000``, ``CASE_0001``, ... are the modalities of one scan where
            the plan has several, and a scan's only modality, ``CASE_0000``, is named ``CASE``.
        plan: Which modalities there have to be, and whether some may be missing.
        warn: Told of DICOM series that are passed over because they are no volumes, such as localizers.

    Raises:
        DataError: There is nothing to predict, or a modality is missing.
        DatasetProblems: There are DICOM series, and none is a volume.
    """
    if path.name in ("", ".."):  # such as ".", which would name nothing
        path = path.resolve()
    files = scan_files(path) if path.is_dir() else [path]
    if not files:
        scans = _series(path, warn)
    elif len(plan.modalities) > 1 and path.is_dir() and all(_CHANNEL.fullmatch(stem_of(file)) for file in files):
        scans = _joined(files, plan)
    else:
        scans = [Case(name, (file,), label=None) for name, file in zip(_names(files), files, strict=True)]
    if not scans:
        raise DataError(
            "no scans here",
            file=path,
            expected=f"a scan file, a DICOM series, or a folder of them ({', '.join(SUFFIXES)})",
            got="none",
        )
    return scans


def _names(files: list[Path]) -> list[str]:
    """A name for each scan: its file's, without the number that nnU-Net gives an only modality."""
    names = [stem_of(file) for file in files]
    if all(_CHANNEL.fullmatch(name) and name.endswith(_FIRST) for name in names):
        return [name.removesuffix(_FIRST) for name in names]
    return names


def _series(folder: Path, warn: Warn) -> list[Case]:
    """The DICOM series below a folder that may be volumes, each named by its place there."""
    found = find_series(folder)
    if len(found) == 1:  # where it is no volume, reading it tells best why
        return [Case(stem_of(found[0].path) or _NAMELESS, (found[0].path,), label=None)]
    passed_over = [_passed_over(series) for series in found if series.flaw]
    if passed_over and len(passed_over) == len(found):
        raise DatasetProblems(passed_over, what="none of the DICOM series here is a volume")
    for warning in passed_over:
        warn(warning)
    paths = [series.path for series in found if not series.flaw]
    return [Case("_".join(path.relative_to(folder).parts) or stem_of(path), (path,), label=None) for path in paths]


def _passed_over(series: Series) -> DataError:
    said = f"{series.modality or '?'}, {series.description or 'no description'}, {series.slices} images"
    return DataError("a DICOM series is no volume", got=f"{series.path.name}: {series.flaw} ({said})", file=series.path)


def _joined(files: list[Path], plan: Plan) -> list[Case]:
    """One case for all files that differ in their modality's number alone."""
    channels: dict[str, dict[int, Path]] = {}
    for file in files:
        name, number = re.fullmatch(_CHANNEL, stem_of(file)).groups()  # type: ignore[union-attr]
        channels.setdefault(name, {})[int(number)] = file
    scans = []
    for name, found in channels.items():
        images = tuple(found.pop(number, None) for number in range(len(plan.modalities)))
        missing = [plan.modalities[number] for number, image in enumerate(images) if image is None]
        if found or (missing and not plan.allow_missing_modality):
            raise DataError(
                "the scan has not the model's modalities",
                expected=", ".join(f"_{number:04d} ({name})" for number, name in enumerate(plan.modalities)),
                got=f"no {' and no '.join(missing)}" if missing else f"{len(found)} more",
                hint="add the files; only a model trained with --allow-missing-modality can do without",
                case=name,
                file=next(iter([*found.values(), *filter(None, images)])),
            )
        scans.append(Case(name, images, label=None))
    return scans
