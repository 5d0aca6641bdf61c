"""A run that is trained again by `inflate3d reproduce` is the same to the bit; what was tampered with is refused."""

import json
import shutil

import numpy as np
import pytest
import torch
import yaml
from safetensors.torch import load_file, save_file

from inflate3d.cli import main
from inflate3d.config import TrainingConfig
from inflate3d.evaluation.scores import Scores
from inflate3d.preparation.arrays import write_slices
from inflate3d.preparation.plan import Plan
from inflate3d.preparation.store import Store, case_file
from inflate3d.provenance import surroundings
from inflate3d.provenance.record import Provenance, record_path
from inflate3d.provenance.reproduction import compare_runs
from inflate3d.provenance.surroundings import other_surroundings
from inflate3d.run_folder import RunFolder


@pytest.fixture(scope="module")
def moved(evaluated_run, phantoms, phantom_store, tmp_path_factory):
    """The run, its store and its dataset on another machine: the places in config.yaml lead nowhere."""
    folder = tmp_path_factory.mktemp("moved")
    shutil.copytree(phantom_store.folder, folder / "store")
    run = RunFolder(folder / "run")
    shutil.copytree(evaluated_run.root, run.root)
    config = yaml.safe_load(run.config.read_text())
    run.config.write_text(yaml.safe_dump({**config, "dataset": "/nowhere/data", "store": "/nowhere/store"}))
    return run, ["--dataset", str(phantoms.root), "--store", str(folder / "store")]


def reproduce(run, words, capsys):
    code = main(["reproduce", str(run.root), *words, "--json"])
    return code, json.loads(capsys.readouterr().out)


def change_model(run):
    """Changes one weight by 0.5."""
    path = run.model / "model.safetensors"
    tensors = load_file(path)
    name = next(name for name, tensor in tensors.items() if tensor.is_floating_point() and tensor.numel() > 1)
    tensors[name].reshape(-1)[0] += 0.5
    save_file(tensors, path)
    return name


def test_the_same_bits_come_out_and_what_does_not_is_told(moved, capsys, monkeypatch):
    run, places = moved
    before = {path: path.read_bytes() for path in run.root.rglob("*") if path.is_file()}
    code, found = reproduce(run, places, capsys)
    assert (code, found["verdict"]) == (0, "bitwise equal")
    assert found["weights"]["tensors"] > 20 and found["weights"]["differing"] == []
    assert found["scores"]["largest_difference_by_case"] == dict.fromkeys(Scores.read(run.evaluation).cases, 0.0)
    assert all(path.read_bytes() == content for path, content in before.items())
    again = RunFolder(run.root / "reproduced")
    assert Provenance.read(again).data == Provenance.read(run).data

    # the new run is there already: nothing is trained, another model is told
    name = change_model(again)
    monkeypatch.setattr(surroundings, "other_surroundings", lambda *ignored: [])
    code, found = reproduce(run, places, capsys)
    assert (code, found["verdict"], found["bits_promised"]) == (1, "different", True)
    assert found["weights"]["differing"] == [name]
    assert found["weights"]["largest_difference"] == pytest.approx(0.5, abs=1e-6)

    monkeypatch.setattr(surroundings, "other_surroundings", lambda *ignored: ["torch 1 then, 2 now"])
    code, found = reproduce(run, places, capsys)
    assert (code, found["verdict"]) == (0, "equal within the tolerance")
    assert found["other_surroundings"] == ["torch 1 then, 2 now"]


def refused(run, words, capsys):
    code, found = reproduce(run, words, capsys)
    assert code == 2
    assert not (run.root / "reproduced").exists()
    return found["error"]


def test_a_tampered_store_is_refused(own_run, phantom_store, tmp_path, capsys):
    shutil.copytree(phantom_store.folder, tmp_path / "store")
    store = Store(tmp_path / "store")
    case = min(store.cases)
    array = np.array(store.image_slices(case, list(range(store.cases[case].shape[0]))))
    array[0, 3, 4, 5] += 1
    write_slices(case_file(store.folder, case, "image"), array, "image")
    error = refused(own_run, ["--store", str(store.folder)], capsys)
    assert error["what"] == "the prepared cases are not those that the run learned from"
    assert error["case"] == case and f"1 of 5 cases differ: {case}" in error["got"]


def test_tampered_2d_weights_are_refused(own_run, tmp_path, capsys):
    path = tmp_path / "own.safetensors"
    path.write_bytes(b"weightz")
    record = Provenance.read(own_run)
    weights = {"source": "file own.safetensors", "file": "own.safetensors", "sha256": "0" * 64}
    record_path(own_run).write_text(json.dumps({**record.model_dump(), "weights": weights}))
    error = refused(own_run, ["--weights", str(path)], capsys)
    assert error["what"] == "the 2D weights are not those that the run started from"
    assert "0" * 64 in error["expected"]


