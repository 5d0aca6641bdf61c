"""Predicting scan files: each label map is written whole, on its scan's own grid."""

from __future__ import annotations

from pathlib import Path

from inflate3d.datasets.case import Case
from inflate3d.errors import DataError
from inflate3d.inference.predictor import Predictor
from inflate3d.io import SUFFIXES, read_images, write_labels
from inflate3d.progress import Progress, silent


def find_scans(path: Path) -> list[Case]:
    """The scans that a path names: a file, or all scan files of a folder, sorted by name.

    Raises:
        DataError: There is nothing to predict.
    """
    if path.is_dir():
        files = sorted(
            file for file in path.iterdir() if file.name.endswith(SUFFIXES) and not file.name.startswith(".")
        )
    else:
        files = [path]
    if not files:
        raise DataError(
            "no scans here",
            file=path,
            expected=f"a scan file, or a folder of them ({', '.join(SUFFIXES)})",
            got="none",
        )
    return [Case(id=_stem(file), images=(file,), label=None) for file in files]


def predict_files(predictor: Predictor, scans: list[Case], folder: Path, *, progress: Progress = silent) -> list[Path]:
    """Segments scans and writes their label maps, named as the scans are.

    Args:
        predictor: The trained network.
        scans: What to segment.
        folder: Where the label maps go.
        progress: Shows how far it is.

    Returns:
        The files written.

    Raises:
        DataError: A scan can't be read or does not fit the model; those before it are written.
        OutputError: A label map can't be written; no part of it is left.
    """
    written: list[Path] = []
    for scan in progress(iter(scans), len(scans), "predicting"):
        target = folder / scan.images[0].name
        if target.resolve() in {image.resolve() for image in scan.images}:
            raise DataError(
                "label map would overwrite its scan",
                case=scan.id,
                file=target,
                remedy="choose another folder for the result",
            )
        volume = read_images(scan.images, case=scan.id)
        try:
            labels = predictor.predict(volume)
        except DataError as error:
            raise error.about(case=scan.id, file=scan.images[0]) from error
        write_labels(target, labels, like=scan.images[0])
        written.append(target)
    return written


def _stem(file: Path) -> str:
    for suffix in sorted(SUFFIXES, key=len, reverse=True):
        if file.name.endswith(suffix):
            return file.name.removesuffix(suffix)
    return file.stem
