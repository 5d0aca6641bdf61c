"""Segment scans with a trained model, or several; each label map lies on its scan's own grid."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro
from pydantic import Field
from tyro.conf import Positional

from inflate3d.cli.terminal import CommandOptions, Terminal
from inflate3d.cli.verify import show_warnings
from inflate3d.config import Precision
from inflate3d.errors import DataError, DatasetProblems, some_of

if TYPE_CHECKING:
    from inflate3d.datasets.case import Case
    from inflate3d.inference.files import PredictedScan


class Options(CommandOptions):
    """Options of ``predict``."""

    model: Positional[Path]
    """A run's folder, a model folder, or a folder of such (folds), whose networks are averaged."""
    scans: Positional[Path]
    """A scan (a file, a DICOM series' folder, or FOLDER/SERIES-UID), or a folder of scans."""
    out: Positional[Path]
    """Folder for the label maps, which are named as the scans are."""
    also: Annotated[tuple[Path, ...], tyro.conf.arg(name="with")] = ()
    """More models to average with; encoders, depths and image sizes may differ."""
    tta: bool = False
    """Average over the mirror images that the plan allows: up to eight times the time."""
    every: int = Field(default=1, ge=1)
    """Predict every n-th slice, and interpolate those between."""
    precision: Precision = "32"
    """Number format of the network's arithmetic; mixed ones are faster where the device has them."""
    batch_size: int = Field(default=16, ge=1)
    """The most windows predicted at a time; fewer where memory demands it."""
    max_memory: Annotated[float | None, Field(gt=0)] = None
    """Gigabytes to predict with, above the weights and the scan: 1.5, or what is free, if not given; on a GPU what is
    free there."""
    skip_existing: bool = False
    """Leave out scans whose label map is there and newer than they are, whichever model it is from."""
    suffix: str | None = None
    """Format of the label maps, such as .nrrd; that of the scan if not given, .nii.gz for DICOM."""
    device: str | None = None
    """Where to compute, such as cpu or cuda:1; the GPU if there is one, if not given."""


def run(options: Options, terminal: Terminal) -> dict[str, Any]:
    """Predicts."""
    from inflate3d.inference.files import predict_files
    from inflate3d.inference.predictor import Predictor
    from inflate3d.inference.scans import find_scans

    predictor = Predictor.load(
        options.model,
        also=options.also,
        device=options.device,
        batch_size=options.batch_size,
        memory=options.max_memory,
        mirror=options.tta,
        every=options.every,
        precision=options.precision,
    )
    warnings: list[DataError] = []
    predicted: list[PredictedScan] = []
    skipped: list[Case] = []
    scans = find_scans(options.scans, predictor.plan, warn=warnings.append)
    try:
        written = predict_files(
            predictor,
            scans,
            options.out,
            suffix=options.suffix,
            skip=skipped.append if options.skip_existing else None,
            progress=terminal.progress,
            warn=warnings.append,
            report=predicted.append,
        )
    except DatasetProblems as problems:
        problems.warnings.extend(warnings)
        _show(problems.written or [], skipped, warnings, terminal)
        raise
    _show(written, skipped, warnings, terminal)
    return {
        "written": [str(file) for file in written],
        "scans": [scan.to_dict() for scan in predicted],
        "skipped": [scan.id for scan in skipped],
        "warnings": [warning.to_dict() for warning in warnings],
    }


def _show(written: Sequence[Path], skipped: Sequence[Case], warnings: Sequence[DataError], terminal: Terminal) -> None:
    show_warnings(warnings, terminal)
    if skipped:
        names = some_of([scan.id for scan in skipped])
        terminal.say(f"{len(skipped)} scan(s) left out, whose label maps are there: {names}")
    for file in written:
        terminal.say(str(file))
