"""The fingerprint of a dataset: measurements of its cases, from which the plan is made."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from hashlib import blake2b
from math import gcd
from pathlib import Path
from types import MappingProxyType
from typing import TypeVar

import numpy as np
from jaxtyping import Integer, Shaped
from pydantic import Field

from inflate3d.datasets.case import Dataset
from inflate3d.orientation import Orientation
from inflate3d.preparation.file_signatures import FileSignature, changed_files, sign_case
from inflate3d.settings import FrozenModel
from inflate3d.units import Unit
from inflate3d.volume import Volume

Number = TypeVar("Number", int, float)

LARGEST_NUMBER = 2**16
"""Largest label value that is counted."""

MAX_SAMPLES = 200_000
"""Voxels used for a percentile; of more, a regular subset gives the same figure."""


class Intensities(FrozenModel):
    """Distribution of one modality's voxel values over some set of voxels."""

    mean: float
    deviation: float
    percentile_00_5: float
    percentile_05_0: float
    percentile_50_0: float
    percentile_95_0: float
    percentile_99_5: float


class CaseFingerprint(FrozenModel):
    """One case, measured on its own grid.

    Values along three axes are in RAS+ order: left-right, posterior-anterior, inferior-superior. Labels are counted
    after merging.

    Attributes:
        shape: Number of voxels along each axis.
        spacing: Millimeters between voxels along each axis.
        orientation: Directions of the file's axes, such as ``"LPS"``.
        whole: For each modality, the values of all voxels.
        foreground: For each modality, the values of voxels with a class; empty without such voxels.
        outside: For each modality, the values of background voxels; empty without such voxels.
        ranges: Lowest and highest value of each modality.
        missing: Numbers of missing modalities, which are zeros.
        class_voxels: Number of voxels by label value, background and ignored voxels included.
        class_slices: Number of slices with each class, along each axis.
        data_type: The voxels' type, such as ``"int16"``.
        image_hash: Hash of all voxels in RAS+ order.
        files: Its files; empty if it was measured in memory.
        units: The unit of each modality in which it was measured; empty if no file states one.
    """

    case: str
    shape: tuple[int, int, int]
    spacing: tuple[float, float, float]
    orientation: str
    whole: tuple[Intensities, ...]
    foreground: tuple[Intensities, ...] | None
    outside: tuple[Intensities, ...] | None = None
    ranges: tuple[tuple[float, float], ...] = ()
    missing: tuple[int, ...] = ()
    class_voxels: dict[int, int]
    class_slices: dict[int, tuple[int, int, int]] = Field(default_factory=dict)
    data_type: str = ""
    image_hash: str = ""
    label_hash: str = ""
    files: tuple[FileSignature, ...] = ()
    units: tuple[Unit, ...] = ()

    @property
    def units_of_present(self) -> tuple[Unit | None, ...]:
        """The unit of each modality, None of a missing one."""
        return tuple(None if index in self.missing else unit for index, unit in enumerate(self.units))


class Fingerprint(FrozenModel):
    """All cases of a dataset."""

    cases: tuple[CaseFingerprint, ...]

    def median_shape(self) -> tuple[float, float, float]:
        """Median number of voxels along the RAS+ axes."""
        return _triple(np.median([case.shape for case in self.cases], axis=0).tolist())

    def median_spacing(self) -> tuple[float, float, float]:
        """Median millimeters between voxels along the RAS+ axes."""
        return _triple(np.median([case.spacing for case in self.cases], axis=0).tolist())

    def slice_share(self, axis: int) -> dict[int, float]:
        """For each class, the fraction of all cases' slices along an axis that contain it.

        Args:
            axis: 0, 1 or 2: slices along left-right, posterior-anterior or inferior-superior.
        """
        slices = sum(case.shape[axis] for case in self.cases)
        classes = sorted({value for case in self.cases for value in case.class_slices})
        none = (0, 0, 0)
        return {
            value: sum(case.class_slices.get(value, none)[axis] for case in self.cases) / slices for value in classes
        }

    @property
    def units(self) -> dict[str, tuple[Unit | None, ...]]:
        """For each case the unit of each modality."""
        return {case.case: case.units_of_present for case in self.cases}

    def changed_files(self, dataset: Dataset) -> list[Path]:
        """Files of a dataset that were changed, added or removed since it was measured.

        Compares sizes and times, and reads nothing.
        """
        cases = {case.id: case for case in dataset.cases}
        before = (each for case in self.cases if case.case in cases for each in case.files)
        now = (each for case in dataset.cases for each in sign_case(case, dataset.root))
        return changed_files(before, now, dataset.root)


def measure_case(
    case: str,
    volume: Volume,
    labels: Integer[np.ndarray, "i j k"],
    *,
    merged: Mapping[int, int] = MappingProxyType({}),
    ignore: int | None = None,
    missing: Sequence[int] = (),
    files: Sequence[FileSignature] = (),
) -> CaseFingerprint:
    """Measures one case.

    Args:
        volume: The scan, ``(C, I, J, K)``.
        labels: Its label map on the same grid, ``(I, J, K)``; 0 is background.
        merged: Label values that count as another value.
        ignore: Label value of voxels that are neither foreground nor background.
        missing: Numbers of missing modalities, which are zeros.
    """
    import nibabel

    codes = nibabel.orientations.aff2axcodes(volume.affine)
    # along the world's axes, so that neither samples nor digests depend on how the file lies
    labels = Orientation.toward(volume.affine, "RAS").apply(labels)
    volume = volume.reorient("RAS")
    merged_labels = _merge(labels, merged)
    voxels, slices = _count_classes(merged_labels)
    inside, outside = merged_labels > 0, merged_labels == 0
    if ignore is not None:
        inside &= merged_labels != ignore
    return CaseFingerprint(
        case=case,
        shape=volume.shape,
        spacing=volume.spacing,
        orientation="".join(map(str, codes)),
        whole=tuple(measure_intensities(channel) for channel in volume.array),
        foreground=_measure_part(volume, inside),
        outside=_measure_part(volume, outside),
        ranges=tuple((float(channel.min()), float(channel.max())) for channel in volume.array),
        missing=tuple(missing),
        class_voxels=voxels,
        class_slices={value: counts for value, counts in slices.items() if value != ignore},
        data_type=str(volume.array.dtype),
        image_hash=_hash(volume.array),
        label_hash=_hash(labels),
        files=tuple(files),
        units=volume.units if any(unit != Unit() for unit in volume.units) else (),
    )


