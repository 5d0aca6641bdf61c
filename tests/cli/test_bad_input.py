"""Every bad input that the command line has to report clearly, leaving nothing half-made behind."""

import errno
import json
import os
from typing import Any

import nibabel
import numpy as np
import pytest
import torch
from safetensors import SafetensorError

from inflate3d.cli import main
from inflate3d.datasets import Split

AFFINE = np.diag([1.0, 1.0, 3.0, 1.0])
SHAPE = (20, 24, 7)


def save(path, array, affine=AFFINE):
    nibabel.Nifti1Image(array, affine).to_filename(path)


def truncated(case):
    whole = case.scan.read_bytes()
    case.scan.write_bytes(whole[: len(whole) // 2])


def voxel(value):
    def damage(case):
        scan = np.zeros(SHAPE, np.float32)
        scan[3, 4, 5] = value
        save(case.scan, scan)

    return damage


def labels_of(value, dtype: Any = np.uint8, shape=SHAPE, affine=AFFINE):
    return lambda case: save(case.label, np.full(shape, value, dtype), affine)


SCAN, LABEL = "imagesTr/toy3.nii.gz", "labelsTr/toy3.nii.gz"

DAMAGES = {  # what is done to case toy3, the message, the file that is named
    "missing scan": (lambda case: case.scan.unlink(), "file not found", SCAN),
    "missing labels": (lambda case: case.label.unlink(), "file not found", LABEL),
    "unreadable": (lambda case: case.scan.write_bytes(b"no scan"), "the file can't be read", SCAN),
    "truncated gzip": (truncated, "the file can't be read", SCAN),
    "another shape": (labels_of(2, shape=(20, 24, 6)), "images of a case differ in shape", LABEL),
    "another affine": (labels_of(2, affine=np.diag([1.0, 1, 4, 1])), "images of a case differ in position", LABEL),
    "unknown label": (labels_of(3), "unknown label values", LABEL),
    "fraction": (labels_of(0.5, np.float32), "label values are not class numbers", LABEL),
    "NaN": (voxel(np.nan), "voxels are NaN or infinite", SCAN),
    "infinite": (voxel(np.inf), "voxels are NaN or infinite", SCAN),
    "2D": (lambda case: save(case.scan, np.zeros((20, 24), np.int16)), "the image is not a volume", SCAN),
    "modalities": (
        lambda case: save(case.scan, np.zeros((*SHAPE, 2), np.int16)),
        "number of modalities differs",
        SCAN,
    ),
}


@pytest.fixture
def toys(tmp_path, write_toys):
    return write_toys(tmp_path / "data")


@pytest.fixture
def error_of(capsys):
    """Runs a command that has to fail, and gives its one message."""

    def run(*words):
        assert main([str(word) for word in words]) == 2
        shown = capsys.readouterr()
        assert "error" not in shown.out
        assert "Traceback" not in shown.err
        assert shown.err.count("error: ") == 1
        return shown.err

    return run


@pytest.fixture
def training(phantom_store, phantoms, tmp_path):
    """The words of a tiny training in ``run``, on a store that is there already."""
    tiny = ["--encoder", "resnet10t", "--weights", "none", "--image-size", 64, 64, "--decoder-channels", 8]
    tiny += ["--steps", 1, "--batch-size", 2, "--depth", 3, "--validation-cases", 1, "--accelerator", "cpu"]
    return ["train", phantoms.root, "--store", phantom_store.folder, "--run", tmp_path / "run", *tiny]


@pytest.mark.slow
@pytest.mark.parametrize("name", DAMAGES)
def test_bad_case_of_a_dataset(toys, tmp_path, error_of, name):
    damage, what, file = DAMAGES[name]
    damage(toys.cases[3])
    message = error_of("prepare", toys.root, "--store", tmp_path / "store", "--jobs", 1)
    assert what in message
    assert "case:     toy3" in message
    assert str(toys.root / file) in message
    assert "1 problem(s)" in message
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data"]


def test_labels_that_are_empty_everywhere(toys, tmp_path, error_of):
    for case in toys.cases:
        save(case.label, np.zeros(SHAPE, np.uint8))
    message = error_of("prepare", toys.root, "--store", tmp_path / "store", "--jobs", 1)
    assert "all label maps contain only background" in message
    assert not (tmp_path / "store").exists()


def test_scan_thinner_than_the_window(training, tmp_path, error_of):
    message = error_of(*training, "--depth", 99)
    assert "scan has fewer slices than the window" in message
    assert "case:     phantom_00" in message
    assert "at least 99 slices" in message
    assert not (tmp_path / "run").exists()


def test_unknown_backbone_has_near_names(training, tmp_path, error_of):
    message = error_of(*training, "--encoder", "resnet10x")
    assert "no backbone is named resnet10x" in message
    assert "resnet10t" in message
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "part"),
    [
        (["--split", "paper"], "unknown split"),
        (["--fold", 7], "fold not found"),
        (["--split", "gone.json"], "the split can't be read"),
        (["--training-cases", 99], "more training cases requested than available"),
    ],
)
def test_missing_split_is_reported_before_preparing(toys, tmp_path, error_of, words, part):
    assert part in error_of("train", toys.root, "--store", tmp_path / "store", "--run", tmp_path / "run", *words)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data"]


