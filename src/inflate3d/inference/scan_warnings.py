"""What is unusual about a scan that is predicted: its label map may be wrong although nothing failed."""

from __future__ import annotations

import logging
from collections.abc import Iterable

from inflate3d.errors import DataError
from inflate3d.preparation.dataset_warnings import value_warnings
from inflate3d.preparation.plan import Plan
from inflate3d.volume import Volume

logger = logging.getLogger(__name__)


class UnlikeTrainingError(DataError):
    """A warning that a scan differs from the training cases."""


def scan_warnings(volume: Volume, plan: Plan) -> list[DataError]:
    """Warnings about a scan: what was noted when it was read, its values, and how it differs from the training cases.

    Args:
        volume: The scan, with zeros for missing modalities.
        plan: The model's.
    """
    notes = [DataError(note) for note in volume.notes]
    return [*notes, *value_warnings(volume, plan), *_unlike_training(volume, plan)]


def log_warnings(warnings: Iterable[DataError], *, case: str | None = None) -> None:
    """Logs warnings about a scan to ``logging.getLogger("inflate3d")``.

    Args:
        warnings: Of a `Prediction`.
        case: The scan's name, for warnings that don't say it.
    """
    for warning in warnings:
        logger.warning("%s", warning.with_context(case=case))


def _unlike_training(volume: Volume, plan: Plan) -> list[DataError]:
    unusual = plan.typical.unusual(volume, plan.modalities) if plan.typical else []
    if not unusual:
        return []
    return [
        UnlikeTrainingError(
            "scan is unlike the training scans: its label map may be wrong",
            expected="; ".join(f"{name} {usual}" for name, usual, _ in unusual),
            got="; ".join(f"{name} {own}" for name, _, own in unusual),
            hint="look at the label map; `inflate3d verify` shows what the training cases look like",
        )
    ]
