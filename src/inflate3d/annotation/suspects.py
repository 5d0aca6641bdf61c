"""Label maps to check: those that disagree the most implausibly with networks that did not learn from them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Unpack

import blosc2
import numpy as np
from jaxtyping import Integer

from inflate3d.annotation.disagreement import Disagreement, Unusual, compare_disagreements, measure_disagreement
from inflate3d.datasets import Case, Dataset
from inflate3d.errors import DataError
from inflate3d.evaluation.tables import Table, Value
from inflate3d.inference.predictor import Predictor, PredictorSettings
from inflate3d.inference.runs import held_out_cases
from inflate3d.inference.scan_warnings import log_warnings
from inflate3d.orientation import Orientation
from inflate3d.preparation.plan import Plan
from inflate3d.preparation.verify import check_case
from inflate3d.progress import Progress, silent
from inflate3d.run_folder import FoldsFolder, RunFolder

FEWEST_CASES = 5
"""With fewer, nothing shows how large a disagreement is usual."""

NOTEWORTHY = 2.0
"""Robust standard deviations from which a slice is listed."""


@dataclass(frozen=True, eq=False)
class Suspect:
    """A label map with its disagreement.

    Attributes:
        case: The case.
        rank: From 1, the most implausible.
        run: Folder name of the run that held it out.
        found: Its disagreement by class and slice; slices along the plan's depth axis.
        unusual: The same, compared with all cases.
        packed: The prediction's label values on the scan's own grid, compressed.
    """

    case: Case
    rank: int
    run: str
    found: Disagreement
    unusual: Unusual
    packed: bytes

    @property
    def score(self) -> float:
        """Robust standard deviations of its worst class, as a whole or in its worst slice, from the median case."""
        return self.unusual.worst.score

    @property
    def prediction(self) -> Integer[np.ndarray, "i j k"]:
        """The predicted label values on the scan's own grid."""
        return np.asarray(blosc2.unpack_tensor(self.packed))

    def worst_slices(self, count: int) -> list[int]:
        """The slices with the most implausible disagreement of any class, ascending, from 0."""
        worst = self.unusual.slices.max(axis=0)
        return sorted(np.argsort(-worst, kind="stable")[:count].tolist())


@dataclass(frozen=True)
class Suspects:
    """All held-out label maps, the most implausible first.

    Attributes:
        plan: The plan of the runs.
        ranked: The label maps in order.
    """

    plan: Plan
    ranked: tuple[Suspect, ...]

    def in_words(self, suspect: Suspect) -> str:
        """What is implausible about a label map, such as ``slice 12 of 36 (axial): liver may be missing``."""
        _, aspect, number, index = suspect.unusual.worst
        name, found = self.plan.value_names[number], suspect.found
        if aspect == "size":
            times = found.labeled[number].sum() / max(found.predicted[number].sum(), 1e-9)
            return f"{name} may be labeled {'too far' if times > 1 else 'in part'} ({times:.2g} times the prediction)"
        missing, surplus = (
            float(areas[number].sum() if index is None else areas[number, index])
            for areas in (found.missing, found.surplus)
        )
        what = f"{name} may be {'missing' if missing > surplus else 'labeled too far'}"
        if min(missing, surplus) > 0.5 * max(missing, surplus):
            what = f"{name} may be misplaced"
        if index is None:
            return f"{what} (Dice {found.dice[number]:.2f})"
        return f"slice {index + 1} of {found.labeled.shape[1]} ({self.plan.depth_axis}): {what}"

    def table(self) -> Table:
        """A row for each case in the order of their ranks."""
        names = self.plan.value_names
        rows: list[list[Value]] = []
        for each in self.ranked:
            score, _, number, index = each.unusual.worst
            place = None if index is None else index + 1
            dice = [float(value) for value in each.found.dice]
            rows.append([each.rank, each.case.id, score, names[number], place, self.in_words(each), each.run, *dice])
        columns = ("rank", "case", "score", "class", "slice", "finding", "run", *(f"Dice {name}" for name in names))
        return Table(columns, rows)

    def slice_table(self) -> Table:
        """A row for each class of a case, and for each of its slices that is unusual by `NOTEWORTHY`."""
        columns = ("case", "class", "slice", "score", "labeled_mm2", "predicted_mm2", "missing_mm2", "surplus_mm2")
        rows: list[list[Value]] = []
        for each in self.ranked:
            parts = (each.found.labeled, each.found.predicted, each.found.missing, each.found.surplus)
            for number, name in enumerate(self.plan.value_names):
                whole = [float(part[number].sum()) for part in parts]
                unusual = max(float(each.unusual.overlap[number]), abs(float(each.unusual.size[number])))
                rows.append([each.case.id, name, None, unusual, *whole])
                for index in np.flatnonzero(each.unusual.slices[number] >= NOTEWORTHY).tolist():
                    areas = [float(part[number, index]) for part in parts]
                    rows.append([each.case.id, name, index + 1, float(each.unusual.slices[number, index]), *areas])
        return Table(columns, rows)


