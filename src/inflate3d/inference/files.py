"""Predicting scans: each label map is written whole, on its scan's own grid."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from inflate3d.datasets.case import Case
from inflate3d.errors import DataError
from inflate3d.inference.predictor import Predictor
from inflate3d.io import SUFFIXES, find_series, label_name, read_images, scan_files, stem_of, write_labels
from inflate3d.io.formats import suffix_of
from inflate3d.preparation.plan import Plan
from inflate3d.progress import Progress, silent

_CHANNEL = re.compile(r"(.+)_(\d{4})")
"""A file of one modality, as nnU-Net names them."""


def find_scans(path: Path, plan: Plan) -> list[Case]:
    """The scans that a path names, sorted by name.

    Args:
        path: A scan (see `inflate3d.io.read_volume`), a folder of scan files, or a folder with DICOM series,
            in sub-folders too. Files ``CASE_0000``, ``CASE_0001``, ... are the modalities of one scan where
            the plan has several.
        plan: Which modalities there have to be, and whether some may be missing.

    Raises:
        DataError: There is nothing to predict, two scans have one name, or a modality is missing.
    """
    files = scan_files(path) if path.is_dir() else [path]
    if not files:
        scans = _series(path)
    elif len(plan.modalities) > 1 and path.is_dir() and all(_CHANNEL.fullmatch(stem_of(file)) for file in files):
        scans = _joined(files, plan)
    else:
        scans = [Case(stem_of(file), (file,), label=None) for file in files]
    if not scans:
        raise DataError(
            "no scans here",
            file=path,
            expected=f"a scan file, a DICOM series, or a folder of them ({', '.join(SUFFIXES)})",
            got="none",
        )
    return scans


def predict_files(
    predictor: Predictor,
    scans: list[Case],
    folder: Path,
    *,
    suffix: str | None = None,
    progress: Progress = silent,
    warn: Callable[[DataError], object] = lambda warning: None,
) -> list[Path]:
    """Segments scans and writes their label maps, named as the scans are.

    Args:
        predictor: The trained network.
        scans: What to segment.
        folder: Where the label maps go.
        suffix: Format of the label maps, such as ``.nrrd``; the scan's own if not given, NIfTI for DICOM.
        progress: Shows how far it is.
        warn: Told of everything odd about a scan that is no reason to stop.

    Returns:
        The files written.

    Raises:
        DataError: A scan can't be read or does not fit the model; those before it are written.
        ConfigError: Label maps can't be written in this format.
        OutputError: A label map can't be written; no part of it is left.
    """
    targets = [folder / label_name(scan.scan.with_name(scan.id + suffix_of(scan.scan)), suffix) for scan in scans]
    _check_targets(scans, targets)
    written: list[Path] = []
    for scan, target in progress(zip(scans, targets, strict=True), len(scans), "predicting"):
        volume = read_images(scan.images, case=scan.id)
        for note in volume.notes:
            warn(DataError(note, case=scan.id, file=scan.scan))
        try:
            labels = predictor.predict(volume)
        except DataError as error:
            raise error.about(case=scan.id, file=scan.scan) from error
        write_labels(target, labels, like=scan.scan)
        written.append(target)
    return written


def _series(folder: Path) -> list[Case]:
    """The DICOM series below a folder, each named by its place there."""
    series = [one.path for one in find_series(folder)]
    if len(series) == 1:
        return [Case(stem_of(series[0]), (series[0],), label=None)]
    return [Case("_".join(path.relative_to(folder).parts) or stem_of(path), (path,), label=None) for path in series]


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
                remedy="add the files; only a model trained with --allow-missing-modality can do without",
                case=name,
                file=next(iter([*found.values(), *filter(None, images)])),
            )
        scans.append(Case(name, images, label=None))
    return scans


def _check_targets(scans: list[Case], targets: list[Path]) -> None:
    several = Counter(targets)
    for scan, target in zip(scans, targets, strict=True):
        if several[target] > 1:
            raise DataError(
                "two scans have one name",
                got=f"{several[target]} label maps would go to {target.name}",
                remedy="predict them one after another, into different folders",
                case=scan.id,
                file=scan.scan,
            )
        if target.resolve() in {image.resolve() for image in scan.images if image}:
            raise DataError(
                "label map would overwrite its scan",
                case=scan.id,
                file=target,
                remedy="choose another folder for the result",
            )
