import csv
import os
import shutil
import signal

import numpy as np
import pytest
import torch

from inflate3d.config import RunConfig, TrainingDefaults, VolumetricConfig
from inflate3d.datasets import Split
from inflate3d.errors import ConfigError, DataError
from inflate3d.inference.predictor import Predictor
from inflate3d.io import read_volume
from inflate3d.models.segmenter import load_model
from inflate3d.preparation.plan import Plan
from inflate3d.run_folder import RunFolder
from inflate3d.settings import parse_settings
from inflate3d.stopping import Interrupted
from inflate3d.training.checkpoints import RelocatableCheckpoint
from inflate3d.training.csv_log import CsvLog
from inflate3d.training.run import train


def changed(config, model=(), **training):
    return config.model_copy(
        update={
            "model": config.model.model_copy(update=dict(model)),
            "training": config.training.model_copy(update=training),
        }
    )


def rows_of(folder):
    """The log without what is measured in seconds."""
    with folder.metrics.open(newline="", encoding="utf-8") as file:
        return [
            {name: cell for name, cell in row.items() if name not in ("seconds", "data_time")}
            for row in csv.DictReader(file)
        ]


def weights_of(folder):
    return load_model(folder.root).state_dict()


def last_state_of(folder):
    return torch.load(folder.last, weights_only=True)["state_dict"]


def same(first, second):
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


@pytest.fixture
def stop_after(monkeypatch):
    """Sends a signal to this very process in the middle of a step."""

    def stop(batches, number=signal.SIGINT):
        done = []
        real = CsvLog.on_train_batch_end

        def count(self, *arguments):
            done.append(1)
            if len(done) == batches:
                os.kill(os.getpid(), number)
            real(self, *arguments)

        monkeypatch.setattr(CsvLog, "on_train_batch_end", count)

    return stop


def test_run_folder_holds_all_that_was_decided(tiny_run, tiny_config, phantom_store):
    assert RunConfig.read(tiny_run.config) == tiny_config
    plan = Plan.read(tiny_run.plan)
    assert plan.thinnest is not None
    assert plan.typical is not None
    measured = {"thinnest": plan.thinnest, "typical": plan.typical}
    assert plan == phantom_store.plan.model_copy(update={"image_size": (64, 64), **measured})
    assert load_model(tiny_run.root).plan == plan
    split = Split.read(tiny_run.split)
    assert sorted(split.train + split.validation) == sorted(phantom_store.cases)
    assert tiny_run.finished
    assert sorted(path.name for path in tiny_run.best.parent.iterdir()) == ["last.ckpt"]
    assert sorted(path.name for path in tiny_run.root.iterdir()) == [
        "checkpoints",
        "config.yaml",
        "metrics.csv",
        "model",
        "plan.json",
        "provenance.json",
        "split.json",
    ]


def test_log_has_a_row_a_step_and_one_a_validation(tiny_run):
    rows = rows_of(tiny_run)
    assert [row["step"] for row in rows] == ["1", "2", "2"]
    assert [bool(row["loss"]) for row in rows] == [True, True, False]
    assert list(rows[0]) == [
        "step",
        "loss",
        "learning_rate",
        "dice",
        "dice/organ",
        "dice/gland",
        "dice/vessel",
        "dice/lesion",
    ]
    dice = [float(rows[-1][f"dice/{name}"]) for name in ("organ", "gland", "vessel", "lesion")]
    assert float(rows[-1]["dice"]) == pytest.approx(sum(dice) / 4, rel=1e-4)


@pytest.mark.slow
def test_same_seed_gives_the_same_run_twice(tiny_run, tiny_config, phantom_store, tmp_path):
    again, other = RunFolder(tmp_path / "again"), RunFolder(tmp_path / "other")
    train(tiny_config, again, phantom_store)
    assert same(weights_of(again), weights_of(tiny_run))
    assert rows_of(again) == rows_of(tiny_run)
    train(changed(tiny_config, seed=1), other, phantom_store)
    assert not same(weights_of(other), weights_of(tiny_run))


