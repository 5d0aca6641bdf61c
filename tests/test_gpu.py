"""What only a CUDA device can show; `pytest tests/test_gpu.py` on a machine that has one."""

import csv
import os
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
import torch

from inflate3d.config import AugmentationConfig
from inflate3d.inference.memory import GIGABYTE
from inflate3d.inference.predictor import Predictor
from inflate3d.io import read_volume
from inflate3d.models.oom import MemoryBudgetError
from inflate3d.models.segmenter import load_model
from inflate3d.run_folder import RunFolder
from inflate3d.training.determinism import WORKSPACE
from inflate3d.training.run import train
from inflate3d.volume import Volume
from inflate3d.windows.augment import change_intensities, mirror_depth, random_matrices
from inflate3d.windows.resample import resample_labels, resample_windows

pytestmark = pytest.mark.gpu

CUDA = torch.device("cuda")
MUCH = AugmentationConfig(augment_probability=1, flip_probability=0.5, intensity_probability=1)


def on_gpu(config, **training):
    update = {"accelerator": "gpu", "devices": 1, **training}
    return config.model_copy(update={"training": config.training.model_copy(update=update)})


def train_by_command(config, folder):
    """In a process of its own, for which CUDA starts anew."""
    config.write(folder.root.with_suffix(".yaml"))
    words = ["train", "--config", folder.root.with_suffix(".yaml"), "--run", folder.root]
    environment = {name: value for name, value in os.environ.items() if name != WORKSPACE}
    command = [sys.executable, "-m", "inflate3d", *map(str, words)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr
    return load_model(folder.root).state_dict()


def losses_of(folder):
    with folder.metrics.open(newline="", encoding="utf-8") as file:
        return [float(row["loss"]) for row in csv.DictReader(file) if row["loss"]]


def test_augment():
    """What is drawn differs from the CPU's; what is done with a draw does not."""
    generator = torch.Generator(CUDA).manual_seed(0)
    windows = torch.rand(16, 2, 5, 32, 32, generator=generator, device=CUDA)
    labels = torch.randint(0, 4, (16, 1, 32, 32), generator=generator, device=CUDA)
    sides = torch.full((16, 2), 100.0, device=CUDA)
    matrices = random_matrices(MUCH, torch.ones(16, 3, dtype=torch.bool, device=CUDA), sides, generator)
    extents = torch.full((16, 2), 32.0, device=CUDA)
    on_device = resample_windows(windows, matrices, (24, 24), extents)
    torch.testing.assert_close(
        on_device.cpu(), resample_windows(windows.cpu(), matrices.cpu(), (24, 24), extents.cpu()), atol=1e-4, rtol=0
    )
    ours = resample_labels(labels, matrices, (24, 24), extents).cpu()
    theirs = resample_labels(labels.cpu(), matrices.cpu(), (24, 24), extents.cpu())
    assert (ours == theirs).float().mean() > 0.999
    every = torch.ones(16, dtype=torch.bool, device=CUDA)
    flipped, turned = mirror_depth(windows.clone(), labels[:, None].clone(), every, MUCH, generator)
    chosen = (flipped != windows).flatten(1).any(1)
    assert 0 < chosen.sum() < 16
    assert torch.equal(flipped, torch.where(chosen[:, None, None, None, None], windows.flip(2), windows))
    assert torch.equal(turned[:, 0], labels)  # a single slice
    changed = change_intensities(windows.clone(), MUCH, generator)
    assert changed.device == windows.device
    assert changed.isfinite().all()
    assert not torch.equal(changed, windows)


def test_predict(tiny_run, phantoms):
    scan = read_volume(phantoms.cases[0].scan)
    asked: Any = {"confidence": True, "uncertainty": True}
    there, here = (Predictor.load(tiny_run.root, device=name).predict(scan, **asked) for name in ("cuda", "cpu"))
    assert np.mean(there.labels == here.labels) > 0.999
    assert there.uncertainty is not None and here.uncertainty is not None
    assert np.abs(there.uncertainty.astype(int) - here.uncertainty.astype(int)).mean() < 1


def test_memory_budget(tiny_run):
    scan = Volume(np.random.default_rng(0).normal(0, 100, (1, 512, 512, 100)).astype(np.int16), np.eye(4))
    predictor = Predictor.load(tiny_run.root, device="cuda", memory=0.5)
    predictor.predict(scan)  # what CUDA and cuDNN need once
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    labels = predictor.predict(scan).labels
    assert torch.cuda.max_memory_allocated() - before < 0.5 * GIGABYTE
    unbounded = Predictor.load(tiny_run.root, device="cuda").predict(scan).labels
    assert np.mean(labels == unbounded) > 0.999
    with pytest.raises(MemoryBudgetError):
        Predictor.load(tiny_run.root, device="cuda", memory=1e-5).predict(scan)


def test_mixed_precision_of_16_bits(tiny_config, phantom_store, tmp_path):
    """Gradients are scaled, and a step whose gradients overflow is left out, not a divergence."""
    exact, mixed = RunFolder(tmp_path / "32"), RunFolder(tmp_path / "16")
    train(on_gpu(tiny_config, steps=20, validate_every=20), exact, phantom_store)
    train(on_gpu(tiny_config, steps=20, validate_every=20, precision="16-mixed"), mixed, phantom_store)
    weights = load_model(mixed.root).state_dict().values()
    assert all(tensor.dtype != torch.float16 and tensor.isfinite().all() for tensor in weights)
    assert losses_of(mixed)[0] == pytest.approx(losses_of(exact)[0], rel=0.05)
    assert losses_of(mixed)[-1] < losses_of(mixed)[0]


def test_deterministic(tiny_config, tmp_path):
    config = on_gpu(tiny_config, deterministic=True)
    one, two = (train_by_command(config, RunFolder(tmp_path / name)) for name in ("one", "two"))
    assert all(torch.equal(one[name], two[name]) for name in one)


@pytest.mark.gpu(count=2)
def test_two_processes(tiny_config, tmp_path):
    """Two devices with half of a batch each start from the loss of one with all of it."""
    alone, both = RunFolder(tmp_path / "alone"), RunFolder(tmp_path / "both")
    train_by_command(on_gpu(tiny_config, batch_size=4), alone)
    weights = train_by_command(on_gpu(tiny_config, batch_size=2, devices=2), both)
    assert all(tensor.isfinite().all() for tensor in weights.values())
    assert losses_of(both)[0] == pytest.approx(losses_of(alone)[0], rel=0.1)
