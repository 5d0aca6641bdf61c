"""Failures around a command: one message, and nothing left half-written."""

import json
import os
import re
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from inflate3d.inference.predictor import Predictor
from inflate3d.io import read_images
from inflate3d.lock import locked
from inflate3d.models.segmenter import Segmenter

pytestmark = pytest.mark.slow


def files_in(folder: Path) -> list[str]:
    files = (path for path in folder.rglob("*") if path.is_file() and path.name != ".inflate3d")
    return sorted(path.relative_to(folder).as_posix() for path in files)


def hidden_in(folder: Path) -> list[str]:
    return [name for name in files_in(folder) if any(part.startswith(".") for part in name.split("/"))]


def test_sigterm_asks_for_another_turn_and_the_same_command_goes_on(zygote, train_words, toy_run, tmp_path):
    """Ctrl-C does not; both leave a state to go on from."""
    half = int(zygote.run(*train_words, "--run", tmp_path / "whole", folder=tmp_path / "whole").touches / 2)
    for number, code in ((signal.SIGTERM, 75), (signal.SIGINT, 130)):
        run = tmp_path / str(code)
        ended = zygote.run(*train_words, "--run", run, "--resume", folder=run, touch=half, number=number)
        assert ended.code == code, ended.said
        assert "stopped" in ended.said and "Traceback" not in ended.said
        assert hidden_in(run) == []
        assert zygote.run(*train_words, "--run", run, "--resume", folder=run).code == 0


def test_full_disk_while_a_store_is_written(zygote, toys, tmp_path):
    store = tmp_path / "store"
    words = ["prepare", toys.root, "--store", store, "--jobs", 1]
    ended = zygote.run(*words, folder=store, largest=600)
    assert ended.code == 2
    assert "the file can't be written" in ended.said and "File too large" in ended.said
    assert "Traceback" not in ended.said
    assert not (store / "store.json").exists()
    assert [name for name in hidden_in(store) if re.search(r"/\.[0-9a-f]{8}-", name)] == []
    assert zygote.run(*words, folder=store).code == 0


def test_full_disk_while_a_checkpoint_is_written(zygote, train_words, tmp_path):
    run = tmp_path / "run"
    ended = zygote.run(*train_words, "--run", run, folder=run, largest=100_000)
    assert ended.code == 2, ended.said
    assert "the file can't be written" in ended.said and ".ckpt" in ended.said
    assert "Traceback" not in ended.said
    assert hidden_in(run) == []
    assert [name for name in files_in(run) if name.endswith(".ckpt")] == []
    assert zygote.run(*train_words, "--run", run, "--resume", folder=run).code == 0


def test_full_disk_while_label_maps_are_written(zygote, toys, toy_run, tmp_path):
    out = tmp_path / "out"
    scan = toys.root / "imagesTr" / "toy0.nii.gz"
    ended = zygote.run("predict", toy_run.root, scan, out, "--device", "cpu", folder=out, largest=100)
    assert ended.code == 2, ended.said
    assert "the file can't be written" in ended.said and "Traceback" not in ended.said
    assert files_in(out) == []


def mount(folder: Path, *options: str) -> bool:
    """Mounts a file system in memory; returns whether that worked."""
    words = ["mount", "-t", "tmpfs", "-o", ",".join(options), "none", str(folder)]
    return subprocess.run(words, check=False, capture_output=True).returncode == 0


