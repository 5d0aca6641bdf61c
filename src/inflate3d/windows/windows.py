"""Windows of a few neighboring slices; the end slices are repeated beyond a volume's ends."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Int


def window_indices(
    centers: Sequence[int] | Int[np.ndarray, " b"], depth: int, stride: int, length: int
) -> Int[np.ndarray, "b depth"]:
    """Indices of the slices in windows, for training and prediction.

    Beyond the ends of the volume the end slice is repeated.

    Args:
        stride: Steps from one slice of a window to the next; 1 takes neighbors.

    Returns:
        ``(len(centers), depth)``, ascending in each row.

    Examples:
        >>> window_indices([0, 4], depth=5, stride=1, length=9)
        array([[0, 0, 0, 1, 2],
               [2, 3, 4, 5, 6]])
    """
    offsets = stride * (np.arange(depth) - depth // 2)
    return (np.asarray(centers)[:, None] + offsets).clip(0, length - 1)
