"""Segment scans with a trained model; each label map lies on its scan's own grid."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import Field
from tyro.conf import Positional

from inflate3d.cli.terminal import CommandOptions, Terminal
from inflate3d.cli.verify import show_warnings
from inflate3d.errors import DataError, DatasetProblems


class Options(CommandOptions):
    """Options of ``predict``."""

    model: Positional[Path]
    """A run's folder, or a model folder."""
    scans: Positional[Path]
    """A scan (a file, a DICOM series' folder, or FOLDER/SERIES-UID), or a folder of scans."""
    out: Positional[Path]
    """Folder for the label maps, which are named as the scans are."""
    batch_size: int = Field(default=16, ge=1)
    """Windows predicted at a time."""
    suffix: str | None = None
    """Format of the label maps, such as .nrrd; that of the scan if not given, .nii.gz for DICOM."""
    device: str | None = None
    """Where to compute, such as cpu or cuda:1; the GPU if there is one, if not given."""


def run(options: Options, terminal: Terminal) -> dict[str, Any]:
    """Predicts."""
    from inflate3d.inference.files import find_scans, predict_files
    from inflate3d.inference.predictor import Predictor

    predictor = Predictor.load(options.model, device=options.device, batch_size=options.batch_size)
    warnings: list[DataError] = []
    scans = find_scans(options.scans, predictor.plan, warn=warnings.append)
    try:
        written = predict_files(
            predictor, scans, options.out, suffix=options.suffix, progress=terminal.progress, warn=warnings.append
        )
    except DatasetProblems as problems:
        problems.warnings.extend(warnings)
        _show(problems.written or [], warnings, terminal)
        raise
    _show(written, warnings, terminal)
    return {"written": [str(file) for file in written], "warnings": [warning.to_dict() for warning in warnings]}


def _show(written: Sequence[Path], warnings: Sequence[DataError], terminal: Terminal) -> None:
    show_warnings(warnings, terminal)
    for file in written:
        terminal.say(str(file))
