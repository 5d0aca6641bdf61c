"""Combines one mask per class into one label map."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from jaxtyping import Integer, UInt8

from inflate3d.errors import DataError
from inflate3d.io import lay_on, read_labels
from inflate3d.volume import Volume


def combine_masks(masks: Mapping[str, Path], values: Mapping[str, int], *, case: str) -> tuple[Volume, int]:
    """Combines the masks of a case into one label map.

    Where masks overlap, the class with fewer voxels is kept, so that a lesion is not hidden by its organ.

    Args:
        masks: The mask of each class: 0 outside, one other value inside.
        values: The label value of each class.

    Returns:
        The label map ``(1, I, J, K)`` on the first mask's grid, and how many voxels are in several masks.
    """
    first: Volume | None = None
    packed: dict[str, UInt8[np.ndarray, " bytes"]] = {}  # an eighth of the memory
    voxels: dict[str, int] = {}
    for name, path in masks.items():
        mask = read_labels(path, case=case)
        first = first or mask
        array = lay_on(mask, first, case=case, file=path).array
        found = np.unique(array).tolist()
        if len(set(found) - {0}) > 1:
            raise DataError(
                "a mask holds several values",
                expected="0 and one other value",
                got=f"{len(found)} values, up to {found[-1]}",
                hint="if it is a label map of all classes, list it by hand in cases.csv",
                case=case,
                file=path,
            )
        packed[name] = np.packbits(array != 0)
        voxels[name] = int(np.count_nonzero(array))
    assert first is not None, "a case has a mask"
    labels: Integer[np.ndarray, "1 i j k"] = np.zeros(first.array.shape, np.min_scalar_type(max(values.values())))
    for name in sorted(packed, key=lambda name: (-voxels[name], name)):
        labels[np.unpackbits(packed[name], count=labels.size).reshape(labels.shape).astype(bool)] = values[name]
    return Volume(labels, first.affine), sum(voxels.values()) - int(np.count_nonzero(labels))