@pytest.mark.slow
def test_run_goes_on_with_its_own_split_alone(toys, tmp_path, error_of):
    (tmp_path / "run").mkdir()
    Split(("toy0",), ("toy1",), source="another").write(tmp_path / "run" / "split.json")
    message = error_of("train", toys.root, "--store", tmp_path / "store", "--run", tmp_path / "run", "--resume")
    assert "the split has changed" in message
    assert "fold 0 of 5, seed 12345, with other cases" in message


@pytest.mark.slow
@pytest.mark.skipif(torch.backends.mps.is_available(), reason="this machine has the accelerator")
def test_accelerator_that_is_not_there(training, tmp_path, error_of):
    assert "invalid accelerator" in error_of(*training, "--accelerator", "mps")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("command", ["predict", "evaluate"])
def test_model_of_another_version(tiny_run, toys, tmp_path, error_of, command):
    model = tmp_path / "run" / "model"
    model.mkdir(parents=True)
    for path in tiny_run.model.iterdir():
        (model / path.name).write_bytes(path.read_bytes())
    values = json.loads((model / "model.json").read_text(encoding="utf-8"))
    (model / "model.json").write_text(json.dumps({**values, "version": 99}))
    more = [toys.cases[0].scan, tmp_path / "out"] if command == "predict" else []
    message = error_of(command, tmp_path / "run", *more)
    assert "another version of inflate3d" in message
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("make", "what"),
    [
        (lambda path: None, "the file is missing"),
        (lambda path: path.write_bytes(b"no scan"), "the file can't be read"),
        (lambda path: save(path, np.zeros((20, 24), np.int16)), "the image is not a volume"),
        (lambda path: save(path, np.full(SHAPE, np.nan, np.float32)), "voxels are NaN or infinite"),
        (lambda path: save(path, np.zeros((*SHAPE, 2), np.int16)), "wrong number of modalities"),
        (lambda path: save(path, np.zeros((20, 24, 2), np.int16)), "scan has fewer slices than the model's window"),
    ],
)
def test_bad_scan_to_predict(tiny_run, tmp_path, error_of, make, what):
    make(tmp_path / "scan.nii.gz")
    message = error_of("predict", tiny_run.root, tmp_path / "scan.nii.gz", tmp_path / "out", "--device", "cpu")
    assert what in message
    assert "case:     scan" in message
    assert str(tmp_path / "scan.nii.gz") in message
    assert not (tmp_path / "out").exists()


def test_bad_held_out_case(tiny_run, tmp_path, error_of):
    root = tmp_path / "run"
    (root / "model").mkdir(parents=True)
    for path in [*tiny_run.model.iterdir(), tiny_run.config, tiny_run.split]:
        (root / path.relative_to(tiny_run.root)).write_bytes(path.read_bytes())
    config = (root / "config.yaml").read_text(encoding="utf-8")
    dataset = next(line for line in config.splitlines() if line.startswith("dataset:"))
    (root / "config.yaml").write_text(config.replace(dataset, f"dataset: {tmp_path / 'gone'}"))
    message = error_of("evaluate", root)
    assert "dataset folder not found" in message
    assert str(tmp_path / "gone") in message
    assert not (root / "evaluation").exists()


def full_disk(*_):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.mark.slow
def test_no_space_left_while_predicting(tiny_run, toys, tmp_path, error_of, monkeypatch):
    monkeypatch.setattr(os, "fsync", full_disk)
    scan = toys.cases[0].scan
    message = error_of("predict", tiny_run.root, scan, tmp_path / "out", "--device", "cpu")
    assert "No space left on device" in message
    assert str(tmp_path / "out" / scan.name) in message
    assert list((tmp_path / "out").iterdir()) == []


@pytest.mark.slow
def test_no_space_left_while_preparing(toys, tmp_path, error_of, monkeypatch):
    monkeypatch.setattr(os, "fsync", full_disk)
    message = error_of("prepare", toys.root, "--store", tmp_path / "store", "--jobs", 1)
    assert "No space left on device" in message
    assert [path.name for path in (tmp_path / "store").iterdir()] == [".unfinished"]  # the same command goes on
    monkeypatch.undo()
    assert main(["prepare", str(toys.root), "--store", str(tmp_path / "store"), "--jobs", "1"]) == 0
    assert not (tmp_path / "store" / ".unfinished").exists()


def failing(error):
    def fail(*_, **__):
        raise error("No space left on device")

    return fail


def test_no_space_left_for_a_case(toys, tmp_path, error_of, monkeypatch):
    monkeypatch.setattr("pathlib.Path.write_bytes", full_disk)
    message = error_of("prepare", toys.root, "--store", tmp_path / "store", "--jobs", 1)
    assert "No space left on device" in message
    assert not list((tmp_path / "store").rglob("*.b2nd"))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("function", "error", "file"),
    [
        ("torch.save", RuntimeError, "checkpoints/last.ckpt"),
        ("safetensors.torch.save_file", SafetensorError, "model/model.safetensors"),
    ],
)
def test_no_space_left_while_training(training, tmp_path, error_of, monkeypatch, function, error, file):
    monkeypatch.setattr(function, failing(error))
    message = error_of(*training)
    assert "the file can't be written" in message
    assert str(tmp_path / "run" / file) in message
    assert not [path for path in tmp_path.rglob(".*") if path.is_file()]
    assert not (tmp_path / "run" / "model" / "model.json").exists()
