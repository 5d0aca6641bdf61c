"""Arms that are other programs: what they get, and what becomes of what they leave."""

import json
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest

from inflate3d.comparison.program import run_program
from inflate3d.comparison.runs import COMMAND, COST, LOG, RunError, plan_runs
from inflate3d.datasets.splits import choose_split
from inflate3d.errors import ConfigError, DataError

PROGRAM = """
import json, pathlib, sys
import nibabel

data, out = map(pathlib.Path, sys.argv[1:3])
seen = sorted(path.relative_to(data.parent).as_posix() for path in data.parent.rglob("*") if path.is_file())
print(json.dumps([seen, json.loads((data / "dataset.json").read_text(encoding="utf-8")), *sys.argv[3:]]), flush=True)

def predict(change=lambda labels: labels):
    for scan in (data / "imagesTs").iterdir():
        image = nibabel.load(scan)
        labels = change((image.get_fdata() > 60).astype("uint8"))
        nibabel.Nifti1Image(labels, image.affine).to_filename(out / scan.name.replace("_0000", ""))
"""


@pytest.fixture
def arm(tiny_config, tmp_path):
    """The planned run of a program."""

    def plan(script):
        places = (f"{{{name}}}" for name in ("data", "out", "seconds", "seed", "threads"))
        command = (sys.executable, "-c", PROGRAM + script, *places)
        return plan_runs({"it": tiny_config}, (7,), (2,), tmp_path, (90.0,), {"it": command})[0]

    return plan


@pytest.mark.slow
def test_program_gets_the_split_without_held_out_labels(arm, phantom_store, phantoms):
    run = arm("predict()")
    scores = run_program(run, phantom_store, threads=3)
    split = choose_split(run.config.data, phantom_store.groups, phantom_store.splits)
    seen, listing, *given = json.loads((run.folder.root / LOG).read_text(encoding="utf-8"))
    assert given == ["90", "7", "3"]
    assert len(split.train) == listing["numTraining"] == 2
    root = f"Dataset001_{phantoms.name}"
    assert {name for name in seen if name.endswith(".nii.gz")} == {
        *(f"{root}/imagesTr/{case}_0000.nii.gz" for case in split.train),
        *(f"{root}/labelsTr/{case}.nii.gz" for case in split.train),
        *(f"{root}/imagesTs/{case}_0000.nii.gz" for case in split.held_out),
    }
    assert (scores.cases, scores.classes) == (split.held_out, phantom_store.plan.class_names[1:])
    assert run.finished
    cost = json.loads((run.folder.root / COST).read_text(encoding="utf-8"))
    assert cost["training_seconds"] > 0 == cost["other_seconds"]
    assert {path.name for path in run.folder.root.iterdir()} == {
        *("predictions", "evaluation", "split.json"), *(COMMAND, COST, LOG),
    }  # fmt: skip


@pytest.mark.slow
def test_program_that_predicts_the_labels_is_perfect_and_reports_its_training(arm, phantom_store, phantoms):
    """The labels are taken from where the dataset lies, which a program can't be kept from."""
    run = arm(
        f"""
import shutil
for label in pathlib.Path({str(phantoms.root / "labelsTr")!r}).iterdir():
    if (data / "imagesTs" / label.name.replace(".nii.gz", "_0000.nii.gz")).exists():
        shutil.copy(label, out)
(out / "training.json").write_text('{{"seconds": 0.001}}')
"""
    )
    scores = run_program(run, phantom_store, threads=1)
    assert scores.mean() == 1
    cost = json.loads((run.folder.root / COST).read_text(encoding="utf-8"))
    assert cost["training_seconds"] == 0.001 < cost["other_seconds"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("script", "kind"),
    [
        ("print('no GPU'); sys.exit(3)", RunError),
        ("", DataError),
        ("predict(); (out / 'more.nii.gz').write_bytes(next(out.iterdir()).read_bytes())", DataError),
        ("predict(lambda labels: labels[1:])", DataError),
        ("predict(); (out / 'training.json').write_text('{\"seconds\": 1e9}')", DataError),
    ],
    ids=["failure", "no label map", "one more", "another grid", "impossible time"],
)
def test_what_a_program_does_wrong_is_refused(script, kind, arm, phantom_store):
    run = arm(script)
    with pytest.raises(kind) as caught:
        run_program(run, phantom_store, threads=1)
    assert not run.finished
    if kind is RunError:
        assert "no GPU" in str(caught.value.got) and "exit code 3" in str(caught.value.got)
        assert caught.value.file == str(run.folder.root / LOG)


def test_program_that_is_not_there(tiny_config, phantom_store, tmp_path):
    command = (str(tmp_path / "nothing"), "{data}", "{out}", "{seconds}")
    (run,) = plan_runs({"it": tiny_config}, (0,), (None,), tmp_path, (1.0,), {"it": command})
    with pytest.raises(ConfigError):
        run_program(run, phantom_store, threads=1)
    with pytest.raises(ConfigError) as caught:  # the folder is that of another command
        plan_runs({"it": tiny_config}, (0,), (None,), tmp_path, (1.0,), {"it": (*command, "{seed}")})
    assert caught.value.file == str(run.folder.root / COMMAND)


@pytest.mark.slow
def test_stop_ends_the_program_and_what_it_has_started(arm, phantom_store, monkeypatch):
    run = arm(
        """
import subprocess, time
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], stdout=subprocess.PIPE)
(out / "pid").write_text(str(child.pid))
time.sleep(600)
"""
    )
    pid = run.folder.predictions / "pid"

    def stopped(*_):
        while not (pid.exists() and pid.read_text(encoding="utf-8")):
            pass
        raise KeyboardInterrupt

    monkeypatch.setattr("os.wait4", stopped)
    with pytest.raises(KeyboardInterrupt):
        run_program(run, phantom_store, threads=1)
    for _ in range(1000):  # a killed process is gone a little later
        if state(pid.read_text(encoding="utf-8")) == "Z":
            break
        time.sleep(0.01)
    else:
        pytest.fail("a child of the program goes on")
    assert not run.finished


def state(pid):
    """Of a process, such as S; Z if it has ended, whether or not its new parent has noticed."""
    with suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0]
    return "Z"
