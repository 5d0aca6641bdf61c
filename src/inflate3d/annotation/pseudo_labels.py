"""Learns also from scans without labels: from what all folds predict alike, and only if that helps the held-out cases.

The networks of a cross-validation predict each scan. Where they agree, it is a label; where they don't, the voxel is
ignored. Each fold is then trained again with these scans in addition, and scored on the cases that it holds out.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Unpack

import numpy as np
from jaxtyping import Integer

from inflate3d.annotation.candidates import find_candidates
from inflate3d.atomic import write_text
from inflate3d.config import DataConfig, RunConfig
from inflate3d.datasets import Case, Dataset, Split, read_dataset
from inflate3d.datasets.folder import LISTING, check_as_many_files, read_folder, write_folder_listing
from inflate3d.documents import parse_json, read_text
from inflate3d.errors import ConfigError, DataError, Inflate3dError
from inflate3d.evaluation.scores import Scores
from inflate3d.evaluation.statistics import FEWEST_GROUPS, Estimate, estimate, group_values, sign_flip
from inflate3d.inference.predictor import Predictor, PredictorSettings
from inflate3d.inference.runs import evaluate_run
from inflate3d.inference.scans import find_scans
from inflate3d.io import read_images, write_labels
from inflate3d.preparation.plan import Plan
from inflate3d.preparation.prepare import prepare
from inflate3d.preparation.store import Store
from inflate3d.progress import Progress, silent
from inflate3d.run_folder import FoldsFolder, RunFolder

MOST_PER_CASE = 4
"""Scans for each labeled case, at most: with more of them, the labels that a person drew would hardly count."""

LEVEL = 0.05
"""How often a rise that is chance may pass for one that is not."""

_SEED = 12345

Train = Callable[[RunConfig, RunFolder, Store], object]
"""Trains a run, or resumes it."""


@dataclass(frozen=True)
class UnlabeledFolder:
    """The files of a training with unlabeled scans, in the folder of the folds.

    Attributes:
        root: ``unlabeled`` in that folder.
    """

    root: Path

    @classmethod
    def of(cls, folds: FoldsFolder) -> UnlabeledFolder:
        return cls(folds.root / "unlabeled")

    @property
    def dataset(self) -> Path:
        """The labeled cases and the scans with their agreed label maps: a dataset for `train` and `verify`."""
        return self.root / "dataset"

    @property
    def request(self) -> Path:
        """Which scans it is about."""
        return self.root / "request.json"

    @property
    def store(self) -> Path:
        return self.root / "store"

    @property
    def folds(self) -> FoldsFolder:
        """The networks that learned from the scans as well."""
        return FoldsFolder(self.root / "folds")

    @property
    def result(self) -> Path:
        """Whether it helped."""
        return self.root / "result.json"


@dataclass(frozen=True)
class Gain:
    """What the unlabeled scans changed on the held-out cases.

    Attributes:
        before: Mean Dice of the folds that learned from the labeled cases alone.
        after: Mean Dice of those that learned from the unlabeled scans as well.
        difference: Their difference, with its 95 % interval over the patients.
        p: One-sided p-value of a sign-flip test over the patients that it is not above 0.
        patients: Number of patients.
        scans: Number of unlabeled scans that were learned from.
    """

    before: float
    after: float
    difference: Estimate
    p: float
    patients: int
    scans: int

    @property
    def kept(self) -> bool:
        """Whether the Dice rose by more than chance."""
        return self.p < LEVEL

    def write(self, file: Path) -> None:
        write_text(file, json.dumps({**asdict(self), "kept": self.kept}, indent=1) + "\n")


def find_unlabeled(folder: Path, dataset: Dataset) -> list[Case]:
    """The scans in a folder that the dataset doesn't have; checks that their use can be judged.

    Raises:
        ConfigError: There are too few labeled cases to judge it.
        DataError: There is no scan, or a scan's modalities are in another number of files than those of the cases.
    """
    patients = {case.group or case.id for case in dataset.cases}
    if len(patients) < FEWEST_GROUPS:
        raise ConfigError(
            "too few labeled cases to judge whether unlabeled scans help",
            expected=f"cases of at least {FEWEST_GROUPS} patients",
            got=len(patients),
            hint="label more cases, or leave out --unlabeled",
        )
    found = find_scans(folder, dataset)
    if found.remote:
        raise ConfigError("unlabeled scans must be on a local disk", got=folder, hint="copy them first")
    new = {each.name for each in find_candidates(dataset, found.cases) if not each.labeled}
    scans = [case for case in found.cases if case.id in new]
    if not scans:
        raise DataError("no unlabeled scan found", got="scans of the dataset's own cases only", file=folder)
    check_as_many_files([dataset.cases[0], *scans])
    return scans


def learn_from_unlabeled(
    folds: FoldsFolder,
    scans: Sequence[Case],
    train: Train,
    *,
    progress: Progress = silent,
    warn: Callable[[Inflate3dError], object] = lambda error: None,
    **settings: Unpack[PredictorSettings],
) -> Gain:
    """Trains each fold again with unlabeled scans, and compares both on the cases that the folds hold out.

    What an earlier call has finished is used.

    Args:
        folds: A finished cross-validation of all folds.
        scans: See `find_unlabeled`. At most `MOST_PER_CASE` for each labeled case are drawn.
        train: Trains each of the new folds.
        progress: Shows progress.
        warn: Called with the error of each scan that can't be predicted, and with what is unusual about the others.
        **settings: How to predict, see `Predictor`.

    Raises:
        ConfigError: An earlier call was about other scans.
        DataError: The networks agree on no structure in any scan.
    """
    folder = UnlabeledFolder.of(folds)
    labeled = min(len(Split.read(run.split).train) for run in folds.runs)
    chosen = _draw(scans, MOST_PER_CASE * labeled)
    _take(folder, folds, chosen)
    if (folder.dataset / LISTING).exists():
        dataset = read_folder(folder.dataset)
    else:
        dataset = _write_dataset(folder, folds, chosen, progress, warn, settings)
    first = RunConfig.read(folds.runs[0].config)
    own = {case.id for case in read_dataset(first.dataset).cases}
    added = [case.id for case in dataset.cases if case.id not in own]
    for config, run in _new_folds(folder, folds, added):
        train(config, run, _open_store(folder, dataset, Store(first.store)))
    before, after = (evaluate_run(each, progress=progress, **settings) for each in (folds, folder.folds))
    gain = compare(before, after, scans=len(added))
    gain.write(folder.result)
    return gain


def agreed(maps: Sequence[Integer[np.ndarray, "i j k"]], ignore: int) -> Integer[np.ndarray, "i j k"]:
    """The label value of each voxel on which all label maps agree, elsewhere the value to ignore.

    Examples:
        >>> one, other = np.array([[[0, 1, 2]]]), np.array([[[0, 1, 1]]])
        >>> agreed([one, other], ignore=9)
        array([[[0, 1, 9]]])
    """
    first, *others = maps
    same = np.ones(first.shape, bool)
    for each in others:
        same &= each == first
    values = first.astype(np.promote_types(first.dtype, np.min_scalar_type(ignore)))
    return np.where(same, values, values.dtype.type(ignore))


def compare(before: Scores, after: Scores, *, scans: int = 0) -> Gain:
    """Compares the Dice of the same cases, patient by patient."""
    assert set(before.cases) == set(after.cases), "both hold out the same cases"
    order = [after.cases.index(case) for case in before.cases]
    differences = group_values((after.dice[order] - before.dice)[None], before.patients)
    found = estimate(differences)
    p = sign_flip(differences[0]) / 2
    return Gain(
        before=before.mean(),
        after=after.mean(),
        difference=found,
        p=p if found.value > 0 else 1 - p,
        patients=differences.shape[1],
        scans=scans,
    )


def _draw(scans: Sequence[Case], most: int) -> list[Case]:
    """The same scans each time, in the order of their names."""
    order = np.random.default_rng(_SEED).permutation(len(scans))[:most]
    return [scans[place] for place in sorted(order.tolist())]


def _take(folder: UnlabeledFolder, folds: FoldsFolder, scans: Sequence[Case]) -> None:
    """Writes down what the folder is about; checks that it still is."""
    networks = {run.root.name: (run.model / "model.safetensors").stat().st_mtime_ns for run in folds.runs}
    wanted = {"scans": {case.id: str(case.scan.resolve()) for case in scans}, "networks": networks}
    if not folder.request.exists():
        write_text(folder.request, json.dumps(wanted, indent=1) + "\n")
    elif parse_json(read_text(folder.request)) != wanted:
        raise ConfigError(
            "scans or networks differ from those that the folder was started with",
            hint="remove the folder to start over",
            file=folder.root,
        )


def _write_dataset(
    folder: UnlabeledFolder,
    folds: FoldsFolder,
    scans: Sequence[Case],
    progress: Progress,
    warn: Callable[[Inflate3dError], object],
    settings: PredictorSettings,
) -> Dataset:
    """Predicts the scans, and writes the dataset; its listing last."""
    plan = Plan.read(folds.runs[0].plan)
    labeled = read_dataset(RunConfig.read(folds.runs[0].config).dataset)
    taken = {*labeled.label_values, *plan.classes}
    ignore = plan.ignore if plan.ignore is not None else next(each for each in range(255, 2**16) if each not in taken)
    predictors = [Predictor.load(run.model, **settings) for run in folds.runs]
    added = []
    for scan in progress(scans, len(scans), "predicting unlabeled scans"):
        try:
            volume = read_images(scan.images, case=scan.id)
            predictions = [each.predict(volume, log_warnings=False) for each in predictors]
            labels = agreed([each.labels for each in predictions], ignore)
        except Inflate3dError as error:
            warn(error.with_context(case=scan.id, file=scan.scan))
            continue
        for warning in predictions[0].warnings:
            warn(warning.with_context(case=scan.id, file=scan.scan))
        if not np.isin(labels, (0, ignore)).all():
            file = folder.dataset / "labels" / f"{scan.id}.nii.gz"
            write_labels(file, labels, like=scan.scan)
            added.append(replace(scan, label=file))
    if not added:
        raise DataError(
            "the networks agree on no structure in any unlabeled scan",
            got=f"{len(scans)} scans",
            hint="train longer, or leave out --unlabeled",
            file=folder.root,
        )
    dataset = replace(
        labeled,
        root=folder.dataset,
        cases=tuple(sorted((*labeled.cases, *added), key=lambda case: case.id)),
        ignore=ignore if plan.ignore is None else labeled.ignore,
        splits={},
        announced=None,
    )
    write_folder_listing(dataset)
    return read_folder(folder.dataset)


def _open_store(folder: UnlabeledFolder, dataset: Dataset, like: Store) -> Store:
    """The prepared cases; prepares them with the options of the folds' own store if they are not yet."""
    if (folder.store / "store.json").exists():
        return Store(folder.store)
    return prepare(dataset, folder.store, options=like.options, workers=1)


def _new_folds(folder: UnlabeledFolder, folds: FoldsFolder, added: Sequence[str]) -> list[tuple[RunConfig, RunFolder]]:
    """Each fold with the same settings and held-out cases, and more cases to train on."""
    found = []
    for run in folds.runs:
        split = Split.read(run.split)
        file = folder.root / f"{run.root.name}.json"
        source = f"{split.source}; {len(added)} unlabeled scans"
        replace(split, train=tuple(sorted((*split.train, *added))), source=source).write(file)
        config = RunConfig.read(run.config).model_copy(
            update={
                "dataset": folder.dataset.resolve(),
                "store": folder.store.resolve(),
                "data": DataConfig(split=str(file.resolve())),
            }
        )
        found.append((config, RunFolder(folder.folds.root / run.root.name)))
    return found
