"""Interrupted preparations."""

import dataclasses
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import nibabel
import numpy as np
import pytest

from inflate3d.datasets import read_dataset
from inflate3d.errors import DataError, DatasetProblems, OutputError
from inflate3d.preparation import prepare as preparation
from inflate3d.preparation.plan_options import PlanOptions
from inflate3d.preparation.prepare import prepare
from inflate3d.preparation.staging import open_staging
from inflate3d.preparation.store import Store

SLOW = """
import sys, time
from pathlib import Path
from inflate3d.datasets import read_dataset
from inflate3d.preparation import prepare as preparation
from inflate3d.preparation.prepare import prepare

real = preparation.read_case

def slowly(dataset, case, **how):
    if case.id == "toy3":
        print("started", flush=True)
        time.sleep(600)
    return real(dataset, case, **how)

preparation.read_case = slowly
prepare(read_dataset(Path(sys.argv[1])), Path(sys.argv[2]), workers=1)
"""


def stop_at(monkeypatch, number, error=KeyboardInterrupt):
    """Makes the next preparation end at a case."""
    real = preparation.write_case

    def stopping(folder, case, *rest):
        if case.id == f"toy{number}":
            raise error
        return real(folder, case, *rest)

    with monkeypatch.context() as patched:
        patched.setattr(preparation, "write_case", stopping)
        yield


def interrupt(monkeypatch, toys, folder, number, **how):
    for _ in stop_at(monkeypatch, number):
        with pytest.raises(KeyboardInterrupt):
            prepare(toys, folder, workers=1, **how)


def contents(folder):
    """Every file below a folder and its bytes."""
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.slow
def test_killed_preparation_goes_on_and_ends_as_an_undisturbed_one(tmp_path, write_toys, read):
    write_toys(tmp_path / "data")
    killed = subprocess.Popen(
        [sys.executable, "-c", SLOW, str(tmp_path / "data"), str(tmp_path / "store")], stdout=subprocess.PIPE, text=True
    )
    assert killed.stdout is not None
    with killed:
        assert killed.stdout.readline() == "started\n"
        toys = read_dataset(tmp_path / "data")
        with pytest.raises(OutputError, match="another process is preparing this store") as caught:
            prepare(toys, tmp_path / "store", workers=1)
        assert f"process {killed.pid} on " in str(caught.value.got)
        assert read == []
        os.kill(killed.pid, signal.SIGKILL)
    prepare(toys, tmp_path / "store", workers=1)
    assert read == ["toy3", "toy4"]
    prepare(toys, tmp_path / "whole", workers=1)
    assert contents(tmp_path / "store") == contents(tmp_path / "whole")


def test_older_store_stays_until_the_new_one_is_whole(tmp_path, write_toys, monkeypatch):
    toys, folder = write_toys(tmp_path / "data", cases=3), tmp_path / "store"
    prepare(toys, folder, workers=1)
    before = contents(folder)
    interrupt(monkeypatch, toys, folder, 1)
    assert before.items() <= contents(folder).items()
    assert Store(folder).cases.keys() == {"toy0", "toy1", "toy2"}
    prepare(toys, folder, workers=1)
    assert contents(folder) == before


def test_what_is_half_moved_to_its_place_is_no_store_and_is_moved_on(tmp_path, write_toys, monkeypatch, read):
    toys, folder = write_toys(tmp_path / "data", cases=3), tmp_path / "store"
    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(preparation, "write_index", lambda *parts: (_ for _ in ()).throw(KeyboardInterrupt))
        prepare(toys, folder, workers=1)
    with pytest.raises(DataError, match="prepared dataset not found"):
        Store(folder)
    read.clear()
    prepare(toys, folder, workers=1)
    assert read == []
    prepare(toys, tmp_path / "whole", workers=1)
    assert contents(folder) == contents(tmp_path / "whole")


def test_case_whose_files_changed_is_read_again(tmp_path, write_toys, monkeypatch, read):
    toys, folder = write_toys(tmp_path / "data", cases=3), tmp_path / "store"
    interrupt(monkeypatch, toys, folder, 2)
    read.clear()
    os.utime(toys.cases[1].scan, ns=(0, 1))
    prepare(toys, folder, workers=1)
    assert read == ["toy1", "toy2"]


