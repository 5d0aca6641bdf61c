"""Pictures of held-out cases for the report: which cases, which slices, each method's outlines on them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Integer

from inflate3d.datasets import Case
from inflate3d.errors import DataError
from inflate3d.evaluation.scores import Scores, show
from inflate3d.io import lay_on, read_images, read_labels
from inflate3d.preparation.framing import frame_case
from inflate3d.preparation.plan import IGNORED, Plan
from inflate3d.report.figures import crop_box, data_address, draw_slice, spread_slices, upright
from inflate3d.run_folder import RunFolder
from inflate3d.volume import Volume

SLICES_SHOWN = 5


@dataclass(frozen=True)
class Method:
    """A run on the page: the page's own, or its twin.

    Attributes:
        name: What tells it from the other, such as ``"5 slices"``.
        scores: Its scores of the held-out cases.
        folder: Its folder.
    """

    name: str
    scores: Scores
    folder: RunFolder

    def case_mean(self, case: str) -> float:
        """Mean Dice of a case over its classes."""
        return self.scores.case_means()[self.scores.cases.index(case)]


@dataclass(frozen=True)
class SlicePictures:
    """A slice of a case, with each method's outlines.

    Attributes:
        number: Which one, from 1 on.
        pictures: Name of the method and its picture, as ``data:`` address.
    """

    number: int
    pictures: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class CasePictures:
    """A case's slices.

    Attributes:
        case: Its id.
        standing: Why it is shown, such as ``"best"``.
        means: Name and mean Dice of each method.
        slices: The pictures.
        length: Slices of the whole scan.
    """

    case: str
    standing: str
    means: tuple[tuple[str, str], ...]
    slices: tuple[SlicePictures, ...]
    length: int


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
    """Draws a held-out case's slices.

    Args:
        case: The case.
        standing: Why it is shown.
        plan: How scans are brought into the model's frame.
        methods: Whose outlines to draw, each on pictures of its own.

    Raises:
        DataError: The scan, its label map or a prediction is missing, can't be read, or lies on another grid.
    """
    scan = read_images(case.images, case=case.id)
    framed = frame_case(scan, plan.model_copy(update={"slice_spacing": None}))  # on the scan's own slices
    assert case.label is not None, "held-out cases have labels"
    files = [case.label, *(_prediction(method, case) for method in methods)]
    label, *predictions = (plan.number_classes(framed.labels(_labels_on(scan, file, case.id))) for file in files)
    label[label == IGNORED] = 0
    rows, columns = crop_box(np.any([label, *predictions], axis=0))
    _, height, width = framed.spacing
    low, high = framed.ranges[0]
    slices = []
    for index in spread_slices(_slices_to_choose(label), SLICES_SHOWN):
        seen, *outlined = (upright(volume[index, rows, columns]) for volume in (framed.image[0], label, *predictions))
        grey = np.clip((seen.astype(np.float32) - low) / (high - low), 0, 1)
        drawn = [draw_slice(grey, outlined[0], prediction, (width, height)) for prediction in outlined[1:]]
        named = zip((method.name for method in methods), map(data_address, drawn), strict=True)
        slices.append(SlicePictures(index + 1, tuple(named)))
    means = tuple((method.name, show(method.case_mean(case.id))) for method in methods)
    return CasePictures(case.id, standing, means, tuple(slices), len(label))


def _slices_to_choose(label: Integer[np.ndarray, "d h w"]) -> list[int]:
    """The slices with foreground; all of them where there is none."""
    holding = np.flatnonzero(label.any(axis=(1, 2))).tolist()
    return holding or list(range(len(label)))


def _prediction(method: Method, case: Case) -> Path:
    file = method.folder.prediction(case.id)
    if not file.exists():
        raise DataError(
            "the predicted label map of a held-out case is missing",
            case=case.id,
            file=file,
            remedy=f"run `inflate3d evaluate {method.folder.root}` first",
        )
    return file


def _labels_on(scan: Volume, file: Path, case: str) -> Integer[np.ndarray, "i j k"]:
    return lay_on(read_labels(file, case=case), scan, case=case, file=file).array[0]
