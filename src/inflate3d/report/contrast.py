"""Which voxel values are drawn black and white where no plan says it."""

from __future__ import annotations

import numpy as np
from jaxtyping import Shaped

SOFT_TISSUE = (-160.0, 240.0)
"""Hounsfield units of the window for soft tissue: level 40, width 400."""

_AIR, _NOT_AIR = -500.0, 100.0
_SAMPLE = 1_000_000


def display_range(channel: Shaped[np.ndarray, "..."]) -> tuple[float, float]:
    """The voxel values that are drawn black and white.

    A scan whose values reach from air to more than water on Hounsfield's scale is taken for CT and shown in the
    window for soft tissue. All others (MR, PET, cropped CT) show from the 0.5th to the 99.5th percentile of the
    voxels above the least value, which is what lies outside the body.

    Args:
        channel: One modality's voxel values.
    """
    values = channel.ravel()
    values = values[:: max(1, values.size // _SAMPLE)]
    lowest, high = (float(value) for value in (values.min(), np.percentile(values, 99.5)))
    if -3100 < lowest < _AIR and high > -100 and np.mean(values > _NOT_AIR) < 0.9 and float(values.max()) > _NOT_AIR:
        return SOFT_TISSUE
    inside = values[values > lowest]
    if not len(inside):
        return lowest, lowest + 1.0
    low, high = (float(value) for value in np.percentile(inside, (0.5, 99.5)))
    return low, high if high > low else low + 1.0
