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

from inflate3d.comparison.runs import plan_runs
from inflate3d.comparison.scheduler import RunError, Slot, find_slots, run_in_parallel, worker_command
from inflate3d.comparison.worker import SETTINGS
from inflate3d.config import TrainingConfig
from inflate3d.errors import ConfigError
from inflate3d.stopping import Interrupted

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
def runs(tiny_config, tmp_path):
    return plan_runs({"ours": tiny_config}, range(4), (None,), tmp_path)


def scripted(script):
    return lambda run: [sys.executable, "-c", script, str(run.folder.root)]


def test_one_process_a_slot_at_a_time(runs):
    logged = []
    run_in_parallel(runs, SLOTS, logged.append, command=scripted(FINISH), pause=0.02)
    assert all(run.finished for run in runs)
    times = [json.loads((run.folder.evaluation / "scores.json").read_text(encoding="utf-8")) for run in runs]
    for device in ("0", "3"):
        own = sorted((time["begun"], time["ended"]) for time in times if time["device"] == device)
        assert all(before[1] <= after[0] for before, after in itertools.pairwise(own))
    assert {time["device"] for time in times} == {"0", "3"}
    assert sum("started" in line for line in logged) == sum("finished" in line for line in logged) == 4
    assert "ours-seed-1: started on GPU 3" in logged[1]


def test_finished_ones_are_not_run_again(runs):
    run_in_parallel(runs, SLOTS, print, command=scripted(FINISH), pause=0.02)
    run_in_parallel(runs, SLOTS, print, command=scripted("raise SystemExit(1)"), pause=0.02)


def test_failure_shows_the_last_lines_and_the_others_go_on(runs):
    script = "import sys; print('a'); print('error: no such weights', file=sys.stderr); sys.exit(2)"

    def command(run):
        return scripted(script if run is runs[0] else FINISH)(run)

    with pytest.raises(RunError) as caught:
        run_in_parallel(runs, SLOTS, print, command=command, pause=0.02)
    assert "exit code 2" in str(caught.value.got) and "error: no such weights" in str(caught.value.got)
    assert [run.finished for run in runs] == [False, True, True, True]


def test_sigterm_is_passed_on(runs):
    script = (
        "import pathlib, signal, sys, time\n"
        "run = pathlib.Path(sys.argv[1])\n"
        "signal.signal(signal.SIGTERM, lambda *_: ((run / 'stopped').write_text(''), sys.exit(130)))\n"
        "(run / 'ready').write_text('')\n"
        "time.sleep(60)\n"
    )

    def stop():
        while not all((run.folder.root / "ready").exists() for run in runs[:2]):
            time.sleep(0.02)
        os.kill(os.getpid(), signal.SIGTERM)

    before = signal.getsignal(signal.SIGTERM)
    threading.Thread(target=stop).start()
    with pytest.raises(Interrupted):
        run_in_parallel(runs, SLOTS, print, command=scripted(script), pause=0.02)
    assert [(run.folder.root / "stopped").exists() for run in runs] == [True, True, False, False]
    assert signal.getsignal(signal.SIGTERM) == before


def test_slots_on_gpus(monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert [slot.name for slot in find_slots(TrainingConfig(), None)] == ["GPU 0", "GPU 1", "GPU 2", "GPU 3"]
    assert len(find_slots(TrainingConfig(), 3)) == 3
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "7,2,5,1")
    pairs = find_slots(TrainingConfig(devices=2), None)
    assert [slot.environment["CUDA_VISIBLE_DEVICES"] for slot in pairs] == ["7,2", "5,1"]
    with pytest.raises(ConfigError) as caught:
        find_slots(TrainingConfig(devices=2), 3)
    assert "at most 2: 4 GPUs, 2 for each training" in str(caught.value.expected)


def test_slots_without_gpus(monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
    monkeypatch.setattr("inflate3d.comparison.scheduler.count_cores", lambda: 8)
    assert len(find_slots(TrainingConfig(accelerator="cpu"), None)) == 1
    slots = find_slots(TrainingConfig(accelerator="cpu"), 3)
    assert [slot.environment for slot in slots] == [{"OMP_NUM_THREADS": "2"}] * 3
    assert find_slots(TrainingConfig(accelerator="cpu"), 3, threads=1)[0].environment == {"OMP_NUM_THREADS": "1"}


COMPARISON = """
import os, subprocess, sys
from inflate3d.comparison.worker import PARENT
subprocess.run([sys.executable, "-c", *sys.argv[1:]], env={**os.environ, PARENT: str(os.getpid())})
"""
WORKER = """
import os, pathlib, sys, time
from inflate3d.comparison import worker
def train(run, store, **_):
    (run.folder.root / "environment").write_text(os.environ.get(worker.PARENT, ""))
    (run.folder.root / "environment").rename(run.folder.root / "training")
    time.sleep(60)
worker.train_and_score, worker.Store, worker._LOOK_SECONDS = train, lambda _: None, 0.02
code = worker.main(sys.argv[1:])
pathlib.Path(sys.argv[1], "code").write_text(str(code))
pathlib.Path(sys.argv[1], "code").rename(pathlib.Path(sys.argv[1], "stopped"))
"""


@pytest.mark.slow
def test_worker_stops_when_its_comparison_is_killed(runs):
    folder = runs[0].folder.root
    runs[0].config.write(folder / SETTINGS)
    words = [sys.executable, "-c", COMPARISON, WORKER, *worker_command(runs[0])[3:]]
    with subprocess.Popen(words) as comparison:
        while not (folder / "training").exists():
            assert comparison.poll() is None
            time.sleep(0.02)
        comparison.kill()
    while not (folder / "stopped").exists():  # it would by itself, in a minute, with another code
        time.sleep(0.02)
    assert (folder / "stopped").read_text(encoding="utf-8") == "75"  # as after SIGTERM: it may be resumed
    # processes that the worker starts for other devices have another parent, and must not look for it
    assert (folder / "training").read_text(encoding="utf-8") == ""


def test_worker_reports_a_user_error(runs):
    """The real command, up to its first mistake."""
    command = worker_command(runs[0])
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ended.returncode == 2, ended.stderr
    assert ended.stderr.startswith("error: ")
