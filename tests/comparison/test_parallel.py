import itertools
import json
import os
import signal
import subprocess
import sys
import threading
import time

import pytest
import torch

from inflate3d.comparison import parallel
from inflate3d.comparison.parallel import Slot, TrialError, find_slots, run_in_parallel, trial_command
from inflate3d.comparison.trials import plan_trials
from inflate3d.config import TrainingConfig
from inflate3d.errors import ConfigError

FINISH = """
import json, os, pathlib, sys, time
run = pathlib.Path(sys.argv[1])
begun = time.time()
time.sleep(0.3)
(run / "evaluation").mkdir()
(run / "evaluation/scores.json").write_text(
    json.dumps({"begun": begun, "ended": time.time(), "device": os.environ["CUDA_VISIBLE_DEVICES"]})
)
"""
SLOTS = [Slot("GPU 0", {"CUDA_VISIBLE_DEVICES": "0"}), Slot("GPU 3", {"CUDA_VISIBLE_DEVICES": "3"})]


@pytest.fixture
def trials(tiny_config, tmp_path):
    return plan_trials({"ours": tiny_config}, range(4), (None,), tmp_path)


def scripted(script):
    return lambda trial: [sys.executable, "-c", script, str(trial.folder.root)]


def test_one_process_a_slot_at_a_time(trials):
    told = []
    run_in_parallel(trials, SLOTS, told.append, command=scripted(FINISH), pause=0.02)
    assert all(trial.finished for trial in trials)
    times = [json.loads((trial.folder.evaluation / "scores.json").read_text()) for trial in trials]
    for device in ("0", "3"):
        own = sorted((time["begun"], time["ended"]) for time in times if time["device"] == device)
        assert all(before[1] <= after[0] for before, after in itertools.pairwise(own))
    assert {time["device"] for time in times} == {"0", "3"}
    assert sum("begun" in line for line in told) == sum("finished" in line for line in told) == 4
    assert "ours-seed-1: begun on GPU 3" in told[1]


def test_finished_ones_are_not_run_again(trials):
    run_in_parallel(trials, SLOTS, print, command=scripted(FINISH), pause=0.02)
    run_in_parallel(trials, SLOTS, print, command=scripted("raise SystemExit(1)"), pause=0.02)


def test_failure_is_told_with_the_last_words(trials):
    script = "import sys; print('a'); print('error: no such weights', file=sys.stderr); sys.exit(2)"
    with pytest.raises(TrialError, match="a training of the comparison failed: ours") as caught:
        run_in_parallel(trials, SLOTS[:1], print, command=scripted(script), pause=0.02)
    assert "exit code 2" in str(caught.value.got) and "error: no such weights" in str(caught.value.got)
    assert not trials[1].folder.root.exists()  # nothing is begun after a failure


def test_sigterm_is_passed_on(trials):
    script = (
        "import pathlib, signal, sys, time\n"
        "run = pathlib.Path(sys.argv[1])\n"
        "signal.signal(signal.SIGTERM, lambda *_: ((run / 'stopped').write_text(''), sys.exit(130)))\n"
        "(run / 'ready').write_text('')\n"
        "time.sleep(60)\n"
    )

    def stop():
        while not all((trial.folder.root / "ready").exists() for trial in trials[:2]):
            time.sleep(0.02)
        os.kill(os.getpid(), signal.SIGTERM)

    before = signal.getsignal(signal.SIGTERM)
    threading.Thread(target=stop).start()
    with pytest.raises(KeyboardInterrupt):
        run_in_parallel(trials, SLOTS, print, command=scripted(script), pause=0.02)
    assert [(trial.folder.root / "stopped").exists() for trial in trials] == [True, True, False, False]
    assert signal.getsignal(signal.SIGTERM) == before


def test_slots_on_gpus(monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert [slot.name for slot in find_slots(TrainingConfig(), None)] == ["GPU 0", "GPU 1", "GPU 2", "GPU 3"]
    assert len(find_slots(TrainingConfig(), 3)) == 3
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "7,2,5,1")
    pairs = find_slots(TrainingConfig(devices=2), None)
    assert [slot.environment["CUDA_VISIBLE_DEVICES"] for slot in pairs] == ["7,2", "5,1"]
    with pytest.raises(ConfigError, match="not GPUs enough") as caught:
        find_slots(TrainingConfig(devices=2), 3)
    assert "at most 2: 4 GPUs, 2 for each training" in str(caught.value.expected)


def test_slots_without_gpus(monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
    monkeypatch.setattr(parallel, "count_cores", lambda: 8)
    assert len(find_slots(TrainingConfig(accelerator="cpu"), None)) == 1
    slots = find_slots(TrainingConfig(accelerator="cpu"), 3)
    assert [slot.environment for slot in slots] == [{"OMP_NUM_THREADS": "2"}] * 3


def test_process_that_trains_says_what_is_wrong(trials):
    """The real command, up to its first mistake."""
    command = trial_command(trials[0])
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ended.returncode == 2, ended.stderr
    assert "error: configuration can't be read" in ended.stderr