def measure_intensities(values: Shaped[np.ndarray, "..."]) -> Intensities:
    """Mean, deviation and percentiles of voxel values of any shape, at least one."""
    step = _step(values.size, values.size)
    return _measure_sample(values.reshape(-1) if step == 1 else values.flat[::step])


def merge_intensities(parts: Sequence[Intensities]) -> Intensities:
    """The median of the cases' figures, which a single outlier does not move."""
    return Intensities(
        **{name: float(np.median([getattr(part, name) for part in parts])) for name in Intensities.model_fields}
    )


def _measure_part(volume: Volume, part: Shaped[np.ndarray, "i j k"]) -> tuple[Intensities, ...] | None:
    """Measures each modality where ``part`` is true."""
    count = int(np.count_nonzero(part))
    if not count:
        return None
    step = _step(part.size, count)
    places = np.flatnonzero(part.flat[::step]) * step if step > 1 else None
    if places is None or not len(places):  # few voxels, or all between the steps
        # files keep the first axis together, so that the transposed are read as they lie in memory
        return tuple(_measure_sample(channel.T[part.T]) for channel in volume.array)
    indices = np.unravel_index(places, part.shape)
    return tuple(_measure_sample(channel[indices]) for channel in volume.array)


def _measure_sample(sample: Shaped[np.ndarray, " n"]) -> Intensities:
    places = np.array([0.005, 0.05, 0.5, 0.95, 0.995]) * (len(sample) - 1)
    below, above = np.floor(places).astype(int), np.ceil(places).astype(int)
    ordered = np.partition(sample, np.union1d(below, above))  # of the voxels' own type, which is faster
    lower, upper = ordered[below].astype(np.float64), ordered[above].astype(np.float64)
    lowest, low, middle, high, highest = (lower + (upper - lower) * (places - below)).tolist()
    return Intensities(
        mean=float(sample.mean(dtype=np.float64)),
        deviation=float(sample.std(dtype=np.float64)),
        percentile_00_5=lowest,
        percentile_05_0=low,
        percentile_50_0=middle,
        percentile_95_0=high,
        percentile_99_5=highest,
    )


def _step(size: int, wanted: int) -> int:
    """Step between sampled voxels: ``wanted`` of ``size`` voxels, evenly spread."""
    step = max(1, wanted // MAX_SAMPLES)
    while gcd(step, size) > 1:  # a common divisor with a side of the volume would leave out whole slices
        step += 1
    return step


def _merge(labels: Integer[np.ndarray, "i j k"], merged: Mapping[int, int]) -> Integer[np.ndarray, "i j k"]:
    if not merged:
        return labels
    largest = np.min_scalar_type(max(merged.values()))
    result = labels.astype(np.promote_types(labels.dtype, largest))  # a copy
    for value, target in merged.items():
        result[labels == value] = target
    return result


def _count_classes(
    labels: Integer[np.ndarray, "x y z"],
) -> tuple[dict[int, int], dict[int, tuple[int, int, int]]]:
    """Number of voxels of each label value and, for all but 0, of the slices along each axis that contain it."""
    from scipy.ndimage import find_objects

    order = _triple(int(axis) for axis in np.argsort([-abs(stride) for stride in labels.strides]))
    stored = labels.transpose(order)  # as it lies in memory, which is five times as fast
    voxels: dict[int, int] = {}
    slices: dict[int, tuple[int, int, int]] = {}
    values, numbered = _numbered(stored)
    for number, box in enumerate(find_objects(numbered), start=1):
        if box is None:
            continue
        mask = numbered[box] == number
        value = number if values is None else values[number]
        voxels[value] = int(np.count_nonzero(mask))
        first, second, third = (int(mask.any(axis=others).sum()) for others in ((1, 2), (0, 2), (0, 1)))
        counts = dict(zip(order, (first, second, third), strict=True))
        slices[value] = counts[0], counts[1], counts[2]
    background = labels.size - sum(voxels.values())
    return ({0: background} if background else {}) | voxels, slices


def _numbered(labels: Integer[np.ndarray, "i j k"]) -> tuple[list[int] | None, Integer[np.ndarray, "i j k"]]:
    """Labels as small numbers, 0 as 0, and each number's value; unchanged if no value is large.

    Counting by number needs a list as long as the largest one.
    """
    if labels.max() <= LARGEST_NUMBER:
        return None, labels
    values = np.union1d(0, labels)
    return values.tolist(), np.searchsorted(values, labels)


def _hash(array: Shaped[np.ndarray, "..."]) -> str:
    """Digest of type, shape and voxels, independent of the memory layout."""
    digest = blake2b(f"{array.dtype.str}{array.shape}".encode(), digest_size=16)
    for plane in array.T:  # files keep the first axis together, so that this copies nothing
        digest.update(np.ascontiguousarray(plane).data)
    return digest.hexdigest()


def _triple(values: Iterable[Number]) -> tuple[Number, Number, Number]:
    first, second, third = values
    return first, second, third
