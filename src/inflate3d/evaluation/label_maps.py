"""Scoring two folders of label maps, whatever program predicted them."""

from __future__ import annotations

import logging
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Integer

from inflate3d.datasets.case import target_values
from inflate3d.datasets.classes import IGNORED, class_numbers, map_labels
from inflate3d.datasets.regions import Regions
from inflate3d.errors import ConfigError, DataError, truncate
from inflate3d.evaluation.accumulator import ScoreAccumulator
from inflate3d.evaluation.groups import check_groups
from inflate3d.evaluation.measures import TOLERANCE
from inflate3d.evaluation.scores import Scores
from inflate3d.grid import common_grid
from inflate3d.io import SUFFIXES, lay_on, read_labels, scan_files, stem_of
from inflate3d.io.dicom.labels import kind_of, structure_names
from inflate3d.io.formats import dicom_suffix
from inflate3d.io.segments import plain_name
from inflate3d.progress import Progress, silent
from inflate3d.volume import Volume

_logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class LabelMaps:
    """Label maps with the same names in two folders.

    Attributes:
        pairs: Files of prediction and label by case, sorted.
        unpredicted: Labeled cases without a prediction.
    """

    pairs: dict[str, tuple[Path, Path]]
    unpredicted: tuple[str, ...]


def pair_label_maps(predictions: Path, labels: Path) -> LabelMaps:
    """Finds the label map with the same name for each prediction; suffixes may differ, DICOM objects included.

    Args:
        labels: A folder with the label maps to compare with; it may contain more.
    """
    predicted, labeled = _by_name(predictions), _by_name(labels)
    if unlabeled := [case for case in predicted if case not in labeled]:
        raise DataError(
            "predictions without a label map of the same name",
            expected=f"label maps in {labels}",
            got=truncate(unlabeled),
            hint="remove these predictions, or rename them like their label maps",
            case=unlabeled[0],
            file=predicted[unlabeled[0]],
        )
    return LabelMaps(
        pairs={case: (file, labeled[case]) for case, file in predicted.items()},
        unpredicted=tuple(case for case in labeled if case not in predicted),
    )


def score_label_maps(
    predictions: str | Path,
    labels: str | Path,
    *,
    classes: Mapping[int, str] | None = None,
    regions: Regions | None = None,
    ignore: int | None = None,
    groups: Mapping[str, Mapping[str, str]] | None = None,
    tolerance: float = TOLERANCE,
    progress: Progress = silent,
) -> Scores:
    """Scores a folder of predicted label maps, made by any program, against labels of the same names.

    Each case is scored on the grid of its label map. Structures of DICOM SEG and RTSTRUCT objects are classes by their
    names. Label maps without a prediction are not scored; a warning of the logger ``inflate3d`` names them.

    Examples:
        >>> import tempfile
        >>> import nibabel, numpy as np
        >>> root = Path(tempfile.mkdtemp())
        >>> label = np.zeros((8, 8, 4), np.uint8)
        >>> label[2:6, 2:6, 1:3] = 1
        >>> for folder in ("labels", "predictions"):
        ...     (root / folder).mkdir()
        ...     nibabel.Nifti1Image(label, np.eye(4)).to_filename(root / folder / "case1.nii.gz")
        >>> scores = score_label_maps(root / "predictions", root / "labels", classes={1: "liver"})
        >>> scores.mean(), scores.mean("hd95")
        (1.0, 0.0)

    Args:
        predictions: A folder of predicted label maps.
        labels: A folder of label maps; suffixes may differ.
        classes: Names of the label values to score, without 0; other values are background. By default, all values that
            occur are scored, named by their number; of DICOM objects, all structures by their names.
        regions: Unions of label values to score instead of classes; values in none of them are background.
        ignore: Label value of unlabeled voxels, which count in no measure.
        groups: By kind, such as ``site``, the group of each case. Intervals resample the cases of a ``patient`` (or
            ``subject`` or ``group``) together.
        tolerance: Distance in millimeters up to which a surface counts as matched in NSD.
        progress: Shows the progress.

    Raises:
        DataError: A folder or a file can't be read, a prediction has no label map or another grid, the predictions
            contain none of the labels' classes, or a kind of group contains none of the cases.
        ConfigError: The tolerance is negative, a class value is invalid, or there are more than 255 classes.
    """
    maps = pair_label_maps(Path(predictions), Path(labels))
    if maps.unpredicted:
        what = f"{len(maps.unpredicted)} label maps have no prediction and are not scored"
        _logger.warning("%s: %s", what, truncate(maps.unpredicted))
    if regions:
        classes = regions.name_values()
    if classes is None:
        classes = _named_classes(maps) or _find_classes(maps, ignore, progress)
    _check_classes(classes, ignore)
    structures = {plain_name(name): value for value, name in classes.items()}
    check_groups(groups or {}, maps.pairs)
    values = sorted(classes)
    accumulator = ScoreAccumulator(
        ("background", *(regions.names if regions else (classes[value] for value in values))),
        tolerance=tolerance,
        members=regions and regions.members([0, *values]),
    )
    ours: set[int] = set()
    theirs: set[int] = set()
    for case, (predicted, labeled) in progress(maps.pairs.items(), len(maps.pairs), "scoring"):
        prediction, label = _read_pair(predicted, labeled, structures, case)
        prediction = prediction.array[0]
        found = [np.unique(labels).tolist() for labels in (prediction, label.array[0])]
        ours.update(found[0])
        theirs.update(found[1])
        accumulator.add(
            case,
            _number_classes(prediction, found[0], classes, None),
            _number_classes(label.array[0], found[1], classes, ignore),
            label.spacing,
            groups={kind: group.get(case) for kind, group in (groups or {}).items()},
        )
    _check_found(target_values(classes, regions), ours - {0}, theirs - {0, ignore}, Path(predictions))
    return accumulator.scores()


