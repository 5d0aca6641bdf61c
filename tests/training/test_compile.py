"""Compiled training, real but for the last stage: machine code takes minutes to make.

In a process of its own: the run-time checks of array shapes, which these tests switch on, can't be compiled.
"""

import csv
import subprocess
import sys

import pytest
import torch

from inflate3d.models.segmenter import load_model
from inflate3d.run_folder import RunFolder

pytestmark = pytest.mark.slow

TRAIN_AND_RESUME = """
import sys
from functools import partialmethod
from pathlib import Path

import torch

from inflate3d.config import RunConfig
from inflate3d.preparation.store import Store
from inflate3d.run_folder import RunFolder
from inflate3d.training.run import train

torch.set_num_threads(1)
torch.nn.Module.compile = partialmethod(torch.nn.Module.compile, backend="aot_eager")
config, folder = RunConfig.read(Path(sys.argv[1])), RunFolder(Path(sys.argv[2]))
train(config, folder, Store(config.store))
assert torch._dynamo.utils.counters["stats"]["unique_graphs"]
(folder.model / "model.json").unlink()
train(config, folder, Store(config.store), resume=True)
"""


def losses_of(folder):
    with folder.metrics.open(newline="", encoding="utf-8") as file:
        return [float(row["loss"]) for row in csv.DictReader(file) if row["loss"]]


def state_of(folder):
    return torch.load(folder.last, weights_only=True)["state_dict"]


def test_compiled_run_has_plain_names_is_resumed_and_computes_the_same(tiny_run, tiny_config, tmp_path):
    training = tiny_config.training.model_copy(update={"compile": True})
    config, folder = tmp_path / "config.yaml", RunFolder(tmp_path / "run")
    tiny_config.model_copy(update={"training": training}).write(config)
    subprocess.run([sys.executable, "-c", TRAIN_AND_RESUME, str(config), str(folder.root)], check=True)
    assert state_of(folder).keys() == state_of(tiny_run).keys()
    assert load_model(folder.root).state_dict().keys() == load_model(tiny_run.root).state_dict().keys()
    # Losses, not weights: Adam makes a whole step of a gradient that is nothing but rounding.
    assert losses_of(folder) == pytest.approx(losses_of(tiny_run), rel=1e-3)


FAIL_TO_COMPILE = """
import sys
from functools import partialmethod
from pathlib import Path

import torch

from inflate3d.config import RunConfig
from inflate3d.errors import ConfigError
from inflate3d.preparation.store import Store
from inflate3d.run_folder import RunFolder
from inflate3d.training.run import train


def no_compiler(graph, inputs):
    raise FileNotFoundError("no g++ is here")


torch.nn.Module.compile = partialmethod(torch.nn.Module.compile, backend=no_compiler)
config = RunConfig.read(Path(sys.argv[1]))
try:
    train(config, RunFolder(Path(sys.argv[2])), Store(config.store))
except ConfigError as error:
    assert "can't be compiled" in str(error) and "no g++ is here" in str(error) and "--compile" in error.hint
else:
    raise AssertionError
"""


def test_machine_that_can_not_compile(tiny_config, tmp_path):
    training = tiny_config.training.model_copy(update={"compile": True})
    config = tmp_path / "config.yaml"
    tiny_config.model_copy(update={"training": training}).write(config)
    subprocess.run([sys.executable, "-c", FAIL_TO_COMPILE, str(config), str(tmp_path / "run")], check=True)
