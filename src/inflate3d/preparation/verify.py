"""Checks of scans and label maps before they are used."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Integer

from inflate3d.datasets.case import Case, Dataset
from inflate3d.errors import DataError, DatasetProblems, Inflate3dError, truncate
from inflate3d.io import lay_on, read_images, read_labels, read_volume
from inflate3d.volume import Volume

_MASK = 255
"""Foreground in masks of image editors; some annotators use it for unlabeled voxels."""

_COUNTED_VALUES = 2**16
"""Label values below this are counted in a table; larger ones by sorting, which is ten times slower."""


def check_case(case: Case, dataset: Dataset, *, allow_missing_modality: bool = False) -> tuple[Volume, Volume]:
    """Reads a labeled case, and checks everything that can be checked in it alone.

    Args:
        dataset: Its dataset, with the expected modalities and label values.

    Returns:
        The scan ``(C, I, J, K)`` and its label map ``(1, I, J, K)`` with the file's values, on one grid. Labels may be
        empty.
    """
    problems: list[Inflate3dError] = []
    if not allow_missing_modality:
        problems.extend(_missing_modalities(case, dataset))
    volume = labels = None
    try:
        volume = _read_scan(case)
        _check_modalities(volume, case, dataset)
    except DatasetProblems as error:
        problems.extend(error.problems)
    except DataError as error:
        problems.append(error)
    try:
        labels = _read_labels_of(case, dataset, volume)
        if volume is not None:
            labels = lay_on(labels, volume, case=case.id, file=case.label)
    except DataError as error:
        problems.append(error)
    if labels is not None:
        problems.extend(_label_problems(labels, case, dataset))
    if problems:
        raise DatasetProblems(problems)
    assert volume is not None and labels is not None
    return volume, labels


def check_classes(
    dataset: Dataset, class_voxels: Sequence[Mapping[int, int]], *, may_lack: bool = False
) -> list[DataError]:
    """Problems with the labels of all cases taken together.

    Args:
        class_voxels: Number of voxels of each label value, after merging, case by case.
        may_lack: Whether classes that no case has are allowed, as long as there is another.

    Returns:
        One error if no case has any label, otherwise one for each class or region that no case has.
    """
    seen = {value for voxels in class_voxels for value, count in voxels.items() if count}
    wanted = {name: held for name, held in dataset.targets.items() if dataset.ignore not in held}
    if all(seen.isdisjoint(held) for held in wanted.values()):
        return [
            DataError(
                "all label maps contain only background",
                expected=f"some voxels of {', '.join(wanted)}",
                got="only background",
                hint="check that label maps are listed, not test scans",
                file=dataset.root,
            )
        ]
    return [
        DataError(
            f"{'region' if dataset.regions else 'class'} not found in any case",
            expected=f"voxels of {' or '.join(map(str, held))} ({name}) in some case",
            hint=f"correct or shorten the dataset's list of {'regions' if dataset.regions else 'classes'}",
            file=dataset.root,
        )
        for name, held in wanted.items()
        if seen.isdisjoint(held) and not may_lack
    ]


def _missing_modalities(case: Case, dataset: Dataset) -> list[DataError]:
    return [
        DataError(
            "missing modality",
            expected=f"a file of {name}",
            hint="add the file, leave the case out, or use --allow-missing-modality to fill it with zeros",
            case=case.id,
            file=next((image for image in case.images if image is not None), case.label),
        )
        for name, image in zip(dataset.modalities, case.images, strict=False)
        if image is None
    ]


def _read_scan(case: Case) -> Volume:
    """Reads all images, or raises what is wrong with each."""
    if not any(case.images):
        raise DataError("case without a scan", hint="leave the case out", case=case.id, file=case.label)
    try:
        return read_images(case.images, case=case.id)
    except DataError as error:
        raise DatasetProblems(_image_problems(case) or [error]) from error


def _image_problems(case: Case) -> list[DataError]:
    """Reads one image at a time, after reading them together has failed."""
    problems: list[DataError] = []
    first: Volume | None = None
    for path in filter(None, case.images):
        try:
            volume = read_volume(path, case=case.id)
            first = first or volume
            lay_on(volume, first, case=case.id, file=path)
        except DataError as error:
            problems.append(error)
    return problems


def _check_modalities(volume: Volume, case: Case, dataset: Dataset) -> None:
    if len(volume.array) != len(dataset.modalities):
        raise DataError(
            "number of modalities differs from the dataset's",
            expected=f"{len(dataset.modalities)} ({', '.join(dataset.modalities)})",
            got=len(volume.array),
            hint="correct the dataset's list of modalities, or the scan",
            case=case.id,
            file=case.scan,
        )


def _read_labels_of(case: Case, dataset: Dataset, scan: Volume | None) -> Volume:
    if case.label is None:
        raise DataError(
            "case without a label map", hint="label it, or leave the case out", case=case.id, file=case.scan
        )
    grid = None if scan is None else scan.grid
    return read_labels(case.label, case=case.id, on=grid, structures=dataset.structures or None)


def _label_problems(labels: Volume, case: Case, dataset: Dataset) -> list[DataError]:
    counts = _count_values(labels.array)
    unknown = {value: count for value, count in counts.items() if value not in dataset.label_values}
    if not unknown:
        return []
    found = [f"{value} in {count} voxels" for value, count in unknown.items()]
    return [
        DataError(
            "unknown label values",
            expected=", ".join(f"{value} ({name})" for value, name in dataset.classes.items()),
            got=truncate(found),
            hint=_label_hint(set(counts), set(unknown)),
            case=case.id,
            file=case.label,
        )
    ]


def _label_hint(values: set[int], unknown: set[int]) -> str:
    if values <= {0, _MASK}:
        return (
            f"this is a mask of 0 and {_MASK}: list {_MASK} as the class (`inflate3d init` proposes such a "
            f"list), or divide the mask by {_MASK}"
        )
    listed = "name them in the dataset's list of classes (`inflate3d init` proposes one), or correct the label map"
    if unknown == {_MASK}:
        return f"if {_MASK} marks voxels that nobody labeled, give --ignore {_MASK}; else {listed}"
    return listed


def _count_values(labels: Integer[np.ndarray, "1 i j k"]) -> dict[int, int]:
    """Number of voxels of each label value, ascending."""
    if labels.max() < _COUNTED_VALUES:
        # plane by plane, since bincount copies what it counts to 64 bits
        counts = np.zeros(int(labels.max()) + 1, np.int64)
        for plane in labels.T:
            counts += np.bincount(plane.ravel(), minlength=len(counts))
        return {value: int(counts[value]) for value in np.flatnonzero(counts).tolist()}
    values, numbers = np.unique(labels, return_counts=True)
    return dict(zip(values.tolist(), numbers.tolist(), strict=True))
