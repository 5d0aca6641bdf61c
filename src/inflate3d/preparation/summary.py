"""A summary of a fingerprint, for people."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

import numpy as np

from inflate3d.datasets.case import Dataset
from inflate3d.preparation.dataset_warnings import AXES
from inflate3d.preparation.fingerprint import Fingerprint, Intensities, merge_intensities
from inflate3d.settings import FrozenModel


class Spread(FrozenModel):
    """How a figure differs between the cases."""

    least: float
    median: float
    most: float


class ModalitySummary(FrozenModel):
    """A modality's voxel values, by the median of the cases' figures.

    Attributes:
        name: Its name.
        whole: Of all voxels.
        foreground: Of voxels with a class; none if no case has any.
        outside: Of background voxels; none if no case has any.
    """

    name: str
    whole: Intensities
    foreground: Intensities | None
    outside: Intensities | None


class ClassSummary(FrozenModel):
    """How often a class occurs.

    Attributes:
        value: Its label value.
        name: Its name.
        cases: How many cases have it.
        voxels: Voxels in the median one of them.
        slice_share: The part of all slices that hold it, along each RAS+ axis.
    """

    value: int
    name: str
    cases: int
    voxels: float
    slice_share: tuple[float, float, float]


class Summary(FrozenModel):
    """A summary of a dataset's cases.

    Attributes:
        cases: How many there are.
        shape: Voxels along each RAS+ axis.
        spacing: Millimeters along each RAS+ axis.
        orientations: Where the files' axes lead, such as ``"LPS"``, and in how many cases.
        data_types: The voxels' types, and in how many cases.
        modalities: Their values; one that every case lacks is left out.
        classes: All but the background.
    """

    cases: int
    shape: tuple[Spread, Spread, Spread]
    spacing: tuple[Spread, Spread, Spread]
    orientations: dict[str, int]
    data_types: dict[str, int]
    modalities: tuple[ModalitySummary, ...]
    classes: tuple[ClassSummary, ...]


def summarize(fingerprint: Fingerprint, dataset: Dataset) -> Summary:
    """Summarizes a fingerprint.

    Args:
        fingerprint: The cases, at least one.
        dataset: The dataset, for the names of modalities and classes.
    """
    return Summary(
        cases=len(fingerprint.cases),
        shape=_spreads(case.shape for case in fingerprint.cases),
        spacing=_spreads(case.spacing for case in fingerprint.cases),
        orientations=_counts(case.orientation for case in fingerprint.cases),
        data_types=_counts(case.data_type for case in fingerprint.cases),
        modalities=_modalities(fingerprint, dataset),
        classes=_classes(fingerprint, dataset),
    )


def property_rows(summary: Summary) -> list[tuple[str, str, str, str]]:
    """Rows of a table: a property, and its least, median and largest figure over the cases.

    Voxel values are those of the median case; there the figures are its 5th, 50th and 95th percentile.
    """
    rows = []
    for what, spreads in (("voxels", summary.shape), ("spacing, mm", summary.spacing)):
        for axis, spread in zip(AXES, spreads, strict=True):
            rows.append((f"{what} {axis}", *(f"{figure:.4g}" for figure in (spread.least, spread.median, spread.most))))
    for modality in summary.modalities:
        for part, values in (("labeled", modality.foreground), ("background", modality.outside)):
            if values is not None:
                figures = (values.percentile_05_0, values.percentile_50_0, values.percentile_95_0)
                rows.append((f"{modality.name}, {part} (5, 50, 95 %)", *(f"{figure:.4g}" for figure in figures)))
    return rows


def class_rows(summary: Summary) -> list[tuple[str, ...]]:
    """Rows of a table: a class, cases with it, voxels in the median one of them, its share of slices by axis."""
    return [
        (
            f"{found.value} {found.name}",
            str(found.cases),
            f"{found.voxels:.0f}",
            *(f"{share:.1%}" for share in found.slice_share),
        )
        for found in summary.classes
    ]


def _spreads(sides: Iterable[tuple[float, float, float]]) -> tuple[Spread, Spread, Spread]:
    figures = np.array(list(sides), np.float64)
    least, median, most = (figure.tolist() for figure in (figures.min(0), np.median(figures, 0), figures.max(0)))
    x, y, z = (Spread(least=least[axis], median=median[axis], most=most[axis]) for axis in range(3))
    return x, y, z


def _counts(names: Iterable[str]) -> dict[str, int]:
    return dict(Counter(names).most_common())


def _modalities(fingerprint: Fingerprint, dataset: Dataset) -> tuple[ModalitySummary, ...]:
    summaries = []
    for index, name in enumerate(dataset.modalities):
        cases = [case for case in fingerprint.cases if index not in case.missing]
        if cases:
            foregrounds = [case.foreground[index] for case in cases if case.foreground]
            backgrounds = [case.outside[index] for case in cases if case.outside]
            summaries.append(
                ModalitySummary(
                    name=name,
                    whole=merge_intensities([case.whole[index] for case in cases]),
                    foreground=merge_intensities(foregrounds) if foregrounds else None,
                    outside=merge_intensities(backgrounds) if backgrounds else None,
                )
            )
    return tuple(summaries)


def _classes(fingerprint: Fingerprint, dataset: Dataset) -> tuple[ClassSummary, ...]:
    shares = [fingerprint.slice_share(axis) for axis in range(3)]
    summaries = []
    for value, name in dataset.classes.items():
        holders = [case.class_voxels[value] for case in fingerprint.cases if case.class_voxels.get(value)]
        if value not in (0, dataset.ignore):
            x, y, z = (share.get(value, 0.0) for share in shares)
            summaries.append(
                ClassSummary(
                    value=value,
                    name=name,
                    cases=len(holders),
                    voxels=float(np.median(holders)) if holders else 0.0,
                    slice_share=(x, y, z),
                )
            )
    return tuple(summaries)
