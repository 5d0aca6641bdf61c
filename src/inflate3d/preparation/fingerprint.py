"""What a data set's cases are like: measured once, the plan is made from it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TypeVar

import numpy as np
from jaxtyping import Integer, Shaped

from inflate3d.config import FrozenModel
from inflate3d.volume import Volume

Number = TypeVar("Number", int, float)

MAX_SAMPLES = 200_000
"""Voxels looked at for a percentile; beyond that a regular subset gives the same figure."""


class Intensities(FrozenModel):
    """How one modality's voxel values are distributed, over some set of voxels."""

    mean: float
    deviation: float
    percentile_00_5: float
    percentile_99_5: float


class CaseFingerprint(FrozenModel):
    """One case, measured on its own grid.

    ``shape`` and ``spacing`` (mm) follow the RAS+ axes: left-right, posterior-anterior, inferior-superior.
    """

    case: str
    shape: tuple[int, int, int]
    spacing: tuple[float, float, float]
    orientation: str
    whole: tuple[Intensities, ...]
    foreground: tuple[Intensities, ...] | None
    class_voxels: dict[int, int]


class Fingerprint(FrozenModel):
    """All cases of a data set."""

    cases: tuple[CaseFingerprint, ...]

    def median_shape(self) -> tuple[float, float, float]:
        """Median number of voxels along the RAS+ axes."""
        i, j, k = (float(n) for n in np.median([case.shape for case in self.cases], axis=0))
        return i, j, k

    def median_spacing(self) -> tuple[float, float, float]:
        """Median millimetres between voxels along the RAS+ axes."""
        i, j, k = (float(n) for n in np.median([case.spacing for case in self.cases], axis=0))
        return i, j, k


def measure_case(case: str, volume: Volume, labels: Integer[np.ndarray, "i j k"]) -> CaseFingerprint:
    """Measures one case.

    Args:
        case: Its id.
        volume: The scan, ``(C, I, J, K)``.
        labels: Its label map on the same grid, ``(I, J, K)``; 0 is background.
    """
    import nibabel

    world = nibabel.orientations.io_orientation(volume.affine)[:, 0].astype(int)
    ordered = np.argsort(world)  # voxel axes in the order of the world axes
    values, counts = np.unique(labels, return_counts=True)
    inside = labels > 0
    return CaseFingerprint(
        case=case,
        shape=_triple(int(volume.shape[axis]) for axis in ordered),
        spacing=_triple(volume.spacing[axis] for axis in ordered),
        orientation="".join(str(code) for code in nibabel.aff2axcodes(volume.affine)),
        whole=tuple(measure_intensities(channel) for channel in volume.array),
        foreground=tuple(measure_intensities(channel[inside]) for channel in volume.array) if inside.any() else None,
        class_voxels={int(value): int(count) for value, count in zip(values, counts, strict=True)},
    )


def measure_intensities(values: Shaped[np.ndarray, "..."]) -> Intensities:
    """Mean, deviation and percentiles of voxel values of any shape, at least one."""
    flat = values.reshape(-1)
    sample = flat[:: max(1, flat.size // MAX_SAMPLES)].astype(np.float64)
    low, high = np.percentile(sample, [0.5, 99.5])
    return Intensities(
        mean=float(sample.mean()),
        deviation=float(sample.std()),
        percentile_00_5=float(low),
        percentile_99_5=float(high),
    )


def merge_intensities(parts: Sequence[Intensities]) -> Intensities:
    """The median case's figures: one wild case moves none of them."""
    return Intensities(
        **{name: float(np.median([getattr(part, name) for part in parts])) for name in Intensities.model_fields}
    )


def _triple(values: Iterable[Number]) -> tuple[Number, Number, Number]:
    first, second, third = values
    return first, second, third
