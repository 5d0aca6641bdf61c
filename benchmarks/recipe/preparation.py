"""The recipe's preparation: each slice becomes two NIfTI files, its window of five slices and its label.

Uncompressed, 16-bit, in the scan's own pixels. For Task04 that makes the original's 18,541 files and 202 MB.
"""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path

import nibabel
import numpy as np

from inflate3d.datasets import Dataset
from inflate3d.datasets.case import Case
from inflate3d.preparation.parallel import in_parallel

DEPTH = 5


def prepare(dataset: Dataset, folder: Path, workers: int) -> None:
    """Writes the windows of every case, and their list."""
    for kind in ("images", "labels"):
        (folder / kind).mkdir(parents=True, exist_ok=True)
    windows = [name for names in in_parallel(partial(_cut, folder), dataset.cases, workers) for name in names]
    (folder / "windows.json").write_text(json.dumps(windows))


def _cut(folder: Path, case: Case) -> list[str]:
    assert case.label is not None
    scan, label = (np.asarray(nibabel.load(path).dataobj) for path in (case.scan, case.label))
    reach, last = DEPTH // 2, scan.shape[2] - 1
    names = []
    for center in range(scan.shape[2]):
        slices = np.clip(np.arange(center - reach, center + reach + 1), 0, last)
        name = f"{case.id}_{center:04d}.nii"
        _save(scan[:, :, slices], folder / "images" / name)
        _save(label[:, :, center : center + 1], folder / "labels" / name)
        names.append(name)
    return names


def _save(array: np.ndarray, path: Path) -> None:
    nibabel.save(nibabel.Nifti1Image(array.astype(np.int16), np.eye(4)), path)