@pytest.mark.parametrize(
    ("accumulate", "stop_at", "number"),
    [
        pytest.param(1, 1, signal.SIGINT, marks=pytest.mark.slow),
        (1, 2, signal.SIGTERM),  # right before a validation
        pytest.param(2, 5, signal.SIGINT, marks=pytest.mark.slow),  # in the middle of a step of two batches
    ],
)
def test_stopped_and_resumed_is_as_undisturbed(
    tiny_config, phantom_store, tmp_path, stop_after, accumulate, stop_at, number
):
    config = changed(tiny_config, steps=4, validate_every=2, accumulate=accumulate)
    straight, stopped = RunFolder(tmp_path / "straight"), RunFolder(tmp_path / "stopped")
    train(config, straight, phantom_store)
    handlers = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)

    stop_after(stop_at, number)
    with pytest.raises(Interrupted) as caught:
        train(config, stopped, phantom_store)
    step = caught.value.step
    assert step is not None
    assert step == -(-stop_at // accumulate)
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == handlers
    assert not stopped.finished
    assert [row["step"] for row in rows_of(stopped) if row["loss"]] == [str(step + 1) for step in range(step)]

    train(config, stopped, phantom_store, resume=True)
    assert rows_of(stopped) == rows_of(straight)
    assert same(last_state_of(stopped), last_state_of(straight))
    assert same(weights_of(stopped), weights_of(straight))


@pytest.mark.slow
def test_killed_run_goes_on_from_its_last_validation(tiny_config, phantom_store, tmp_path, monkeypatch):
    config = changed(tiny_config, steps=5, validate_every=2)
    straight, killed = RunFolder(tmp_path / "straight"), RunFolder(tmp_path / "killed")
    train(config, straight, phantom_store)
    real = CsvLog.on_train_batch_end

    def fail(self, trainer, *rest):
        if trainer.global_step == 4:
            raise OSError
        real(self, trainer, *rest)

    with monkeypatch.context() as patch, pytest.raises(OSError):
        patch.setattr(CsvLog, "on_train_batch_end", fail)
        train(config, killed, phantom_store)
    moved = RunFolder(killed.root.rename(tmp_path / "moved"))
    train(config, moved, phantom_store, resume=True)
    assert rows_of(moved) == rows_of(straight)
    assert [row["step"] for row in rows_of(moved) if row["dice"]] == ["2", "4", "5"]
    assert same(weights_of(moved), weights_of(straight))


def test_best_score_is_known_where_the_folder_was_moved(tmp_path):
    before, after = (
        RelocatableCheckpoint(tmp_path / name, filename="best", monitor="dice", mode="max")
        for name in ("before", "after")
    )
    before.best_model_score = before.kth_value = torch.tensor(0.9)
    before.best_model_path = before.kth_best_model_path = str(tmp_path / "before" / "best.ckpt")
    before.best_k_models = {before.best_model_path: before.best_model_score}
    after.load_state_dict(before.state_dict())
    assert after.best_model_score == after.kth_value == 0.9
    assert after.best_k_models == {after.best_model_path: 0.9}
    assert after.best_model_path == after.kth_best_model_path == str(tmp_path / "after" / "best.ckpt")


def test_resuming_without_a_run_starts_one_and_a_finished_one_is_left_alone(tiny_config, phantom_store, tmp_path):
    folder = RunFolder(tmp_path / "run")
    train(changed(tiny_config, steps=1), folder, phantom_store, resume=True)
    before = {path: path.stat().st_mtime_ns for path in folder.root.rglob("*")}
    train(changed(tiny_config, steps=1), folder, phantom_store, resume=True)
    assert {path: path.stat().st_mtime_ns for path in folder.root.rglob("*")} == before


def test_run_is_not_overwritten(tiny_run, tiny_config, phantom_store):
    with pytest.raises(ConfigError, match="already exists") as caught:
        train(tiny_config, tiny_run, phantom_store)
    assert caught.value.file == str(tiny_run.root)


def test_other_settings_are_refused_on_resume(tiny_run, tiny_config, phantom_store):
    other = changed(tiny_config, model={"depth": 5}, steps=7)
    with pytest.raises(ConfigError, match="settings differ") as caught:
        train(other, tiny_run, phantom_store, resume=True)
    assert caught.value.expected == "depth 3, steps 2"
    assert caught.value.got == "depth 5, steps 7"


def test_run_goes_on_by_its_own_plan_alone(tiny_run, tiny_config, phantom_store, tmp_path):
    folder = RunFolder(tmp_path / "run")
    shutil.copytree(tiny_run.root, folder.root)
    plan = Plan.read(folder.plan)
    plan.model_copy(update={"reasons": {}, "defaults": TrainingDefaults(depth=99)}).write(folder.plan)
    assert train(tiny_config, folder, phantom_store, resume=True)  # nothing follows these
    plan.model_copy(update={"flips": tuple(not flip for flip in plan.flips)}).write(folder.plan)
    shutil.rmtree(folder.model)
    before = folder.plan.read_bytes()
    with pytest.raises(ConfigError, match="plan has changed") as caught:
        train(tiny_config, folder, phantom_store, resume=True)
    assert caught.value.got == f"flips {plan.flips}"
    assert folder.plan.read_bytes() == before


def test_window_deeper_than_a_scan_leaves_no_run(tiny_config, phantom_store, tmp_path):
    with pytest.raises(DataError, match="fewer slices than the window"):
        train(changed(tiny_config, model={"depth": 99}), RunFolder(tmp_path / "run"), phantom_store)
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_accumulated_losses_are_logged_in_full(tiny_config, phantom_store, tmp_path):
    """Two batches of two are a step; the logged loss is their mean, as large as that of one batch."""
    folder = RunFolder(tmp_path / "run")
    train(changed(tiny_config, accumulate=2), folder, phantom_store)
    rows = rows_of(folder)
    assert [row["step"] for row in rows] == ["1", "2", "2"]
    assert float(rows[0]["loss"]) > 1.5  # ln 5 + nearly 1


@pytest.mark.slow
def test_depth_mixing_is_trained_on_slabs_and_starts_from_a_slice_network(tiny_config, phantom_store, tmp_path):
    slices, mixed = RunFolder(tmp_path / "slices"), RunFolder(tmp_path / "mixed")
    train(changed(tiny_config, {"depth": 1}), slices, phantom_store)
    model = {"depth": 1, "depth_mixing": "decoder", "slab": 4, "weights": str(slices.root)}
    train(changed(tiny_config, model, batch_size=8), mixed, phantom_store)
    before, after = weights_of(slices), weights_of(mixed)
    assert all(torch.equal(before[name], after[name]) for name in before if "running_" in name)
    assert any(not torch.equal(before[name], after[name]) for name in before)
    assert after["mixer.layers.0.narrow.weight"].any()
    case = next(iter(phantom_store.cases))
    labels = Predictor.load(mixed.root, device="cpu").classes(phantom_store.scan(case))
    assert len(list(labels)) == phantom_store.cases[case].shape[0]


@pytest.mark.slow
def test_mixed_precision(tiny_config, phantom_store, tmp_path, tiny_run):
    folder = RunFolder(tmp_path / "run")
    train(changed(tiny_config, precision="bf16-mixed"), folder, phantom_store)
    assert all(tensor.dtype != torch.bfloat16 for tensor in weights_of(folder).values())
    first, first_32 = (float(rows_of(run)[0]["loss"]) for run in (folder, tiny_run))
    assert first == pytest.approx(first_32, rel=0.05)
    assert first != first_32


def dice_of_organ(folder, dataset):
    """The lowest Dice of the organ in the held-out cases, by arithmetic of its own."""
    predictor, found = Predictor.load(folder.root, device="cpu"), []
    held_out = Split.read(folder.split).validation
    for case in (case for case in dataset.cases if case.id in held_out):
        predicted = predictor.predict(read_volume(case.scan)).labels == 1
        truth = read_volume(case.label).array[0] == 1
        found.append(2 * np.sum(predicted & truth) / (predicted.sum() + truth.sum()))
    return min(found)


def test_it_reaches_a_dice_floor(tiny_config, phantoms, phantom_store, tiny_run, tmp_path):
    """40 steps reach about 0.9 on a scan that was held out; without learning (a rate of 1e-9) it stays below 0.2."""
    folder = RunFolder(tmp_path / "run")
    config = changed(
        tiny_config,
        model={"decoder_channels": 16, "detail_channels": 8},
        steps=40,
        batch_size=4,
        validate_every=40,
        learning_rate=1e-2,
        encoder_learning_rate=1e-3,
    )
    train(config, folder, phantom_store)
    assert dice_of_organ(tiny_run, phantoms) < 0.4 < 0.7 < dice_of_organ(folder, phantoms)


@pytest.fixture
def thin_slices(monkeypatch):
    """Phantoms count as nearly isotropic."""
    monkeypatch.setattr("inflate3d.training.build.MOST_ANISOTROPIC", 100.0)


@pytest.mark.slow
def test_training_on_all_planes_resumes_to_the_same_bits(
    thin_slices, tiny_run, tiny_config, phantom_store, phantoms, tmp_path, stop_after
):
    config = changed(tiny_config, model={"planes": "all"})
    whole, stopped = RunFolder(tmp_path / "whole"), RunFolder(tmp_path / "stopped")
    train(config, whole, phantom_store)
    stop_after(1)
    with pytest.raises(Interrupted):
        train(config, stopped, phantom_store)
    train(config, stopped, phantom_store, resume=True)
    assert same(weights_of(stopped), weights_of(whole))
    assert not same(weights_of(whole), weights_of(tiny_run))  # other windows
    predictor = Predictor.load(whole.root, device="cpu", slice_step=3)
    assert predictor.plan.planes == "all"
    scan = read_volume(phantoms.cases[0].scan)
    confidence = predictor.predict(scan, confidence=True).confidence
    assert confidence is not None and confidence.kind == "planes"
    card = (whole.model / "README.md").read_text(encoding="utf-8")
    assert "| planes | all three: median spacing" in card


def test_all_planes_need_thin_slices(tiny_config, phantom_store, tmp_path):
    folder = RunFolder(tmp_path / "run")
    with pytest.raises(ConfigError) as caught:
        train(changed(tiny_config, model={"planes": "all"}), folder, phantom_store)
    assert "mm" in str(caught.value.got)
    assert not folder.config.exists()


def test_3d_networks_have_no_planes():
    with pytest.raises(ConfigError):
        parse_settings(VolumetricConfig, {"network": "dynunet", "planes": "all"})
