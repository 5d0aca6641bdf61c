"""A summary of a fingerprint, as values for JSON and as rows of tables."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np

from inflate3d.datasets.case import Dataset
from inflate3d.datasets.regions import Regions
from inflate3d.preparation.dataset_warnings import AXES
from inflate3d.preparation.fingerprint import CaseFingerprint, Fingerprint, Intensities, merge_intensities


def summarize(fingerprint: Fingerprint, dataset: Dataset) -> dict[str, Any]:
    """Summarizes a fingerprint.

    Args:
        fingerprint: The cases, at least one.
        dataset: The dataset, for the names of modalities and classes.

    Returns:
        The number of ``cases``; minimum, median and maximum of ``shape`` and ``spacing`` along each RAS+ axis;
        ``orientations`` and ``data_types`` of the files, with numbers of cases; values of the ``modalities`` in the
        median case; ``classes``, with the number of cases, the voxels in the median one of them, and the fraction of
        slices with the class along each RAS+ axis; ``regions``, with their values, if the dataset has some.
    """
    cases = fingerprint.cases
    return {
        "cases": len(cases),
        "shape": _spreads([case.shape for case in cases]),
        "spacing": _spreads([case.spacing for case in cases]),
        "orientations": dict(Counter(case.orientation for case in cases).most_common()),
        "data_types": dict(Counter(case.data_type for case in cases).most_common()),
        "modalities": [
            _modality(name, index, present)
            for index, name in enumerate(dataset.modalities)
            if (present := [case for case in cases if index not in case.missing])
        ],
        "classes": _classes(fingerprint, dataset),
        **({"regions": _regions(fingerprint, dataset.regions)} if dataset.regions else {}),
    }


def property_rows(summary: dict[str, Any]) -> list[tuple[str, ...]]:
    """Table rows: a property with its minimum, median and maximum over the cases.

    Voxel values are the 5th, 50th and 95th percentile of the median case.
    """
    rows = [
        (f"{what} {axis}", *(f"{figure:.4g}" for figure in spread.values()))
        for what, name in (("voxels", "shape"), ("spacing, mm", "spacing"))
        for axis, spread in zip(AXES, summary[name], strict=True)
    ]
    for modality in summary["modalities"]:
        for part, values in (("labeled", modality["foreground"]), ("background", modality["outside"])):
            if values is not None:
                figures = (values[f"percentile_{place}"] for place in ("05_0", "50_0", "95_0"))
                rows.append((f"{modality['name']}, {part} (5, 50, 95 %)", *(f"{figure:.4g}" for figure in figures)))
    return rows


def class_rows(summary: dict[str, Any]) -> list[tuple[str, ...]]:
    """Table rows: a class, the cases with it, its median number of voxels, its fraction of slices by axis."""
    return [
        (
            f"{found['value']} {found['name']}",
            str(found["cases"]),
            f"{found['voxels']:.0f}",
            *(f"{share:.1%}" for share in found["slice_share"]),
        )
        for found in summary["classes"]
    ]


def region_rows(summary: dict[str, Any]) -> list[tuple[str, ...]]:
    """Table rows: a region, its label values, the cases with it, its median number of voxels."""
    return [
        (found["name"], ", ".join(map(str, found["values"])), str(found["cases"]), f"{found['voxels']:.0f}")
        for found in summary["regions"]
    ]


def _spreads(sides: Sequence[tuple[float, ...]] | Sequence[tuple[int, ...]]) -> list[dict[str, float]]:
    columns = np.array(sides, np.float64).T
    return [
        {"minimum": float(each.min()), "median": float(np.median(each)), "maximum": float(each.max())}
        for each in columns
    ]


def _modality(name: str, index: int, cases: Sequence[CaseFingerprint]) -> dict[str, Any]:
    def merged(parts: Sequence[tuple[Intensities, ...] | None]) -> dict[str, float] | None:
        measured = [part[index] for part in parts if part]
        return merge_intensities(measured).model_dump() if measured else None

    return {
        "name": name,
        "whole": merged([case.whole for case in cases]),
        "foreground": merged([case.foreground for case in cases]),
        "outside": merged([case.outside for case in cases]),
    }


def _classes(fingerprint: Fingerprint, dataset: Dataset) -> list[dict[str, Any]]:
    shares = [fingerprint.slice_share(axis) for axis in range(3)]
    found = []
    for value, name in dataset.classes.items():
        if value in (0, dataset.ignore):
            continue
        voxels = [case.class_voxels[value] for case in fingerprint.cases if case.class_voxels.get(value)]
        found.append(
            {
                "value": value,
                "name": name,
                "cases": len(voxels),
                "voxels": float(np.median(voxels)) if voxels else 0.0,
                "slice_share": [share.get(value, 0.0) for share in shares],
            }
        )
    return found


def _regions(fingerprint: Fingerprint, regions: Regions) -> list[dict[str, Any]]:
    found = []
    for name, held in regions.values.items():
        voxels = [sum(case.class_voxels.get(value, 0) for value in held) for case in fingerprint.cases]
        holding = [count for count in voxels if count]
        median = float(np.median(holding)) if holding else 0.0
        found.append({"name": name, "values": list(held), "cases": len(holding), "voxels": median})
    return found
