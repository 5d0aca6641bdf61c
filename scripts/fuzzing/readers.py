"""How each format is read, and what has to hold of all that a reader gives."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from inflate3d.comparison.arms import read_arms
from inflate3d.config import RunConfig
from inflate3d.datasets.layouts import read_dataset
from inflate3d.datasets.splits import Split
from inflate3d.evaluation.groups import read_groups
from inflate3d.evaluation.scores import Scores
from inflate3d.grid import Grid
from inflate3d.io import find_series, itk, nifti, read_labels, read_volume
from inflate3d.io.dicom import reading, rtstruct, seg_reader
from inflate3d.io.dicom.labels import kind_of
from inflate3d.models.checkpoint import read_model_folder
from inflate3d.models.segmenter import load_model
from inflate3d.models.weight_files import read_tensors
from inflate3d.preparation.plan import Plan
from inflate3d.preparation.store import ARRAY_KINDS, Store, case_file
from inflate3d.presets.preset import read_preset
from inflate3d.run_folder import TrainingLog

LOADED_BEFORE = (reading, itk, nifti, rtstruct, seg_reader)
"""Modules that are loaded when they are needed, so that each process would load them anew."""


class NotSaneError(Exception):
    """A reader gave what it must not give."""


def read(format_name: str, path: Path) -> None:
    """Reads a file or folder, and looks at what came of it.

    Raises:
        Inflate3dError: The reader refuses it, as it may.
        NotSaneError: What the reader gave breaks its promise.
    """
    _READERS[format_name](path)


def _claim(holds: object, what: str) -> None:
    if not holds:
        raise NotSaneError(what)


def _read_scan(path: Path) -> None:
    volume = read_volume(path)
    array, affine = volume.array, volume.affine
    _claim(array.ndim == 4 and array.size > 0, f"voxels of shape {array.shape}")
    _claim(array.dtype.kind in "iu" or array.dtype == np.float32, f"voxels of type {array.dtype}")
    _claim(array.dtype.kind != "f" or np.isfinite(array).all(), "voxels are not finite")
    _claim(affine.shape == (4, 4) and np.isfinite(affine).all(), f"the affine {affine}")
    _claim(all(math.isfinite(size) and size > 0 for size in volume.spacing), f"the spacing {volume.spacing}")


def _read_series(folder: Path) -> None:
    for series in find_series(folder):
        _claim(series.files, "a series without files")
    _read_scan(folder)


def _read_dicom_object(path: Path) -> None:
    if path.name == "frames.dcm":
        return _read_scan(path)
    grid = Grid((20, 24, 3), np.array([[-0.8, 0, 0, -5], [0, -0.9, 0, 3], [0, 0, 2.5, 0], [0, 0, 0, 1]]))
    for on in (grid, None) if "rtstruct" not in path.name else (grid,):
        labels = read_labels(path, on=on)
        _claim(labels.array.dtype.kind == "u", f"labels of type {labels.array.dtype}")
        _claim(on is None or kind_of(path) is None or labels.grid == on, f"labels of shape {labels.shape}")
    return None


def _read_dataset(folder: Path) -> None:
    dataset = read_dataset(folder)
    for case in dataset.cases:
        _claim_name(case.id)
    _claim(0 in dataset.classes and len(dataset.classes) > 1, f"the classes {dataset.classes}")


def _claim_name(name: str) -> None:
    """A case's id names files."""
    _claim(name and Path(name).name == name and "\0" not in name and name.isprintable(), f"the case {name!r}")


def _read_store(folder: Path) -> None:
    store = Store(folder)
    plan, _ = store.plan, store.fingerprint
    _claim_finite(plan.model_dump())
    for case in store.cases:
        _claim_name(case)
        for kind in ARRAY_KINDS:
            _claim(case_file(folder, case, kind).parent == folder, f"the case {case!r}")
        image, label = store.image_slices(case, [0, 1]), store.label_slices(case, [0, 1])
        _claim(image.shape[-3:] == label.shape and label.ndim == 3, f"slices of shape {image.shape}, {label.shape}")


def _claim_finite(values: Any) -> None:
    if isinstance(values, dict):
        values = list(values.values())
    if isinstance(values, list | tuple):
        for value in values:
            _claim_finite(value)
    elif isinstance(values, float):
        _claim(math.isfinite(values), f"a setting of {values}")


def _read_tensors(tensors: Any) -> None:
    for name, tensor in tensors.items():
        _claim(isinstance(name, str), f"a tensor's name {name!r}")
        _claim(tensor.device.type == "cpu" and tensor.layout is not None, f"{name} is on {tensor.device}")
        tensor.clone()


def _read_settings(read_it: Callable[[Path], Any]) -> Callable[[Path], None]:
    return lambda path: _claim_finite(read_it(path).model_dump())


def _read_table(path: Path) -> None:
    if path.name == "groups.csv":
        read_groups(path)
    else:
        TrainingLog.read(path)


def _read_scores(folder: Path) -> None:
    scores = Scores.read(folder)
    for case in scores.cases:
        _claim_name(case)
    assert scores.summaries is not None and scores.to_dict()


_READERS: dict[str, Callable[[Path], object]] = {
    "nifti": _read_scan,
    "nrrd": _read_scan,
    "metaimage": _read_scan,
    "dicom": _read_series,
    "dicom-objects": _read_dicom_object,
    "msd": _read_dataset,
    "nnunet": _read_dataset,
    "folder": _read_dataset,
    "split": Split.read,
    "plan": _read_settings(Plan.read),
    "store": _read_store,
    "config": _read_settings(RunConfig.read),
    "preset": _read_settings(lambda path: read_preset(str(path))),
    "arms": read_arms,
    "model": lambda folder: _read_tensors(read_model_folder(folder).tensors),
    "network": load_model,
    "weights": lambda path: _read_tensors(read_tensors(path)),
    "scores": _read_scores,
    "tables": _read_table,
}
