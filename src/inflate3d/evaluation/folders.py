"""Scoring two folders of label maps, whatever program predicted them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Integer

from inflate3d.datasets.classes import IGNORED, class_numbers, map_labels
from inflate3d.errors import ConfigError, DataError, truncate
from inflate3d.evaluation.groups import check_groups
from inflate3d.evaluation.keeper import ScoreKeeper
from inflate3d.evaluation.measures import TOLERANCE, Tolerance
from inflate3d.evaluation.scores import Scores
from inflate3d.io import SUFFIXES, lay_on, read_labels, scan_files, stem_of
from inflate3d.progress import Progress, silent


@dataclass(frozen=True)
class LabelMaps:
    """Label maps of two folders that have the same names.

    Attributes:
        pairs: By case, its prediction's and its label's file, sorted by case.
        unpredicted: Labeled cases without a prediction.
    """

    pairs: dict[str, tuple[Path, Path]]
    unpredicted: tuple[str, ...]


def pair_label_maps(predictions: Path, labels: Path) -> LabelMaps:
    """Finds for each prediction the label map of its name; suffixes may differ.

    Args:
        predictions: A folder of predicted label maps.
        labels: A folder of label maps to hold them against; it may hold more.

    Raises:
        DataError: A folder is missing or holds no scan file, two files in it have one name, or a prediction has no
            label map.
    """
    predicted, labeled = _by_name(predictions), _by_name(labels)
    if unlabeled := [case for case in predicted if case not in labeled]:
        raise DataError(
            "predictions have no label map of their name",
            expected=f"label maps in {labels}",
            got=truncate(unlabeled),
            hint="remove these predictions, or name them as their label maps",
            case=unlabeled[0],
            file=predicted[unlabeled[0]],
        )
    return LabelMaps(
        pairs={case: (file, labeled[case]) for case, file in predicted.items()},
        unpredicted=tuple(case for case in labeled if case not in predicted),
    )


def score_label_maps(
    maps: LabelMaps,
    *,
    classes: Mapping[int, str] | None = None,
    ignore: int | None = None,
    groups: Mapping[str, Mapping[str, str]] | None = None,
    tolerance: Tolerance = TOLERANCE,
    progress: Progress = silent,
) -> Scores:
    """Scores predictions against labels, each on the grid of its own label map.

    Args:
        maps: Their files.
        classes: Names of the label values to score, 0 not among them; without, all values that are found in a label
            map or a prediction are scored, named by their number.
        ignore: Label value of voxels that nobody labeled: they count in no measure.
        groups: By kind, such as ``site``, the group of each case.
        tolerance: Millimeters within which a surface counts as right, for all classes or by class.
        progress: Shows how far it is.

    Raises:
        DataError: A file can't be read, lies on another grid than its label map, or holds a value that is no class;
            a kind of group has none of the cases.
        ConfigError: A tolerance is negative, or given for a class that there is not; a value can't be a class, or
            there are more classes than a byte can number.
    """
    if classes is None:
        classes = _classes_found(maps, ignore, progress)
    _check_classes(classes, ignore)
    check_groups(groups or {}, maps.pairs)
    names = ("background", *(classes[value] for value in sorted(classes)))
    keeper = ScoreKeeper(names, tolerance=tolerance)
    for case, (predicted, labeled) in progress(maps.pairs.items(), len(maps.pairs), "scoring"):
        label = read_labels(labeled, case=case)
        prediction = lay_on(read_labels(predicted, case=case), label, case=case, file=predicted)
        ours = torch.from_numpy(_class_numbers(prediction.array[0], classes, None, case=case, file=predicted))
        truth = torch.from_numpy(_class_numbers(label.array[0], classes, ignore, case=case, file=labeled))
        keeper.add_native(case, ours, truth)
        keeper.add_surfaces(case, ours, truth, label.spacing)
        for kind, group in (groups or {}).items():
            keeper.add_group(case, kind, group.get(case))
    return keeper.scores()


def _by_name(folder: Path) -> dict[str, Path]:
    if not folder.is_dir():
        raise DataError("the folder of label maps does not exist", file=folder)
    files: dict[str, Path] = {}
    for file in scan_files(folder):
        if (name := stem_of(file)) in files:
            raise DataError("two label maps have one name", got=f"{files[name].name}, {file.name}", file=folder)
        files[name] = file
    if not files:
        raise DataError("no label maps here", expected=f"files of {', '.join(SUFFIXES)}", got="none", file=folder)
    return files


def _classes_found(maps: LabelMaps, ignore: int | None, progress: Progress) -> dict[int, str]:
    values: set[int] = set()
    for case, files in progress(maps.pairs.items(), len(maps.pairs), "looking for classes"):
        for file in files:
            values.update(np.unique(read_labels(file, case=case).array).tolist())
    if not (classes := {value: str(value) for value in sorted(values - {0, ignore})}):
        raise DataError("no class is in any label map", got="0 alone", file=next(iter(maps.pairs.values()))[1])
    return classes


def _check_classes(classes: Mapping[int, str], ignore: int | None) -> None:
    wrong = [f"{name}={value}" for value, name in classes.items() if value <= 0 or value == ignore]
    if wrong:
        raise ConfigError(
            "a label value can't be a class",
            expected="values from 1 on, the ignored one not among them; 0 is the background, which is not scored",
            got=truncate(wrong),
            hint="leave it out of --classes",
        )
    if len(classes) >= IGNORED:
        raise ConfigError(
            "there are too many label values for all to be classes",
            expected=f"at most {IGNORED - 1}",
            got=f"{len(classes)}, such as {truncate([str(value) for value in classes])}",
            hint="check that label maps, not scans, are given, or name some values by --classes",
        )


def _class_numbers(
    labels: Integer[np.ndarray, "i j k"], classes: Mapping[int, str], ignore: int | None, *, case: str, file: Path
) -> Integer[np.ndarray, "i j k"]:
    """Turns label values into class numbers 0 to K-1 in ascending label value, and `IGNORED`."""
    names = {0: "background"} | dict(sorted(classes.items()))
    try:
        return map_labels(labels, class_numbers(names, ignore=ignore), names)
    except DataError as error:
        raise DataError(
            error.what,
            expected=error.expected,
            got=error.got,
            hint="name these values by --classes, or leave voxels of one value out by --ignore",
            case=case,
            file=file,
        ) from error
