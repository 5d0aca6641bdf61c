"""Evaluates runs: predicts each held-out case as `predict` does, with the network that held it out, and scores it."""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, Unpack

import blosc2
import numpy as np
import torch
from jaxtyping import Integer

from inflate3d.config import RunConfig
from inflate3d.datasets import Case, Dataset, Split, read_dataset
from inflate3d.errors import ConfigError, DataError, truncate
from inflate3d.evaluation.accumulator import ScoreAccumulator
from inflate3d.evaluation.calibration import CALIBRATION_FILE, Calibration
from inflate3d.evaluation.distances import Spacing
from inflate3d.evaluation.measures import TOLERANCE
from inflate3d.evaluation.postprocessing.choice import depth_filters
from inflate3d.evaluation.postprocessing.steps import POSTPROCESSING_FILE, Postprocessing, read_postprocessing
from inflate3d.evaluation.postprocessing.validation import ChosenPostprocessing, choose_postprocessing, random_parts
from inflate3d.evaluation.scores import Scores
from inflate3d.inference.ensemble import check_agreement, find_models
from inflate3d.inference.predictor import Predictor, PredictorSettings
from inflate3d.inference.scan_warnings import log_warnings
from inflate3d.io import write_labels
from inflate3d.models.checkpoint import read_description
from inflate3d.models.oom import is_oom, out_of_memory_error
from inflate3d.orientation import DEPTH_AXES
from inflate3d.preparation.plan import Plan
from inflate3d.preparation.verify import check_case
from inflate3d.progress import Progress, silent
from inflate3d.provenance import Provenance, digest_case
from inflate3d.run_folder import FoldsFolder, RunFolder

FOLD = "fold"
"""The kind of group by fold."""


@dataclass(frozen=True)
class Evaluation:
    """The result of evaluating a run or folds.

    Attributes:
        scores: Scores of the held-out cases. For folds, each case's group `FOLD` is the name of its run's folder.
        postprocessing: The post-processing chosen on these cases; None if not requested.
    """

    scores: Scores
    postprocessing: ChosenPostprocessing | None = None


def evaluate(
    folder: RunFolder | FoldsFolder,
    *,
    dataset: Dataset | None = None,
    tolerance: float = TOLERANCE,
    postprocess: bool = False,
    choose: bool = False,
    progress: Progress = silent,
    **settings: Unpack[PredictorSettings],
) -> Evaluation:
    """Predicts and scores the cases that a run, or each of several folds, held out.

    Label maps and scores are written into the folder. Each scan and each label is read once. Other processes can't
    train or evaluate the run at the same time.

    Args:
        folder: A finished run, or finished folds of one cross-validation, some of which may be missing.
        dataset: Folder of the dataset; by default the run's. Another folder must have the same cases.
        tolerance: Distance in millimeters up to which a surface counts as matched in NSD.
        postprocess: Whether to apply the model's post-processing, as `predict` does. It was chosen on these cases, so
            the scores are optimistic.
        choose: Whether to choose the post-processing, depth filter included, on these cases, and write it into the
            model's folder.
        **settings: See `Predictor`.
    """
    with folder.locked():
        for run in folder.runs:
            read_description(run.model)  # without a model there is nothing to evaluate
        held_out = held_out_cases(folder)
        dataset = dataset or read_dataset(RunConfig.read(folder.runs[0].config).dataset)
        plan = Plan.read(folder.runs[0].plan)
        evaluator = _Evaluator(folder, dataset, plan, tolerance, keep=choose)
        if postprocess:
            evaluator.postprocessing = (
                read_postprocessing((folder.root,), plan.classes, plan.regions) or Postprocessing()
            )
        for run in folder.runs:
            evaluator.add(run, held_out[run.root.name], progress, settings)
        scores = evaluator.accumulator.scores()
        scores.write(folder.evaluation)
        if not postprocess:  # the confidence is that of label maps before post-processing
            evaluator.calibrate(scores)
        return Evaluation(scores, evaluator.choose(scores, progress) if choose else None)


def evaluate_run(
    folder: RunFolder | FoldsFolder,
    *,
    dataset: Dataset | None = None,
    tolerance: float = TOLERANCE,
    progress: Progress = silent,
    **settings: Unpack[PredictorSettings],
) -> Scores:
    """Predicts and scores the held-out cases of a run or a cross-validation; see `evaluate` for the arguments.

    Examples:
        >>> scores = evaluate_run(RunFolder(Path("runs/Liver")), device="cpu")
        >>> len(scores.cases), scores.classes
        (1, ('liver', 'tumor'))
    """
    return evaluate(folder, dataset=dataset, tolerance=tolerance, progress=progress, **settings).scores


