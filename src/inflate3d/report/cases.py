"""Pictures of held-out cases for the report: which cases, which slices, what is drawn on them."""

from __future__ import annotations

import math
from collections.abc import Iterator
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
from inflate3d.report.methods import Method
from inflate3d.report.slices import (
    BETWEEN_METHODS,
    ERRORS,
    compare_methods,
    crop_box,
    draw_areas,
    draw_slice,
    find_errors,
    spread_slices,
    upright,
)
from inflate3d.volume import Volume

SLICES_SHOWN = 5


@dataclass(frozen=True)
class Picture:
    """A slice, drawn.

    Attributes:
        what: What it shows, such as ``"errors"``, for its file's name.
        title: The same for the page.
        content: A PNG file.
    """

    what: str
    title: str
    content: bytes

    @property
    def address(self) -> str:
        """The picture as an address that needs no other file."""
        return small_address(self.content)


@dataclass(frozen=True)
class SlicePictures:
    """A slice of a case, drawn in several ways.

    Attributes:
        number: Which one, from 1 on.
        pictures: What is drawn of it.
    """

    number: int
    pictures: tuple[Picture, ...]


@dataclass(frozen=True)
class CasePictures:
    """A case's slices.

    Attributes:
        case: Its id.
        standing: Why it is shown, such as ``"best"``.
        means: Name and mean Dice of each method.
        slices: The pictures.
        length: Slices of the whole scan.
        only_right: Voxels of the whole scan that only the first method gets right, and only the second; none
            without a second.
    """

    case: str
    standing: str
    means: tuple[tuple[str, str], ...]
    slices: tuple[SlicePictures, ...]
    length: int
    only_right: tuple[int, int] | None


def noteworthy_cases(scores: Scores) -> list[tuple[str, str]]:
    """The best, the median and the worst case by mean Dice, each with its standing; fewer where there are fewer.

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


def case_pictures(case: Case, standing: str, plan: Plan, methods: list[Method]) -> CasePictures:
    """Draws a held-out case's slices: outlines for each method, the first one's errors, and where two methods differ.

    Args:
        case: The case.
        standing: Why it is shown.
        plan: How scans are brought into the model's frame.
        methods: One, or two to compare.

    Raises:
        DataError: The scan, its label map or a prediction is missing, can't be read, or lies on another grid.
    """
    scan = read_images(case.images, case=case.id)
    framed = to_model_space(scan, plan.model_copy(update={"slice_spacing": None}))  # on the scan's own slices
    assert case.label is not None, "held-out cases have labels"
    files = [case.label, *(prediction_file(method, case) for method in methods)]
    label, *predictions = (plan.number_classes(framed.labels(labels_on(scan, file, case.id))) for file in files)
    errors = find_errors(label, predictions[0])
    between = compare_methods(label, *predictions) if len(predictions) == 2 else None
    label[label == IGNORED] = 0
    rows, columns = crop_box(np.any([label, *predictions], axis=0))
    _, height, width = framed.spacing
    low, high = framed.value_ranges(plan.normalization)[0]

    def draw(index: int) -> Iterator[Picture]:
        def seen(volume: np.ndarray) -> np.ndarray:
            return upright(volume[index, rows, columns])

        gray = np.clip((seen(framed.image()[0]).astype(np.float32) - low) / (high - low), 0, 1)
        known, step = seen(label), (width, height)
        for method, prediction in zip(methods, predictions, strict=True):
            yield Picture(f"outlines-{method.name}", method.name, draw_slice(gray, known, seen(prediction), step))
        name = f"errors, {methods[0].name}" if len(methods) > 1 else "errors"
        yield Picture("errors", name, draw_areas(gray, seen(errors), ERRORS, known, step))
        if between is not None:
            yield Picture("depth", "who is right", draw_areas(gray, seen(between), BETWEEN_METHODS, known, step))

    chosen = spread_slices(_slices_to_choose(label), SLICES_SHOWN)
    return CasePictures(
        case=case.id,
        standing=standing,
        means=tuple((method.name, show(method.case_mean(case.id))) for method in methods),
        slices=tuple(SlicePictures(index + 1, tuple(draw(index))) for index in chosen),
        length=len(label),
        only_right=None if between is None else (int((between == 1).sum()), int((between == 2).sum())),
    )


def prediction_file(method: Method, case: Case) -> Path:
    """A method's predicted label map of a held-out case.

    Raises:
        DataError: It is missing.
    """
    file = method.folder.prediction(case.id)
    if not file.exists():
        raise DataError(
            "predicted label map of a held-out case not found",
            case=case.id,
            file=file,
            hint=f"run `inflate3d evaluate {method.folder.root}` first",
        )
    return file


def labels_on(scan: Volume, file: Path, case: str) -> Integer[np.ndarray, "i j k"]:
    """The label values of a file, on a scan's own grid.

    Raises:
        DataError: The file can't be read, or lies on another grid.
    """
    return lay_on(read_labels(file, case=case), scan, case=case, file=file).array[0]


def _slices_to_choose(label: Integer[np.ndarray, "d h w"]) -> list[int]:
    """The slices with foreground; all of them where there is none."""
    holding = np.flatnonzero(label.any(axis=(1, 2))).tolist()
    return holding or list(range(len(label)))
