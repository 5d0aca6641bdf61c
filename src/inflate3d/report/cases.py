"""Pictures of held-out cases for the report: which cases, which slices, and what is drawn."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Integer

from inflate3d.datasets import Case
from inflate3d.datasets.classes import IGNORED
from inflate3d.errors import DataError
from inflate3d.evaluation.scores import Scores, show
from inflate3d.io import lay_on, read_images, read_labels
from inflate3d.preparation.model_space import to_model_space
from inflate3d.preparation.plan import Plan
from inflate3d.report.drawing import small_address
from inflate3d.report.slices import (
    ERRORS,
    crop_box,
    draw_areas,
    draw_slice,
    find_errors,
    spread_slices,
    upright,
)
from inflate3d.run_folder import ScoredFolder
from inflate3d.volume import Volume

SLICES_SHOWN = 5


@dataclass(frozen=True)
class Picture:
    """A drawn slice.

    Attributes:
        what: What it shows, such as ``"errors"``.
    """

    what: str
    content: bytes

    @property
    def address(self) -> str:
        """The picture as a data URL."""
        return small_address(self.content)


@dataclass(frozen=True)
class SlicePictures:
    """A slice of a case, drawn in several ways.

    Attributes:
        number: Its number, from 1.
    """

    number: int
    pictures: tuple[Picture, ...]


@dataclass(frozen=True)
class CasePictures:
    """A case's slices.

    Attributes:
        standing: Reason for showing it, such as ``"best"``.
        length: Slices of the whole scan.
    """

    case: str
    standing: str
    mean: str
    slices: tuple[SlicePictures, ...]
    length: int


def noteworthy_cases(scores: Scores) -> list[tuple[str, str]]:
    """The best, median and worst case by mean Dice, with their rank; fewer if there are fewer cases.

    Cases without any defined score are left out.
    """
    means = scores.case_means()
    ranked = sorted(
        (number for number, mean in enumerate(means) if not math.isnan(mean)),
        key=lambda number: means[number],
        reverse=True,
    )
    if not ranked:
        return []
    chosen: dict[str, str] = {}
    for standing, place in (("best", 0), ("worst", -1), ("median", len(ranked) // 2)):
        chosen.setdefault(scores.cases[ranked[place]], standing)
    order = {scores.cases[number]: place for place, number in enumerate(ranked)}
    return sorted(chosen.items(), key=lambda item: order[item[0]])


def case_pictures(case: Case, standing: str, plan: Plan, folder: ScoredFolder, scores: Scores) -> CasePictures:
    """Draws slices of a held-out case that are spread over its label.

    Args:
        standing: Why it is shown.
        plan: The plan, for model space.
    """
    scan = read_images(case.images, case=case.id)
    file = prediction_file(folder, case)
    prediction = read_labels(file, case=case.id, on=scan.grid, structures=plan.structures or None)
    return draw_case(
        case,
        standing,
        scan,
        lay_on(prediction, scan, case=case.id, file=file).array[0],
        plan,
        mean=show(scores.case_means()[scores.cases.index(case.id)]),
    )


def draw_case(
    case: Case,
    standing: str,
    scan: Volume,
    prediction: Integer[np.ndarray, "i j k"],
    plan: Plan,
    *,
    mean: str,
    slices: Sequence[int] | None = None,
) -> CasePictures:
    """Draws slices of a labeled case: outlines of label and prediction, and where they differ.

    Args:
        scan: Its images.
        prediction: Label values on the scan's own grid.
        slices: The slices along the plan's depth axis, from 0; None: spread over those with a label.
    """
    framed = to_model_space(scan, plan.model_copy(update={"slice_spacing": None}))  # on the scan's own slices
    assert case.label is not None, "held-out cases have labels"
    labels = read_labels(case.label, case=case.id, on=scan.grid, structures=plan.structures or None)
    values = lay_on(labels, scan, case=case.id, file=case.label).array[0]
    label, ours = (plan.number_classes(framed.labels(each)) for each in (values, prediction))
    errors = find_errors(label, ours)
    label[label == IGNORED] = 0
    rows, columns = crop_box((label > 0) | (ours > 0))
    _, height, width = framed.spacing
    low, high = framed.value_ranges(plan.normalization)[0]

    def draw(index: int) -> tuple[Picture, Picture]:
        planes = (framed.image()[0], label, ours, errors)
        gray, known, predicted, wrong = (upright(volume[index, rows, columns]) for volume in planes)
        gray, step = np.clip((gray.astype(np.float32) - low) / (high - low), 0, 1), (width, height)
        outlines = draw_slice(gray, known, predicted, step)
        return Picture("outlines", outlines), Picture("errors", draw_areas(gray, wrong, ERRORS, known, step))

    chosen = spread_slices(_slices_to_choose(label), SLICES_SHOWN) if slices is None else slices
    return CasePictures(
        case=case.id,
        standing=standing,
        mean=mean,
        slices=tuple(SlicePictures(index + 1, draw(index)) for index in chosen),
        length=len(label),
    )


def prediction_file(folder: ScoredFolder, case: Case) -> Path:
    file = folder.prediction(case.id)
    if not file.exists():
        raise DataError(
            "predicted label map of a held-out case not found",
            case=case.id,
            file=file,
            hint=f"run `inflate3d evaluate {folder.root}` first",
        )
    return file


def _slices_to_choose(label: Integer[np.ndarray, "d h w"]) -> list[int]:
    """The slices with foreground, or all slices if there is none."""
    holding = np.flatnonzero(label.any(axis=(1, 2))).tolist()
    return holding or list(range(len(label)))
