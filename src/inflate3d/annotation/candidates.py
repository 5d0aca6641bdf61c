"""What is known of the cases to choose among: which are labeled, and how confident a model is of the others."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from inflate3d.annotation.strategies import Candidate
from inflate3d.datasets import Case, Dataset
from inflate3d.documents import DAMAGED_JSON, parse_json, read_text
from inflate3d.errors import DataError, Inflate3dError
from inflate3d.progress import Progress, silent

if TYPE_CHECKING:
    from inflate3d.inference.predictor import Predictor

SUMMARY = "summary.json"
"""What `predict` writes beside the label maps of several scans."""


def find_candidates(
    dataset: Dataset, scans: Sequence[Case], confidence: Mapping[str, Mapping[str, float]] | None = None
) -> list[Candidate]:
    """All cases: those of the dataset, which are labeled, and the scans.

    Args:
        dataset: The labeled cases. A scan that has the name or the file of one of them is labeled, too.
        scans: The scans to choose among.
        confidence: Confidence of each class, by the name of the scan, see `Candidate`.
    """
    labeled = {case.id for case in dataset.cases}
    files = {image.resolve() for case in dataset.cases for image in case.images if image is not None}
    known = confidence or {}
    return [
        *(Candidate(name, labeled=True) for name in sorted(labeled)),
        *(
            Candidate(scan.id, confidence=known.get(scan.id))
            for scan in scans
            if scan.id not in labeled and scan.scan.resolve() not in files
        ),
    ]


def measure_confidence(
    predictor: Predictor, scans: Sequence[Case], progress: Progress = silent
) -> tuple[dict[str, dict[str, float]], list[Inflate3dError]]:
    """Predicts scans for the confidence alone; no label map is written.

    Returns:
        Confidence of each class by the name of the scan, and the errors of scans that can't be predicted.
    """
    from inflate3d.inference.scan_warnings import log_warnings
    from inflate3d.io import read_images

    found: dict[str, dict[str, float]] = {}
    problems: list[Inflate3dError] = []
    for case in progress(scans, len(scans), "predicting"):
        try:
            scan = read_images(case.images, case=case.id)
            prediction = predictor.predict(scan, confidence=True, log_warnings=False)
        except Inflate3dError as error:
            problems.append(error.with_context(case=case.id, file=case.scan))
            continue
        log_warnings(prediction.warnings, case=case.id)
        assert prediction.confidence is not None
        found[case.id] = dict(prediction.confidence.classes)
    return found, problems


def read_confidence(predictions: Path) -> dict[str, dict[str, float]]:
    """Reads the confidence of each scan that `inflate3d predict --confidence` wrote beside its label maps.

    Returns:
        Confidence of each class by the name of the scan; NaN for a class that is not predicted.

    Raises:
        DataError: The file is missing or damaged, or no scan in it has a confidence.
    """
    file = predictions / SUMMARY
    hint = "write it by `inflate3d predict RUN SCANS FOLDER --confidence`"
    try:
        scans = parse_json(read_text(file))["scans"]
        found = {scan["case"]: _classes(scan["confidence"]["classes"]) for scan in scans if "confidence" in scan}
    except FileNotFoundError as error:
        raise DataError(f"{SUMMARY} not found in the folder of the predictions", hint=hint, file=file) from error
    except (OSError, *DAMAGED_JSON, KeyError, TypeError, AttributeError) as error:
        raise DataError(
            f"cannot read {SUMMARY}", got=f"{type(error).__name__}: {error}", hint=hint, file=file
        ) from error
    if not found:
        raise DataError("the predictions have no confidence", got=f"{len(scans)} scans without", hint=hint, file=file)
    return found


def _classes(values: dict[str, Any]) -> dict[str, float]:
    return {name: math.nan if value is None else float(value) for name, value in values.items()}
