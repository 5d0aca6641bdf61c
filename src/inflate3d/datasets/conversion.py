"""The cases of one layout, read to be written in another: scans as they are, labels by new values."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from jaxtyping import Integer

from inflate3d.datasets.case import Case, Dataset
from inflate3d.datasets.classes import map_labels
from inflate3d.errors import ConfigError, DataError
from inflate3d.io import SUFFIXES, lay_on, read_images, read_labels
from inflate3d.volume import Volume


def check_suffix(suffix: str) -> None:
    """Makes sure that files of a suffix can be written.

    Raises:
        ConfigError: They can't.
    """
    if suffix not in SUFFIXES:
        raise ConfigError(
            "scans can't be written in this format", expected=f"one of {', '.join(SUFFIXES)}", got=repr(suffix)
        )


def read_case(case: Case, dataset: Dataset, values: Mapping[int, int]) -> tuple[Volume, Integer[np.ndarray, "i j k"]]:
    """Reads a labeled case and gives its labels other values.

    Args:
        case: The case; a modality that is missing becomes zeros.
        dataset: The dataset that it belongs to, which says how many modalities to expect.
        values: The new value of every label value that may occur.

    Returns:
        The scan ``(C, I, J, K)`` and its labels ``(I, J, K)``, on one grid.

    Raises:
        DataError: A file can't be read, the scan has another number of modalities, the labels lie on another grid or
            hold a value that has no new one.
    """
    volume = read_images(case.images, case=case.id)
    if len(volume.array) != len(dataset.modalities):
        raise DataError(
            "the scan has another number of modalities than the dataset",
            expected=f"{len(dataset.modalities)} ({', '.join(dataset.modalities)})",
            got=len(volume.array),
            case=case.id,
            file=case.scan,
        )
    if case.label is None:
        raise DataError("the case has no label map", case=case.id, file=case.scan)
    labels = lay_on(read_labels(case.label, case=case.id), volume, case=case.id, file=case.label)
    try:
        return volume, map_labels(labels.array[0], values)
    except DataError as error:
        raise DataError(
            error.what,
            expected=error.expected,
            got=error.got,
            hint="name them in the dataset's list of classes, or correct the label map",
            case=case.id,
            file=case.label,
        ) from error