def find_suspects(
    folder: RunFolder | FoldsFolder,
    dataset: Dataset,
    *,
    progress: Progress = silent,
    **settings: Unpack[PredictorSettings],
) -> Suspects:
    """Predicts each held-out case with the network that held it out, and ranks the label maps by the disagreement.

    Args:
        folder: A finished run, or finished folds, in which each case is held out once.
        dataset: The dataset of the run.
        **settings: See `Predictor`.

    Raises:
        DataError: A held-out case is not in the dataset, can't be read, or there are fewer than five.

    Examples:
        >>> import inflate3d as i3d
        >>> from inflate3d.inference.runs import find_dataset
        >>> run = i3d.FoldsFolder(Path("runs/Liver-folds"))  # doctest: +SKIP
        >>> [each.case.id for each in find_suspects(run, find_dataset(run, None)).ranked][:2]  # doctest: +SKIP
        ['case7', 'case3']
    """
    held_out = held_out_cases(folder)
    count = sum(map(len, held_out.values()))
    if count < FEWEST_CASES:
        raise DataError(
            "too few held-out cases to say which label map is unusual",
            expected=f"at least {FEWEST_CASES}",
            got=count,
            hint="train all folds by `inflate3d train DATASET --folds all`, and give their folder",
            file=folder.root,
        )
    found: list[tuple[Case, str, Disagreement, bytes]] = []
    for run in folder.runs:
        predictor = Predictor.load(run.model, **settings)
        names = held_out[run.root.name]
        for name in progress(iter(names), len(names), f"comparing {run.root.name}"):
            case = dataset.case(name)
            found.append((case, run.root.name, *_compare(predictor, case, dataset)))
    unusual = compare_disagreements([disagreement for _, _, disagreement, _ in found])
    order = sorted(range(len(found)), key=lambda place: (-unusual[place].worst.score, found[place][0].id))
    ranked = (
        Suspect(found[place][0], rank, found[place][1], found[place][2], unusual[place], found[place][3])
        for rank, place in enumerate(order, start=1)
    )
    return Suspects(Plan.read(folder.runs[0].plan), tuple(ranked))


def _compare(predictor: Predictor, case: Case, dataset: Dataset) -> tuple[Disagreement, bytes]:
    """A case's disagreement, and its packed prediction."""
    plan = predictor.plan
    scan, labels = check_case(case, plan.apply_to(dataset), allow_missing_modality=plan.allow_missing_modality)
    prediction = predictor.predict(scan, uncertainty=True, log_warnings=False)
    log_warnings(prediction.warnings, case=case.id)
    assert prediction.uncertainty is not None
    orientation = Orientation.of(scan.affine, plan.depth_axis)
    label, ours = (plan.number_classes(each) for each in (labels.array[0], prediction.labels))
    _, rows, columns = (scan.spacing[axis] for axis in orientation.axes)
    found = measure_disagreement(
        orientation.apply(label),
        orientation.apply(ours),
        orientation.apply(prediction.uncertainty),
        len(plan.classes),
        rows * columns,
    )
    return found, bytes(blosc2.pack_tensor(np.ascontiguousarray(prediction.labels)))
