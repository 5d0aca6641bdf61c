"""BCV, the abdominal CT scans of "Multi-Atlas Labeling Beyond the Cranial Vault" (BTCV, on Synapse)."""

from __future__ import annotations

import re
from pathlib import Path

from inflate3d.datasets.case import Case, Dataset
from inflate3d.datasets.file_names import check_one_format
from inflate3d.datasets.splits import Split

CLASSES = {
    0: "background",
    1: "spleen",
    2: "right kidney",
    3: "left kidney",
    4: "gallbladder",
    5: "oesophagus",
    6: "liver",
    7: "stomach",
    8: "aorta",
    9: "inferior vena cava",
    10: "portal and splenic veins",
    11: "pancreas",
    12: "right adrenal gland",
    13: "left adrenal gland",
}
"""Class name by label value."""

PAPER_ORGANS = ("spleen", "right kidney", "left kidney", "gallbladder", "liver", "stomach", "aorta", "pancreas")
"""The eight organs that the paper averages in its main BCV tables."""

_NUMBERS = (*range(1, 11), *range(21, 41))
"""The published labeled scans."""

_TRAINING = "Training"
_FEWEST_PAIRS = 2
"""A folder with at least this many pairs of scan and label map is taken for the dataset."""

_PAPER_VALIDATION = (1, 2, 3, 4, 8, 22, 25, 29, 32, 35, 36, 38)
"""The paper's 12 held-out scans (``val_slc`` in its ``data/bcv/split_data_to_slices_nii.py``)."""

_FILE = re.compile(r"(img|label)(\d{4})\.nii(?:\.gz)?")


def is_bcv(folder: Path) -> bool:
    """Whether the folder, or its ``RawData`` or ``Training``, looks like BCV when unpacked."""
    return _training_of(folder) is not None


def read_bcv(folder: Path) -> Dataset:
    """Reads BCV; no scan is opened.

    Args:
        folder: The folder ``Training`` with ``img/imgNNNN.nii.gz`` and ``label/labelNNNN.nii.gz``, or one above it:
            ``RawData``, or its parent.

    Returns:
        The labeled scans, named ``imgNNNN``; the challenge's ``Testing`` scans have no labels and are left out.
        If all 30 published scans exist, the split ``paper``: 18 for training, 12 for validation.
    """
    training = _training_of(folder)
    assert training is not None, "the layout is recognized by is_bcv"
    images, labels = (_files_of(training, part) for part in ("img", "label"))
    named = {path: f"img{number:04d}" for files in (images, labels) for number, path in files.items()}
    check_one_format(list(named), case_of=named)
    cases = tuple(
        Case(
            f"img{number:04d}",
            (images.get(number, training / "img" / f"img{number:04d}.nii.gz"),),
            labels.get(number, training / "label" / f"label{number:04d}.nii.gz"),
        )
        for number in sorted(images.keys() | labels.keys())
    )
    return Dataset("BCV", folder, ("CT",), CLASSES, cases, splits=_splits(cases))


def _training_of(folder: Path) -> Path | None:
    for candidate in (folder / "RawData" / _TRAINING, folder / _TRAINING, folder):
        paired = _files_of(candidate, "img").keys() & _files_of(candidate, "label").keys()
        if len(paired) >= _FEWEST_PAIRS and candidate.resolve().name == _TRAINING:
            return candidate
    return None


def _files_of(training: Path, part: str) -> dict[int, Path]:
    """Scans or label maps by number; files with other names are skipped."""
    if not (training / part).is_dir():
        return {}
    found = {path: _FILE.fullmatch(path.name) for path in (training / part).iterdir()}
    return {int(match[2]): path for path, match in found.items() if match and match[1] == part}


def _splits(cases: tuple[Case, ...]) -> dict[str, tuple[Split, ...]]:
    validation = {f"img{number:04d}" for number in _PAPER_VALIDATION}
    ids = [case.id for case in cases]
    if ids != [f"img{number:04d}" for number in _NUMBERS]:
        return {}
    paper = Split(
        train=tuple(case for case in ids if case not in validation),
        validation=tuple(case for case in ids if case in validation),
        source="the paper's 18 training and 12 validation scans; its checkpoint is picked and scored on the 12",
    )
    return {"paper": (paper,)}