class _Evaluator:
    """Predicts, writes and scores one case after another."""

    def __init__(
        self,
        folder: RunFolder | FoldsFolder,
        dataset: Dataset,
        plan: Plan,
        tolerance: float,
        *,
        keep: bool,
    ) -> None:
        self.folder, self.dataset, self.plan, self.tolerance = folder, dataset, plan, tolerance
        self.accumulator = ScoreAccumulator(plan.class_names, tolerance=tolerance, members=plan.members)
        self.postprocessing = Postprocessing()
        self.depth_filters = depth_filters(_usual_slice_spacing(folder.runs[0], plan)) if keep else ()
        self.kept: dict[str, _Kept] | None = {} if keep else None
        self.soft: list[list[float]] = []

    def add(self, run: RunFolder, held_out: tuple[str, ...], progress: Progress, settings: PredictorSettings) -> None:
        """Evaluates the held-out cases of a run."""
        cases = [self.dataset.case(name) for name in held_out]
        predictor = Predictor.load(run.model, **settings)
        digests = self._digests(run)
        is_fold = isinstance(self.folder, FoldsFolder)
        doing = f"evaluating {run.root.name}" if is_fold else "evaluating"
        for case in progress(iter(cases), len(cases), doing):
            try:
                self._add_case(predictor, case, {FOLD: run.root.name} if is_fold else {}, digests)
            except (RuntimeError, MemoryError) as error:
                if not is_oom(error):
                    raise
                raise out_of_memory_error(error).with_context(case=case.id, file=case.scan) from error

    def _digests(self, run: RunFolder) -> dict[str, str]:
        """Checksums of the run's cases by id, if the dataset is not where it was during training."""
        if self.dataset.root.resolve() == RunConfig.read(run.config).dataset or not run.provenance.exists():
            return {}
        return Provenance.read(run).data.cases

    def _add_case(self, predictor: Predictor, case: Case, groups: dict[str, str], digests: dict[str, str]) -> None:
        plan = predictor.plan
        known = plan.apply_to(self.dataset)  # the files need not contain what a run ignores or merges
        volume, label_volume = check_case(case, known, allow_missing_modality=plan.allow_missing_modality)
        before = digests.get(case.id)
        if before and (now := digest_case(case, volume, label_volume, plan)) != before:
            raise DataError(
                "held-out case has changed since the run was trained",
                expected=f"the SHA-256 digest {before}",
                got=now,
                hint="give the dataset of the run; "
                "score other data with `predict` and `evaluate --predictions --labels`",
                case=case.id,
                file=case.scan,
            )
        started = time.perf_counter()
        prediction = predictor.predict(
            volume,
            confidence=True,
            model_grid=True,
            depth_filter=self.postprocessing.depth_filter,
            other_filters=self.depth_filters,
            log_warnings=False,
        )
        log_warnings(prediction.warnings, case=case.id)
        labels = prediction.labels
        if self.postprocessing.classes:
            labels = self.postprocessing.apply(labels, volume.spacing)
        seconds = time.perf_counter() - started
        write_labels(self.folder.prediction(case.id), labels, like=case.scan)
        label = label_volume.array[0]
        ours, truth = (plan.number_classes(each) for each in (labels, label))
        grid = prediction.model_grid
        assert prediction.confidence is not None and prediction.confidence.soft is not None and grid is not None
        self.soft.append(list(prediction.confidence.soft.values()))
        self.accumulator.add_micro(_as_tensor(grid.classes), _as_tensor(grid.resample(truth)))
        self.accumulator.add(
            case.id,
            _as_tensor(ours),
            _as_tensor(truth),
            volume.spacing,
            confidence=list(prediction.confidence.classes.values()),
            seconds=seconds,
            groups={"group": case.group, **groups},
        )
        if self.kept is not None:
            maps = zip((0.0, *self.depth_filters), (labels, *prediction.other_labels), strict=True)
            self.kept[case.id] = _Kept({each: _pack(smoothed) for each, smoothed in maps}, _pack(label), volume.spacing)

    def calibrate(self, scores: Scores) -> None:
        """Writes how the Dice of the held-out cases follows from their soft Dice; `predict` expects a Dice from it."""
        place = self.folder.root if isinstance(self.folder, FoldsFolder) else self.folder.model
        soft = np.array(self.soft).reshape(scores.dice.shape)
        Calibration.of(scores.classes, soft, scores.dice, scores.patients).write(place / CALIBRATION_FILE)

    def choose(self, scores: Scores, progress: Progress) -> ChosenPostprocessing:
        """Chooses the post-processing by folds, or by parts of a single run's held-out cases, and writes it."""
        if isinstance(self.folder, FoldsFolder):
            file, parts = self.folder.root, dict(zip(scores.cases, scores.groups[FOLD], strict=True))
        else:
            file = self.folder.model
            parts = random_parts({name: self.dataset.case(name).group for name in scores.cases})
        chosen = choose_postprocessing(
            self._read,
            self.plan,
            scores,
            parts,
            depth_filters=self.depth_filters,
            tolerance=self.tolerance,
            progress=progress,
        )
        chosen.write(self.folder, file / POSTPROCESSING_FILE)
        return chosen

    def _read(
        self, case: str, depth_filter: float
    ) -> tuple[Integer[np.ndarray, "i j k"], Integer[np.ndarray, "i j k"], Spacing]:
        """Label values of a case's prediction and label, and its spacing, unpacked from memory."""
        assert self.kept is not None
        kept = self.kept[case]
        return _unpack(kept.predictions[depth_filter]), _unpack(kept.label), kept.spacing