def _by_name(folder: Path) -> dict[str, Path]:
    if not folder.is_dir():
        raise DataError("folder of label maps not found", file=folder)
    files: dict[str, Path] = {}
    objects = [file for file in sorted(folder.iterdir()) if not file.name.startswith(".") and kind_of(file)]
    for file in (*scan_files(folder), *objects):
        name = file.name.removesuffix(dicom_suffix(file.name)) if file in objects else stem_of(file)
        name = unicodedata.normalize("NFC", name.removesuffix(".seg"))  # 3D Slicer's .seg.nrrd; names from macOS
        if name in files:
            raise DataError("duplicate case name", got=f"{files[name].name}, {file.name}", file=folder)
        files[name] = file
    if not files:
        raise DataError(
            "no label maps in the folder",
            expected=f"files of {', '.join(SUFFIXES)}, or DICOM SEG and RTSTRUCT objects",
            got="none",
            file=folder,
        )
    return files


def _named_classes(maps: LabelMaps) -> dict[int, str] | None:
    """Classes for DICOM objects, whose structures have names; None if there are none.

    Raises:
        ConfigError: Other label maps are among them, whose values have no names.
    """
    files = [file for pair in maps.pairs.values() for file in pair]
    objects = [file for file in files if kind_of(file)]
    if not objects:
        return None
    if len(objects) < len(files):
        raise ConfigError(
            "DICOM objects name their structures, but other label maps number them",
            expected="--classes, such as liver=1 tumor=2",
            got=f"DICOM objects such as {objects[0].name}, and {next(iter(set(files) - set(objects))).name}",
        )
    spelled: dict[str, str] = {}
    for file in objects:
        for name in structure_names(file):
            spelled.setdefault(plain_name(name), name)
    return dict(enumerate((spelled[plain] for plain in sorted(spelled)), start=1))


