"""Trainings by two processes on the CPU."""

import csv
import importlib.util
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from inflate3d.config import AugmentationConfig, TrainingConfig
from inflate3d.errors import ConfigError
from inflate3d.inference.runs import evaluate_run
from inflate3d.run_folder import RunFolder
from inflate3d.training.processes import find_processes
from inflate3d.training.run import train

SCRIPT = Path(__file__).with_name("train_on_two.py")
LAUNCHED = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "SLURM_STEP_NUM_TASKS", "SLURM_NTASKS", "TORCHELASTIC_RUN_ID")

_spec = importlib.util.spec_from_file_location("train_on_two", SCRIPT)
assert _spec is not None
assert _spec.loader is not None
script = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(script)


def rows_of(folder):
    with folder.metrics.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def start(*words):
    environment = {name: value for name, value in os.environ.items() if name not in LAUNCHED}
    environment["OMP_NUM_THREADS"] = "1"
    return subprocess.Popen(
        [sys.executable, *map(str, words)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    )


@pytest.fixture(scope="module")
def still_config(tiny_config):
    """Nothing in it is random but weights and windows."""
    still = AugmentationConfig(augment_probability=0, flip_probability=0, intensity_probability=0)
    training = {"steps": 6, "batch_size": 4, "validate_every": 3, "validation_cases": 1, "learning_rate": 3e-3}
    return tiny_config.model_copy(
        update={"augmentation": still, "training": tiny_config.training.model_copy(update=training)}
    )


@pytest.fixture(scope="module")
def by_two(still_config, tmp_path_factory):
    """A run trained by two processes with half of a batch each."""
    root = tmp_path_factory.mktemp("two")
    training = still_config.training.model_copy(update={"batch_size": 2, "devices": 2})
    still_config.model_copy(update={"training": training}).write(root / "config.yaml")
    process = start(SCRIPT, root / "config.yaml", root / "run")
    _, said = process.communicate(timeout=300)
    assert process.returncode == 0, said
    return RunFolder(root / "run")


@pytest.fixture(scope="module")
def by_one(still_config, phantom_store, tmp_path_factory):
    """The same run, trained by this very process."""
    folder = RunFolder(tmp_path_factory.mktemp("one") / "run")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.nn.BatchNorm2d, "forward", script.norm_by_fixed_statistics)
        patch.setattr(torch.nn.Dropout2d, "forward", script.nothing_dropped)
        train(still_config, folder, phantom_store)
    return folder


@pytest.mark.slow
def test_loss_curve_is_that_of_one_process_with_the_same_batch(by_one, by_two):
    one, two = rows_of(by_one), rows_of(by_two)
    assert [row["step"] for row in two] == [row["step"] for row in one] == ["1", "2", "3", "3", "4", "5", "6", "6"]
    losses, expected = ([float(row["loss"]) for row in rows if row["loss"]] for rows in (two, one))
    assert losses == pytest.approx(expected, rel=1e-4)
    assert expected[0] - expected[-1] > 0.01  # it did learn


@pytest.mark.slow
def test_validation_is_that_of_one_process(by_two, tmp_path):
    """Each process has validated the case; the last weights have that Dice by one process."""
    *_, last = rows_of(by_two)
    copy = RunFolder(shutil.copytree(by_two.root, tmp_path / "run"))
    scores = evaluate_run(copy, device="cpu")
    expected = dict(zip(scores.classes, scores.class_means(), strict=True))
    assert {name: float(last[f"dice/{name}"]) for name in expected} == pytest.approx(expected, rel=1e-5)


@pytest.mark.slow
def test_gradients_are_those_of_the_whole_batch_though_most_voxels_of_one_half_are_ignored(by_two):
    losses = json.loads((by_two.root / "losses.json").read_text(encoding="utf-8"))
    assert losses.keys() == {"dice-ce", "dice-focal", "ce"}
    for name, found in losses.items():
        value, gradient = script.loss_and_gradient(name, 0, 1)
        assert found["value"] == pytest.approx(value, rel=1e-5), name
        torch.testing.assert_close(torch.tensor(found["gradient"]), gradient)


@pytest.mark.slow
def test_files_are_written_once(by_two, tiny_run):
    written = {path.name for path in by_two.root.iterdir()}
    assert written == {path.name for path in tiny_run.root.iterdir()} | {"losses.json"}
    assert sorted(path.name for path in by_two.best.parent.iterdir()) == ["last.ckpt"]


