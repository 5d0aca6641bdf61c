"""A training's log, and its curves."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from inflate3d.documents import read_text
from inflate3d.errors import DataError
from inflate3d.report.drawing import class_color
from inflate3d.report.plots import Curve

_BESIDE = "#888888"


@dataclass(frozen=True)
class Log:
    """A training's ``metrics.csv``.

    Attributes:
        columns: Each column's steps and values, rows without a value left out.
        seconds: How long the training took.
    """

    columns: dict[str, tuple[list[int], list[float]]]
    seconds: float


def read_log(file: Path) -> Log:
    """Reads a training's log.

    Raises:
        DataError: It is missing or damaged.
    """
    columns: dict[str, tuple[list[int], list[float]]] = {}
    try:
        for row in csv.DictReader(io.StringIO(read_text(file))):
            for name, cell in row.items():
                if name != "step" and cell:
                    steps, values = columns.setdefault(name, ([], []))
                    steps.append(int(row["step"]))
                    values.append(float(cell))
    except (OSError, ValueError, KeyError, TypeError, csv.Error) as error:
        raise DataError("the training's log can't be read", got=error, file=file) from error
    return Log(columns, seconds=columns["seconds"][1][-1] if "seconds" in columns else math.nan)


def loss_curves(logs: Sequence[Log]) -> list[Curve]:
    """The loss of each training, the first one on top, others dashed."""
    return [
        Curve(*log.columns["loss"], color=_BESIDE if number else None, wide=not number, dashed=bool(number))
        for number, log in reversed(list(enumerate(logs)))
        if "loss" in log.columns
    ]


def dice_curves(logs: Sequence[Log], class_names: Sequence[str]) -> list[Curve]:
    """The first training's validation Dice by class and its mean; the others' means dashed below."""
    own = logs[0].columns
    curves = [Curve(*log.columns["dice"], color=_BESIDE, dashed=True) for log in logs[1:] if "dice" in log.columns]
    curves += [
        Curve(*own[f"dice/{name}"], color=class_color(number))
        for number, name in enumerate(class_names, start=1)
        if f"dice/{name}" in own
    ]
    if "dice" in own:
        curves.append(Curve(*own["dice"], wide=True))
    return curves