@pytest.fixture
def small_disk(tmp_path) -> Iterator[Path]:
    """A file system of 8 KiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    if not mount(folder, "size=8k"):
        pytest.skip("file systems can't be mounted here")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


@pytest.mark.parametrize("command", ["prepare", "train", "predict"])
def test_full_file_system(zygote, toys, train_words, toy_run, small_disk, command):
    place = small_disk / "out"
    words = {
        "prepare": ["prepare", toys.root, "--store", place, "--jobs", 1],
        "train": [*train_words, "--run", place],
        "predict": ["predict", toy_run.root, toys.root / "imagesTr", place, "--device", "cpu"],
    }[command]
    ended = zygote.run(*words, folder=place)
    assert ended.code == 2, ended.said
    assert "no space left on" in ended.said.lower() and "Traceback" not in ended.said
    assert hidden_in(small_disk) == []
    assert mount(small_disk, "remount", "size=1g")
    assert zygote.run(*words, *["--resume"] * (command == "train"), folder=place).code == 0


@pytest.mark.parametrize("why", ["below a file", "read-only"])
def test_output_that_can_not_be_written(zygote, toys, train_words, toy_run, tmp_path, request, why):
    """Where root can't write either."""
    if why == "read-only":
        place = request.getfixturevalue("small_disk") / "deep"
        assert mount(place.parent, "remount", "ro")
    else:
        (tmp_path / "file").write_text("")
        place = tmp_path / "file" / "deep"
    scan = toys.root / "imagesTr" / "toy0.nii.gz"
    for words in (
        ["prepare", toys.root, "--store", place, "--jobs", 1],
        [*train_words, "--run", place],
        ["predict", toy_run.root, scan, place, "--device", "cpu"],
    ):
        ended = zygote.run(*words, folder=place)
        assert ended.code == 2, ended.said
        assert "error: " in ended.said and str(place) in ended.said and "Traceback" not in ended.said


def test_second_process_on_a_folder_gets_an_error(zygote, toys, train_words, toy_run, tmp_path):
    """The first is this one."""
    from inflate3d.inference.scan_result import PredictionSummary
    from inflate3d.run_folder import RunFolder

    run, out = RunFolder(tmp_path / "run"), tmp_path / "out"
    predict = ["predict", toy_run.root, toys.root / "imagesTr", out, "--device", "cpu"]
    with run.locked(), PredictionSummary([], out).kept():
        training = zygote.run(*train_words, "--run", run.root, folder=run.root)
        predicting = zygote.run(*predict, "--json", folder=out)
    assert training.code == predicting.code == 2
    assert "another process is working on this run" in training.said and "process " in training.said
    said = json.loads(predicting.said[predicting.said.index("{") :])
    assert said["error"]["what"] == "another process is predicting into this folder"
    assert not run.root.exists()
    assert files_in(out) == ["summary.json"]


def test_second_comparison_on_a_folder_is_refused(zygote, toys, toy_store, network, tmp_path):
    out = tmp_path / "out"
    words = ["compare", toys.root, "--store", toy_store, *network, "--steps", 2, "--arms", "depth", "--out", out]
    with locked(out / ".lock", out, remove=True):
        ended = zygote.run(*words, folder=out)
        assert ended.code == 2 and f"process {os.getpid()} on" in ended.said
        assert files_in(out) == [".lock", ".lock.holder"]


def test_scan_that_is_cut_short_or_gone_is_named(zygote, write_toys, toy_run, tmp_path):
    toys = write_toys(tmp_path / "data", cases=3)
    toys.cases[1].scan.write_bytes(toys.cases[1].scan.read_bytes()[:-200])
    store, out = tmp_path / "store", tmp_path / "out"
    ended = zygote.run("prepare", toys.root, "--store", store, "--jobs", 1, folder=store)
    assert ended.code == 2
    assert "toy1" in ended.said and "Traceback" not in ended.said
    assert not store.exists()
    ended = zygote.run("predict", toy_run.root, toys.root / "imagesTr", out, "--device", "cpu", folder=out)
    assert ended.code == 2
    assert "toy1" in ended.said and "Traceback" not in ended.said
    assert files_in(out) == ["summary.json", "toy0.nii.gz", "toy2.nii.gz"]


def test_prediction_that_runs_out_of_memory_takes_fewer_windows_at_a_time(toys, toy_run, monkeypatch, caplog):
    import torch

    volume = read_images(toys.cases[0].images, case="toy0")
    expected = Predictor.load(toy_run.root, device="cpu").predict(volume).labels
    real, sizes = Segmenter.forward, []

    def forward(self, windows):
        sizes.append(len(windows))
        if len(windows) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return real(self, windows)

    monkeypatch.setattr(Segmenter, "forward", forward)
    found = Predictor.load(toy_run.root, device="cpu").predict(volume).labels
    assert np.array_equal(found, expected)
    halved = [record for record in caplog.records if record.name == "inflate3d.models.oom"]
    assert len(halved) == len([size for size in sizes if size > 2])
    assert sizes.count(1) + 2 * sizes.count(2) == 7  # every slice once
