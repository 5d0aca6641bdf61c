"""Guesses what was scanned: from the names of files, DICOM headers or voxel values."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Shaped

from inflate3d.datasets.case_table import Row
from inflate3d.datasets.file_names import MODALITY_WORDS, ScanFile, escaped, named_channels
from inflate3d.io import find_series, read_volume, suffix_of

AIR = (-1100, -900)
"""Range of air in Hounsfield units, with noise."""

DICOM_MODALITIES = {"CT": "CT", "MR": "MRI", "PT": "PET"}
"""Our names of modalities by DICOM's."""

MIXED = "mixed"
"""Name of a channel that is CT in some cases and something else in others; each is normalized by its own values."""


def looks_like_ct(array: Shaped[np.ndarray, "..."]) -> bool:
    """Whether voxel values look like Hounsfield units: whole numbers, some of them as low as air."""
    air = (array >= AIR[0]) & (array <= AIR[1])
    is_whole = array.dtype.kind in "iu" or np.array_equal(array, np.rint(array))
    return is_whole and bool(air.mean() > 0.001)


def guess_modalities(folder: Path, rows: Sequence[Row], channels: Sequence[str]) -> tuple[tuple[str, ...], str]:
    """A name for each channel, and the reason for it."""
    if all(channel in MODALITY_WORDS.values() for channel in channels):
        return tuple(channels), "from the names of the files"
    if len(channels) == 1 and (found := _named_in_all(rows)):
        return found
    named: list[str] = []
    reasons: list[str] = []
    for number, channel in enumerate(channels):
        if channel in MODALITY_WORDS.values():
            named.append(channel)
            continue
        image = next(row.images[number] for row in rows if row.images[number] is not None)
        assert image is not None
        if tag := _dicom_modality(folder / image):
            named.append(DICOM_MODALITIES.get(tag, tag))
            reasons.append(f"the DICOM header of {escaped(image)} says {escaped(tag)}")
            continue
        for array in read_volume(folder / image).array:
            is_ct = looks_like_ct(array)
            named.append("CT" if is_ct else "MRI")
            values = f"{escaped(image)} has values from {array.min():g} to {array.max():g}"
            reasons.append(f"{values}, {'with' if is_ct else 'without'} the air of CT at about -1000")
    repeated = Counter(named)
    names = [name if repeated[name] == 1 or name == "CT" else f"{name} {index}" for index, name in enumerate(named)]
    return tuple(names), "; ".join(reasons)


def _named_in_all(rows: Sequence[Row]) -> tuple[tuple[str, ...], str] | None:
    """The modality that the name of every case's only image gives: one for all, or several that make one dataset.

    That all are CT is left to the voxels: a clipping to Hounsfield units should not hang on a word.
    """
    paths = [Path(row.images[0] or "") for row in rows]
    counts = Counter(named_channels(ScanFile(path, path.parts))[1] for path in paths)
    if "" in counts or set(counts) == {"CT"}:
        return None
    if len(counts) == 1:
        return tuple(counts), "from the names of the files"
    listed = ", ".join(f"{count} of {name}" for name, count in sorted(counts.items()))
    reason = f"from the names of the files: {listed}, each with a label map of its own; --images and --labels choose"
    return (MIXED,), reason


def _dicom_modality(path: Path) -> str:
    """Modality from the header of a DICOM series; empty if the path names none."""
    if suffix_of(path):
        return ""
    found = find_series(path if path.is_dir() else path.parent)
    return next((series.modality for series in found if path == series.path or path in series.files), "")