def test_a_model_that_was_changed_afterwards_is_refused(own_run, capsys):
    change_model(own_run)
    assert refused(own_run, [], capsys)["what"] == "the run's model is not the one that its training wrote"


def test_another_split_is_refused(own_run, capsys):
    split = json.loads(own_run.split.read_text())
    own_run.split.write_text(json.dumps({**split, "train": split["train"][1:]}))
    assert "split is not the one" in refused(own_run, [], capsys)["what"]


def test_another_plan_is_refused(own_run, capsys):
    plan = Plan.read(own_run.plan)
    plan.model_copy(update={"flips": tuple(not flip for flip in plan.flips)}).write(own_run.plan)
    assert main(["reproduce", str(own_run.root)]) == 2
    assert "another plan" in capsys.readouterr().err


def test_runs_that_can_not_be_reproduced(own_run, tmp_path, capsys):
    (own_run.model / "model.json").unlink()
    assert refused(own_run, [], capsys)["what"] == "the run is not finished"
    folds = tmp_path / "folds"
    folds.mkdir()
    own_run.root.rename(folds / "fold-0")
    error = refused(RunFolder(folds), [], capsys)
    assert error["what"] == "this is a folder of several runs" and "fold-0" in error["hint"]


def test_logs_are_compared_without_their_times(evaluated_run, own_run):
    lines = own_run.metrics.read_text().splitlines()
    columns = lines[0].split(",")
    first = lines[1].split(",")
    first[columns.index("seconds")] = "99"
    own_run.metrics.write_text("\n".join([lines[0], ",".join(first), *lines[2:]]) + "\n")
    assert compare_runs(evaluated_run, own_run).bitwise
    first[columns.index("loss")] = "99"
    own_run.metrics.write_text("\n".join([lines[0], ",".join(first), *lines[2:]]) + "\n")
    assert compare_runs(evaluated_run, own_run).steps == (1,)
    assert compare_runs(evaluated_run, own_run, resumed=True).bitwise
    own_run.metrics.write_text("\n".join(lines[:-1]) + "\n")
    assert compare_runs(evaluated_run, own_run, resumed=True).steps == (2,)


def test_dice_is_compared_by_case(evaluated_run, own_run):
    scores = Scores.read(own_run.evaluation)
    scores.native_dice[0, 0] += 0.25
    scores.write(own_run.evaluation)
    found = compare_runs(evaluated_run, own_run)
    assert not found.bitwise and not found.differing
    assert found.case_dice == {scores.cases[0]: pytest.approx(0.25)}
    assert found.dice_difference == pytest.approx(0.25 / len(scores.classes))
    assert found.verdict(promised=False, tolerance=0.1) == "equal within the tolerance"
    assert found.verdict(promised=False, tolerance=0.01) == "different"
    assert found.verdict(promised=True, tolerance=0.1) == "different"
    scores.native_dice[0, 0] = np.nan
    scores.write(own_run.evaluation)
    assert compare_runs(evaluated_run, own_run).case_dice == {scores.cases[0]: 1.0}


def test_a_tensor_of_another_shape_is_infinitely_far(evaluated_run, own_run):
    path = own_run.model / "model.safetensors"
    tensors = load_file(path)
    name = min(tensors)
    save_file({**tensors, name: torch.zeros(3)}, path)
    found = compare_runs(evaluated_run, own_run)
    assert found.differing == (name,)
    assert found.to_dict()["weights"]["largest_difference"] is None


def test_other_surroundings_are_told_in_words(tiny_run, monkeypatch):
    record = Provenance.read(tiny_run)
    session = record.sessions[0]
    monkeypatch.setattr(surroundings, "this_code", lambda: session.code.model_copy(update={"modified": False}))
    clean = session.model_copy(update={"code": session.code.model_copy(update={"modified": False})})
    cpu = TrainingConfig(accelerator="cpu")
    assert other_surroundings(record.model_copy(update={"sessions": (clean,)}), cpu) == []
    versions = {**clean.machine.versions, "torch": "1.0", "cuda": "9"}
    machine = clean.machine.model_copy(update={"processor": "Z80", "threads": 64, "versions": versions})
    code = clean.code.model_copy(update={"commit": "c0ffee", "modified": True})
    other = clean.model_copy(update={"machine": machine, "code": code})
    told = other_surroundings(record.model_copy(update={"sessions": (clean, other)}), cpu)
    assert [line.partition(" then")[0] for line in told] == [
        "inflate3d's commit c0ffee",
        "inflate3d's source had changes that no commit holds,",
        "processor Z80",
        "threads 64",
        "cuda 9",
        "torch 1.0",
    ]