class _Kept(NamedTuple):
    """A case's compressed label maps.

    Attributes:
        predictions: Label maps by standard deviation of the depth filter in millimeters.
    """

    predictions: dict[float, bytes]
    label: bytes
    spacing: Spacing


def _usual_slice_spacing(run: RunFolder, plan: Plan) -> float:
    """Median over the cases that a run was trained and validated on, in millimeters."""
    return Provenance.read(run).data.spacing.median[DEPTH_AXES.index(plan.depth_axis)]


def _pack(labels: Integer[np.ndarray, "i j k"]) -> bytes:
    """A label map in memory, compressed about a hundredfold."""
    return bytes(blosc2.pack_tensor(np.ascontiguousarray(labels)))


def _unpack(packed: bytes) -> Integer[np.ndarray, "i j k"]:
    return np.asarray(blosc2.unpack_tensor(packed))


def _as_tensor(numbers: Integer[np.ndarray, "*grid"]) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(numbers, np.int64))


def held_out_cases(folder: RunFolder | FoldsFolder) -> dict[str, tuple[str, ...]]:
    """The cases that a run, or each fold, held out, by folder name; folds are checked by `read_held_out`."""
    if isinstance(folder, RunFolder):
        return {folder.root.name: Split.read(folder.split).held_out}
    return read_held_out(folder)


def read_held_out(folder: FoldsFolder) -> dict[str, tuple[str, ...]]:
    """The cases that each fold held out, by folder name; checks that the runs are folds of one cross-validation."""
    find_models(folder.root)  # names those that are not finished
    runs = folder.runs
    check_agreement([Plan.read(run.plan) for run in runs], [run.root for run in runs])
    datasets = sorted({str(RunConfig.read(run.config).dataset) for run in runs})
    if len(datasets) > 1:
        raise ConfigError(
            "runs are not folds of one cross-validation: they were trained on different datasets",
            expected="one dataset",
            got=truncate(datasets),
            hint="evaluate each run separately",
            file=folder.root,
        )
    held_out = {run.root.name: Split.read(run.split).held_out for run in runs}
    counts = Counter(case for cases in held_out.values() for case in cases)
    if twice := sorted(case for case, count in counts.items() if count > 1):
        raise DataError(
            "runs are not folds of one cross-validation: several held out the same case",
            expected="each case held out by one run",
            got=truncate(twice),
            hint="evaluate each run separately",
            case=twice[0],
            file=folder.root,
        )
    return held_out


def find_dataset(folder: RunFolder | FoldsFolder, moved: Path | None) -> Dataset:
    """The dataset of a run, or the same one at its new location."""
    if moved is None:
        return read_dataset(RunConfig.read(folder.runs[0].config).dataset)
    dataset, plan = read_dataset(moved), Plan.read(folder.runs[0].plan)
    if dataset.modalities != plan.modalities:
        raise ConfigError(
            "the dataset's modalities differ from the run's",
            expected=", ".join(plan.modalities),
            got=", ".join(dataset.modalities),
            file=moved,
        )
    return dataset
