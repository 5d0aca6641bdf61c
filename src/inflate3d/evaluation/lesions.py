"""Detection of lesions: how many connected components are found, and how many are made up."""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool
from scipy import ndimage

_TOUCHING = np.ones((3, 3, 3), dtype=bool)
"""Voxels that share a face, an edge or a corner are of one component."""


def lesion_f1(prediction: Bool[np.ndarray, "d h w"], label: Bool[np.ndarray, "d h w"]) -> float:
    """F1 score of detected components, 2·TP/(2·TP+FP+FN).

    The rule of overlap is that of ISLES 2022 (Hernandez Petzsche et al. 2022, Sci Data 9:762): a component of the
    label is found where any of its voxels is predicted, and a component of the prediction is false where none of its
    voxels is labeled.

    Args:
        prediction: A mask with at least one voxel.
        label: Another one on the same grid.
    """
    missed, found = _without_and_with(label, prediction)
    false, _ = _without_and_with(prediction, label)
    return 2 * found / (2 * found + false + missed)


def _without_and_with(mask: Bool[np.ndarray, "d h w"], other: Bool[np.ndarray, "d h w"]) -> tuple[int, int]:
    """How many of a mask's components share no voxel with another mask, and how many do."""
    components = np.empty(mask.shape, np.int32)
    number = int(ndimage.label(mask, structure=_TOUCHING, output=components))  # pyright: ignore[reportArgumentType]
    touched = int(np.count_nonzero(np.bincount(components[other], minlength=number + 1)[1:]))
    return number - touched, touched
