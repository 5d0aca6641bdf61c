import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from inflate3d.inference.memory import DEFAULT_BUDGET, GIGABYTE, LiveTensors, default_budget
from inflate3d.inference.predictor import Predictor
from inflate3d.models.oom import MemoryBudgetError
from inflate3d.volume import Volume

MEASURED = """
import importlib.util
from pathlib import Path
import numpy as np
import torch
from inflate3d.inference.predictor import Predictor
from inflate3d.models.oom import MemoryBudgetError
from inflate3d.volume import Volume

spec = importlib.util.spec_from_file_location("networks", {conftest!r})
module = importlib.util.module_from_spec(spec)
spec.loader.exec_module(module)

torch.set_num_threads(1)
models = [module._sums({classes}, image_size=(192, 192), seed=seed) for seed in range({networks})]
predictor = Predictor(models, device="cpu", memory={memory})
predict = predictor.predict
predict(Volume(np.zeros((1, 8, 8, 4), np.int16), np.eye(4)))  # what torch needs once
scan = Volume(np.ones((1, 192, 192, {slices}), np.int16, order="F"), np.eye(4))


def peak():  # not getrusage's, which a process inherits from the one that starts it
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))


before = peak()
predict(scan, **{options})
print(peak() - before)
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("networks", "options", "memory"),
    [(1, {}, 0.25), (3, {"confidence": True, "uncertainty": True}, 0.4)],
)
def test_peak_stays_in_the_budget_whatever_the_classes_and_slices(networks, options, memory):
    """In a process of its own; all logits of a network for this scan would take 0.9 gigabytes."""
    conftest = str(Path(__file__).with_name("conftest.py"))
    asked = {"networks": networks, "options": options}
    code = MEASURED.format(conftest=conftest, classes=100, slices=60, memory=memory, **asked)
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert 0 < int(printed) < memory * GIGABYTE


def test_memory_that_is_too_little(sums):
    scan = Volume(np.zeros((1, 40, 40, 4), np.int16), np.eye(4))
    with pytest.raises(MemoryBudgetError) as caught:
        Predictor(sums(), device="cpu", memory=1e-6).predict(scan)
    assert str(caught.value.expected).startswith("at least 0.00")


def test_default_budget():
    assert 0 < default_budget(torch.device("cpu")) <= DEFAULT_BUDGET


def test_live_tensors_are_counted_with_their_views_once():
    weights = torch.zeros(1000)
    with LiveTensors() as live:
        first = torch.zeros(250)
        second = first.view(2, 125)[0] + 1  # 125 more
        del first, second
        third = weights.view(10, 100).t() * 1
        third.add_(1)
    assert live.peak == 4 * 1000


def test_only_the_memory_that_is_needed_makes_batches_smaller(sums, monkeypatch):
    model = sums(20, image_size=(64, 64))
    seen = []
    real = model.forward
    monkeypatch.setattr(model, "forward", lambda windows: seen.append(len(windows)) or real(windows))
    scan = Volume(np.zeros((1, 64, 64, 30), np.int16), np.eye(4))
    Predictor(model, device="cpu", batch_size=8).predict(scan)
    assert seen == [1, 8, 8, 8, 5]
    seen.clear()
    Predictor(model, device="cpu", batch_size=8, memory=0.006).predict(scan)
    assert sum(seen) == 30
    assert 1 <= max(seen) < 8
