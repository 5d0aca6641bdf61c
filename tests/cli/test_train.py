"""`inflate3d train` as a process and from the settings of another run."""

import subprocess
import sys

import pytest
import torch

from inflate3d.cli import main
from inflate3d.models.segmenter import load_model

INTERRUPTED = """
import os, signal, sys
import torch
import inflate3d.cli
from inflate3d.training.task import SegmentationTask

torch.set_num_threads(1)
step, exit_code = SegmentationTask.training_step, inflate3d.cli.exit_code

def interrupt(times):
    for _ in range(times):
        os.kill(os.getpid(), signal.SIGINT)

def interrupted_step(self, batch, number):
    interrupt(2)
    return step(self, batch, number)

def interrupted_exit(stop):
    interrupt(1)
    return exit_code(stop)

SegmentationTask.training_step = interrupted_step
inflate3d.cli.exit_code = interrupted_exit
code = inflate3d.cli.main(sys.argv[1:])
sys.exit(code)
"""


@pytest.mark.slow
def test_more_than_one_ctrl_c_exits_with_130(tiny_run, tmp_path):
    """Two in a step, of which the second stops it at once, and a third while the command ends."""
    words = ["train", "--config", tiny_run.config, "--run", tmp_path / "run"]
    command = [sys.executable, "-c", INTERRUPTED, *map(str, words)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 130, done.stderr
    assert "stopped" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.slow
def test_settings_of_a_run_train_it_again(tiny_run, tmp_path):
    again = tmp_path / "again"
    assert main(["train", "--config", str(tiny_run.config), "--run", str(again)]) == 0
    before, after = (load_model(folder).state_dict() for folder in (tiny_run.root, again))
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)
