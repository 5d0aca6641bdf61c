import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from inflate3d.config import InflatedConfig, RunConfig, TrainingConfig
from inflate3d.datasets import Dataset, Split
from inflate3d.datasets.phantom import write_phantoms
from inflate3d.evaluation.accumulator import ScoreAccumulator
from inflate3d.evaluation.scores import Scores
from inflate3d.io import read_labels, write_labels
from inflate3d.preparation.plan import Plan
from inflate3d.preparation.prepare import prepare
from inflate3d.report.page import write_report
from inflate3d.report.slices import draw_slice
from inflate3d.run_folder import RunFolder


@dataclass(frozen=True)
class MadeUpRun:
    folder: RunFolder
    scores: Scores


def make_up_run(root: Path, dataset: Dataset, plan: Plan, held_out: list[str]) -> MadeUpRun:
    """A run whose predictions are the labels moved by a voxel for the first case, by two for the next."""
    folder = RunFolder(root)
    training = TrainingConfig(steps=40)
    RunConfig(dataset=dataset.root, store=root, model=InflatedConfig(depth=5, weights="none"), training=training).write(
        folder.config
    )
    plan.write(folder.plan)
    train = tuple(case.id for case in dataset.cases if case.id not in held_out)
    Split(train=train, validation=tuple(held_out), source="fold 0 of 5").write(folder.split)
    names = plan.class_names[1:]
    lines = [",".join(["step", "loss", "learning_rate", "seconds", "dice", *(f"dice/{name}" for name in names)])]
    for step in range(1, 41):
        lines.append(f"{step},{2 / step:.4f},0.001,{step * 2.5},," + "," * (len(names) - 1))
        if step % 10 == 0:
            lines.append(f"{step},,0.001,{step * 2.5},{step / 50}," + ",".join(f"{step / 45}" for _ in names))
    folder.metrics.write_text("\n".join(lines) + "\n", encoding="utf-8")
    accumulator = ScoreAccumulator(plan.class_names)
    for place, name in enumerate(held_out, start=1):
        case = next(case for case in dataset.cases if case.id == name)
        assert case.label is not None
        label = read_labels(case.label).array[0]
        predicted = np.roll(label, place, axis=0)
        write_labels(folder.prediction(case.id), predicted, like=case.scan)
        counted = [array.astype(np.int64) for array in (predicted, label)]
        accumulator.add(name, counted[0], counted[1], (1.0, 1.0, 1.0))
        accumulator.add_micro(counted[0], counted[1])
    return MadeUpRun(folder, accumulator.scores())


@pytest.fixture(scope="module", autouse=True)
def fine_pictures(coarse_pictures) -> Iterator[None]:
    """Draws with all pixels, as these tests look at them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("inflate3d.report.drawing.DPI", 100)
        yield


@pytest.fixture(scope="session")
def phantoms(tmp_path_factory):
    return write_phantoms(tmp_path_factory.mktemp("phantoms"), cases=4)


@pytest.fixture(scope="session")
def plan(phantoms, tmp_path_factory):
    return prepare(phantoms, tmp_path_factory.mktemp("store"), workers=1).plan


@pytest.fixture(scope="session")
def held_out(phantoms):
    return [case.id for case in phantoms.cases[1:]]


@pytest.fixture(scope="session")
def written(tmp_path_factory, phantoms, plan, held_out):
    """A run with its page; not to be changed."""
    run = make_up_run(tmp_path_factory.mktemp("runs") / "run", phantoms, plan, held_out)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("inflate3d.report.cases.SLICES_SHOWN", 2)  # drawing is slow
        write_report(run.folder, phantoms, run.scores)
    return run


@pytest.fixture
def run(written, tmp_path, monkeypatch):
    """A run without a page, to be changed at will; its slices are not drawn."""
    blank = draw_slice(np.zeros((2, 2)), np.zeros((2, 2), int), np.zeros((2, 2), int), (1.0, 1.0))
    monkeypatch.setattr("inflate3d.report.cases.draw_slice", lambda *_: blank)
    monkeypatch.setattr("inflate3d.report.cases.draw_areas", lambda *_: blank)
    root = shutil.copytree(written.folder.root, tmp_path / "run")
    RunFolder(root).report.unlink()
    return MadeUpRun(RunFolder(root), written.scores)