@pytest.mark.long
def test_stopped_by_a_signal_to_one_process_and_resumed_by_torchrun(tiny_config, tmp_path):
    """The other process leaves at the same step; torchrun's both find the run claimed and go on with it."""
    run = RunFolder(tmp_path / "run")
    steps = 200
    words = [
        "-m", "inflate3d", "train", tiny_config.dataset, "--store", tiny_config.store, "--run", run.root,
        "--encoder", "resnet10t", "--weights", "none", "--depth", 3, "--image-size", 32, 32,
        "--decoder-channels", 8, "--detail-channels", 4, "--steps", steps, "--batch-size", 2,
        "--validate-every", steps, "--validation-cases", 1, "--accelerator", "cpu", "--devices", 2, "--workers", 0,
    ]  # fmt: skip
    process = start(*words)
    while process.poll() is None and not (run.metrics.exists() and len(rows_of(run)) > 1):
        time.sleep(0.1)
    process.send_signal(signal.SIGTERM)
    out, said = process.communicate(timeout=120)
    assert process.returncode == 75, said  # which asks a scheduler to put it into its queue again
    assert "--resume" in said
    assert said.count("2D weights: none") == 1
    assert not out
    done = torch.load(run.last, weights_only=True)["global_step"]
    assert 0 < done < steps

    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", 2, "-m", "--", *words[1:]]
    process = start(*launcher, "--resume", "--json")
    out, said = process.communicate(timeout=300)
    assert process.returncode == 0, said
    assert json.loads(out) == {"run": str(run.root), "model": str(run.model)}
    assert run.finished
    numbers = [int(row["step"]) for row in rows_of(run) if row["loss"]]
    assert numbers == list(range(2, steps + 1, 2))


@pytest.fixture
def alone(monkeypatch):
    for name in LAUNCHED:
        monkeypatch.delenv(name, raising=False)
    return monkeypatch


def launched_by_torchrun(monkeypatch, rank, world):
    for name, value in {"TORCHELASTIC_RUN_ID": "x", "RANK": rank, "WORLD_SIZE": world}.items():
        monkeypatch.setenv(name, str(value))


def launched_by_srun(monkeypatch, rank, world):
    per_node = {"SLURM_NTASKS_PER_NODE": 4, "SLURM_NNODES": 2}
    for name, value in {"SLURM_STEP_NUM_TASKS": world, "SLURM_NTASKS": world, "SLURM_PROCID": rank, **per_node}.items():
        monkeypatch.setenv(name, str(value))


def test_a_process_without_a_launcher_is_the_first(alone):
    for devices in (1, 4):
        found = find_processes(TrainingConfig(devices=devices))
        assert (found.first, found.rank, found.world, found.launcher) == (True, 0, devices, None)


def test_processes_that_the_first_one_starts_know_their_number(alone):
    alone.setenv("LOCAL_RANK", "3")
    found = find_processes(TrainingConfig(devices=4))
    assert (found.first, found.rank) == (False, 3)


@pytest.mark.parametrize(("launch", "name"), [(launched_by_torchrun, "torchrun"), (launched_by_srun, "srun")])
def test_launchers_number_their_processes(alone, launch, name):
    launch(alone, 5, 8)
    found = find_processes(TrainingConfig(devices=4, nodes=2))
    assert (found.first, found.rank, found.world, found.launcher) == (False, 5, 8, name)


@pytest.mark.parametrize("launch", [launched_by_torchrun, launched_by_srun])
def test_other_numbers_of_processes_are_refused(alone, launch):
    launch(alone, 0, 8)
    with pytest.raises(ConfigError, match="number of processes") as caught:
        find_processes(TrainingConfig(devices=4))
    assert "to be 8" in str(caught.value.expected)
    assert caught.value.got == "--devices 4 --nodes 1"


def test_other_numbers_of_nodes_are_refused(alone):
    launched_by_srun(alone, 0, 8)
    with pytest.raises(ConfigError, match="does not fit") as caught:
        find_processes(TrainingConfig(devices=2, nodes=4))
    assert "--ntasks-per-node=4" in str(caught.value.got)


def test_tasks_of_a_job_may_train_networks_of_their_own(alone):
    launched_by_srun(alone, 5, 8)
    assert find_processes(TrainingConfig()).first


def test_several_nodes_need_a_launcher(alone):
    with pytest.raises(ConfigError, match="other nodes") as caught:
        find_processes(TrainingConfig(nodes=2))
    assert caught.value.expected == "torchrun or srun in front of the command"