@pytest.mark.parametrize("damage", ["cut short", "gone"])
def test_damaged_file_pair_is_made_again(tmp_path, write_toys, monkeypatch, read, damage):
    toys, folder = write_toys(tmp_path / "data", cases=3), tmp_path / "store"
    interrupt(monkeypatch, toys, folder, 2)
    read.clear()
    staged = folder / ".unfinished" / "toy0.image.b2nd"
    staged.unlink() if damage == "gone" else staged.write_bytes(staged.read_bytes()[:-1])
    prepare(toys, folder, workers=1)
    assert read == ["toy0", "toy2"]


def test_damaged_record_costs_that_case_alone(tmp_path, write_toys, monkeypatch, read):
    toys, folder = write_toys(tmp_path / "data", cases=4), tmp_path / "store"
    interrupt(monkeypatch, toys, folder, 2)
    record = folder / ".unfinished" / "toy1.json"
    record.write_bytes(record.read_bytes()[:-30])
    read.clear()
    interrupt(monkeypatch, toys, folder, 3)
    assert read == ["toy1", "toy2", "toy3"]
    read.clear()
    prepare(toys, folder, workers=1)
    assert read == ["toy3"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("options", "again"),
    [
        (PlanOptions(depth_axis="coronal"), True),
        (PlanOptions(classes=("liver",)), True),
        (PlanOptions(allow_missing_modality=True), True),
        (PlanOptions(spacing="median"), True),
        (PlanOptions(clip=(0.0, 100.0), planned_size=(64, 64), flips=False), False),
    ],
)
def test_options_that_change_no_array_keep_prepared_cases(tmp_path, write_toys, monkeypatch, read, options, again):
    toys, folder = write_toys(tmp_path / "data", cases=3), tmp_path / "store"
    interrupt(monkeypatch, toys, folder, 2)
    read.clear()
    prepare(toys, folder, workers=1, options=options)
    assert read == (["toy0", "toy1", "toy2"] if again else ["toy2"])
    prepare(toys, tmp_path / "whole", workers=1, options=options)
    assert contents(folder) == contents(tmp_path / "whole")


def test_nothing_is_left_of_data_that_can_not_be_used(tmp_path, write_toys):
    toys = write_toys(tmp_path / "data", cases=2)
    nibabel.Nifti1Image(np.full((20, 24, 7), np.nan, np.float32), np.eye(4)).to_filename(toys.cases[1].scan)
    with pytest.raises(DatasetProblems):
        prepare(toys, tmp_path / "deep" / "store", workers=1)
    assert not (tmp_path / "deep").exists()
    prepare(dataclasses.replace(toys, cases=toys.cases[:1]), tmp_path / "store", workers=1)
    before = contents(tmp_path / "store")
    with pytest.raises(DatasetProblems):
        prepare(toys, tmp_path / "store", workers=1)
    assert contents(tmp_path / "store") == before


def test_lock_dies_with_its_holder(tmp_path):
    with (
        open_staging(tmp_path / "store"),
        pytest.raises(OutputError, match="another process"),
        open_staging(tmp_path / "store"),
    ):
        pass
    with open_staging(tmp_path / "store"):
        pass


@pytest.mark.skipif(not Path("/proc/self").is_dir(), reason="the system doesn't list processes as files")
def test_processes_end_when_the_one_that_started_them_is_killed(tmp_path):
    code = """
if __name__ == "__main__":
    import time
    from inflate3d.preparation.parallel import in_parallel
    list(in_parallel(time.sleep, [0.01] * 4 + [600] * 4, 2))
"""
    script = tmp_path / "script.py"
    script.write_text(code)
    parent = subprocess.Popen([sys.executable, str(script)])
    with parent:
        children = _wait_for(lambda: _descendants(parent.pid, 4))  # two workers, what starts them, and a tracker
        os.kill(parent.pid, signal.SIGKILL)
    assert children
    assert _wait_for(lambda: not any(_is_alive(child) for child in children))


def _descendants(process, count):
    found = []
    for child in Path(f"/proc/{process}/task/{process}/children").read_text(encoding="utf-8").split():
        found += [int(child), *(_descendants(child, 0) or [])]
    return found if len(found) >= count else None


def _is_alive(process):
    try:
        return Path(f"/proc/{process}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def _wait_for(condition, seconds=60):
    end = time.monotonic() + seconds
    while not (found := condition()) and time.monotonic() < end:
        time.sleep(0.05)
    return found
