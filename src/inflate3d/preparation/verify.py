"""Whether scans and label maps can be used, told before anything is made from them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from inflate3d.datasets.case import Case, Dataset
from inflate3d.errors import DataError, DatasetProblems
from inflate3d.io import check_same_grid, read_images, read_labels
from inflate3d.volume import Volume


def check_case(case: Case, dataset: Dataset) -> tuple[Volume, Volume]:
    """Reads a labelled case and checks all that can be known from it alone.

    Args:
        case: The case.
        dataset: The data set that it belongs to, which says how many modalities and which classes to expect.

    Returns:
        The scan ``(C, I, J, K)`` and its label map ``(1, I, J, K)``, on one grid. The labels may be all
        background.

    Raises:
        DatasetProblems: All that is wrong with the case: files that are missing, damaged or not volumes, NaN
            or infinite voxels, another number of modalities than the data set's, a label map on another grid
            than the scan's, labels that are no whole numbers or no class of the data set's.
    """
    problems: list[DataError] = []
    volume = labels = None
    try:
        volume = read_images(case.images, case=case.id)
        _check_modalities(volume, case, dataset)
    except DataError as error:
        problems.append(error)
    try:
        labels = _read_labels_of(case)
        if volume is not None:
            check_same_grid(labels, volume, case=case.id, file=case.label)
    except DataError as error:
        problems.append(error)
    if labels is not None:
        problems.extend(_class_problems(labels, case, dataset))
    if problems:
        raise DatasetProblems(problems)
    assert volume is not None and labels is not None
    return volume, labels


def check_classes(dataset: Dataset, class_voxels: Sequence[Mapping[int, int]]) -> list[DataError]:
    """What is wrong with the labels of all cases taken together.

    Args:
        dataset: The data set.
        class_voxels: Number of voxels of each label value, case by case.

    Returns:
        One error if no case has any label, or else one for each class that no case has.
    """
    seen = {value for voxels in class_voxels for value, count in voxels.items() if count}
    wanted = [value for value in dataset.classes if value != 0]
    if not seen.intersection(wanted):
        return [
            DataError(
                "the label maps of all cases are empty",
                expected=f"some voxels of {', '.join(dataset.classes[value] for value in wanted)}",
                got="background alone",
                remedy="check that the label maps, not the scans of a test set, are listed",
                file=dataset.root,
            )
        ]
    return [
        DataError(
            "a class occurs in no case",
            expected=f"voxels of {value} ({dataset.classes[value]}) in some case",
            remedy="correct the data set's list of classes, or take the class out of it",
            file=dataset.root,
        )
        for value in wanted
        if value not in seen
    ]


def _check_modalities(volume: Volume, case: Case, dataset: Dataset) -> None:
    if len(volume.array) != len(dataset.modalities):
        raise DataError(
            "the scan has another number of modalities than the data set",
            expected=f"{len(dataset.modalities)} ({', '.join(dataset.modalities)})",
            got=len(volume.array),
            case=case.id,
            file=case.images[0],
        )


def _read_labels_of(case: Case) -> Volume:
    if case.label is None:
        raise DataError("the case has no label map", case=case.id, file=case.images[0])
    return read_labels(case.label, case=case.id)


def _class_problems(labels: Volume, case: Case, dataset: Dataset) -> list[DataError]:
    values, counts = np.unique(labels.array, return_counts=True)
    unknown = [
        f"{value} in {count} voxels"
        for value, count in zip(values.tolist(), counts.tolist(), strict=True)
        if value not in dataset.classes
    ]
    if not unknown:
        return []
    return [
        DataError(
            "labels are none of the data set's classes",
            expected=", ".join(f"{value} ({name})" for value, name in dataset.classes.items()),
            got=", ".join(unknown[:5]) + (", ..." if len(unknown) > 5 else ""),
            remedy="name them in the data set's list of classes, or correct the label map",
            case=case.id,
            file=case.label,
        )
    ]