def _read_pair(predicted: Path, labeled: Path, structures: Mapping[str, int], case: str) -> tuple[Volume, Volume]:
    """A prediction and its label, both on the grid of the label.

    Two SEG objects are on the smallest grid that has the voxels of both: empty slices are left out of either.
    """
    if kind_of(labeled) == "RTSTRUCT":
        if kind_of(predicted):
            raise DataError(
                "neither label map has the scan's full voxel grid, on which contours could be rasterized",
                expected="one of them as a file of voxels, such as .nii.gz",
                got=f"{predicted.name} and {labeled.name}",
                hint="predict without --format, or make label maps of a DICOM dataset by `inflate3d convert`",
                case=case,
                file=labeled,
            )
        prediction = read_labels(predicted, case=case, structures=structures)
        return prediction, read_labels(labeled, case=case, on=prediction.grid, structures=structures)
    label = read_labels(labeled, case=case, structures=structures)
    if not (kind_of(labeled) and kind_of(predicted) == "SEG"):
        prediction = read_labels(predicted, case=case, on=label.grid, structures=structures)
        return lay_on(prediction, label, case=case, file=predicted), label
    prediction = read_labels(predicted, case=case, structures=structures)
    try:
        grid = common_grid(label.grid, prediction.grid)
        return prediction.match_geometry(grid), label.match_geometry(grid)
    except DataError as error:
        raise error.with_context(case=case, file=predicted) from error


def _find_classes(maps: LabelMaps, ignore: int | None, progress: Progress) -> dict[int, str]:
    predicted: set[int] = set()
    labeled: set[int] = set()
    for case, files in progress(maps.pairs.items(), len(maps.pairs), "looking for classes"):
        for file, values in zip(files, (predicted, labeled), strict=True):
            values.update(np.unique(read_labels(file, case=case).array).tolist())
    classes = {value: str(value) for value in sorted((predicted | labeled) - {0, ignore})}
    file = next(iter(maps.pairs.values()))[1]
    if not classes:
        raise DataError("all label maps contain only background", file=file.parent)
    folder = next(iter(maps.pairs.values()))[0].parent
    _check_found(target_values(classes, None), predicted - {0}, labeled - {0, ignore}, folder)
    return classes


def _check_found(targets: Mapping[str, tuple[int, ...]], ours: set[int], theirs: set[int], folder: Path) -> None:
    """If no value is in both, such as with masks of 0/255 and of 0/1, every score would silently be 0."""
    known = {value for held in targets.values() for value in held}
    in_ours, in_theirs = ({name for name, held in targets.items() if some & {*held}} for some in (ours, theirs))
    if theirs and not in_theirs:
        raise DataError(
            "no label map has any of the classes",
            expected=truncate([f"{', '.join(map(str, held))} ({name})" for name, held in targets.items()]),
            got=truncate(list(map(str, sorted(theirs)))),
            hint="check the values given to --classes",
        )
    if ours and theirs and not in_ours & in_theirs:
        raise DataError(
            "predictions and labels have no class in common",
            expected=truncate(list(map(str, sorted(known & theirs)))),
            got=truncate(list(map(str, sorted(ours)))),
            hint="store the predictions with the values of the labels: a mask of 0 and 255 as 0 and 1, for example",
            file=folder,
        )
    for name, held in targets.items():
        where = [what for what, found in (("prediction", in_ours), ("label map", in_theirs)) if name not in found]
        if where:
            _logger.warning("no %s has the class %s (value %s)", " or ".join(where), name, ", ".join(map(str, held)))
    if others := sorted({*ours, *theirs} - known):
        _logger.warning("scored as background: values %s", truncate(list(map(str, others))))


def _check_classes(classes: Mapping[int, str], ignore: int | None) -> None:
    wrong = [f"{name}={value}" for value, name in classes.items() if value <= 0 or value == ignore]
    if wrong:
        raise ConfigError(
            "invalid value for a class",
            expected="1 or more and not the ignored value; 0 is the background, which is not scored",
            got=truncate(wrong),
            hint="leave it out of --classes",
        )
    if len(classes) >= IGNORED:
        raise ConfigError(
            "too many label values",
            expected=f"at most {IGNORED - 1}",
            got=f"{len(classes)}, such as {truncate([str(value) for value in classes])}",
            hint="check that these are label maps, not scans, or name the values to score with --classes",
        )


def _number_classes(
    labels: Integer[np.ndarray, "i j k"], found: list[int], classes: Mapping[int, str], ignore: int | None
) -> Integer[np.ndarray, "i j k"]:
    """Maps label values to class numbers 0 to K-1 in ascending order, and `IGNORED`; other values are background.

    Args:
        ignore: The label value that becomes `IGNORED`.
    """
    numbers = class_numbers({0: "background"} | dict(sorted(classes.items())), ignore=ignore)
    return map_labels(labels, {value: numbers.get(value, 0) for value in found})
