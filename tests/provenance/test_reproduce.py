"""`inflate3d reproduce` trains a run again to the same bits, and refuses what has changed since."""

import json
import shutil

import nibabel
import numpy as np
import pytest
import yaml
from safetensors.torch import load_file, save_file

from inflate3d.cli import main
from inflate3d.config import RunConfig
from inflate3d.preparation.arrays import write_slices
from inflate3d.preparation.plan import Plan
from inflate3d.preparation.store import Store, case_file
from inflate3d.provenance import Provenance
from inflate3d.run_folder import RunFolder
from inflate3d.training.run import train


def reproduce(run, words, capsys):
    code = main(["reproduce", str(run.root), *map(str, words), "--json"])
    return code, json.loads(capsys.readouterr().out)


def refused(run, words, capsys):
    code, found = reproduce(run, words, capsys)
    assert code == 2
    assert not (run.root / "reproduced").exists()
    return found["error"]


def change_model(run):
    """Changes one weight by 0.5."""
    path = run.model / "model.safetensors"
    tensors = load_file(path)
    name = next(name for name, tensor in tensors.items() if tensor.is_floating_point() and tensor.numel() > 1)
    tensors[name].reshape(-1)[0] += 0.5
    save_file(tensors, path)


@pytest.mark.slow
def test_the_same_model_comes_out_of_data_that_moved(own_run, phantoms, capsys):
    config = yaml.safe_load(own_run.config.read_text(encoding="utf-8"))
    own_run.config.write_text(yaml.safe_dump({**config, "dataset": "/nowhere/data", "store": "/nowhere/store"}))
    before = {path: path.read_bytes() for path in own_run.root.rglob("*") if path.is_file()}
    code, found = reproduce(own_run, ["--dataset", phantoms.root], capsys)
    assert (code, found["identical"]) == (0, True)
    assert all(path.read_bytes() == content for path, content in before.items())
    again = Provenance.read(RunFolder(own_run.root / "reproduced"))
    assert again.data == Provenance.read(own_run).data

    record = Provenance.read(own_run)  # as if another model had come out
    environment = record.sessions[0].environment
    session = record.sessions[0].model_copy(update={"environment": environment.model_copy(update={"processor": "Z80"})})
    changed = again.model_copy(update={"model_sha256": "0" * 64, "sessions": (session,)})
    changed.write(RunFolder(own_run.root / "reproduced"))
    code, found = reproduce(own_run, ["--dataset", phantoms.root], capsys)
    assert (code, found["identical"]) == (1, False)
    assert any(line.endswith("then Z80") for line in found["environment_differences"])


@pytest.mark.slow
def test_an_extended_run_is_reproduced_with_both_schedules(own_run, phantom_store, capsys):
    config = RunConfig.read(own_run.config)
    longer = config.training.model_copy(update={"steps": (config.training.steps or 0) + 2})
    train(config.model_copy(update={"training": longer}), own_run, phantom_store, resume=True)
    code, found = reproduce(own_run, [], capsys)
    assert (code, found["identical"]) == (0, True)
    assert reproduce(own_run, [], capsys)[0] == 0  # which finds it done


@pytest.mark.slow
def test_a_changed_dataset_is_refused_though_its_store_is_not(own_run, phantoms, tmp_path, capsys):
    shutil.copytree(phantoms.root, tmp_path / "data")
    case = phantoms.cases[0]
    path = tmp_path / "data" / case.scan.relative_to(phantoms.root)
    image = nibabel.Nifti1Image.from_filename(path)
    array = np.asanyarray(image.dataobj).copy()
    array[3, 4, 5] += 1
    nibabel.Nifti1Image(array, image.affine, image.header).to_filename(path)
    assert refused(own_run, ["--dataset", tmp_path / "data"], capsys)["case"] == case.id


def test_a_changed_store_is_refused(own_run, phantom_store, tmp_path, capsys):
    shutil.copytree(phantom_store.folder, tmp_path / "store")
    store = Store(tmp_path / "store")
    case = min(store.cases)
    array = np.array(store.image_slices(case, list(range(store.cases[case].shape[0]))))
    array[0, 3, 4, 5] += 1
    write_slices(case_file(store.folder, case, "image"), array, "image")
    config = yaml.safe_load(own_run.config.read_text(encoding="utf-8"))
    own_run.config.write_text(yaml.safe_dump({**config, "store": str(store.folder)}))
    error = refused(own_run, [], capsys)
    assert error["case"] == case and f"1 of 5 cases differ: {case}" in error["got"]


def test_changed_2d_weights_are_refused(own_run, tmp_path, capsys):
    path = tmp_path / "own.safetensors"
    path.write_bytes(b"weightz")
    record = Provenance.read(own_run)
    weights = {"source": "file own.safetensors", "file": "own.safetensors", "sha256": "0" * 64}
    own_run.provenance.write_text(json.dumps({**record.model_dump(), "weights": weights}))
    assert "0" * 64 in refused(own_run, ["--weights", path], capsys)["expected"]


def test_a_changed_model_is_refused(own_run, capsys):
    change_model(own_run)
    assert refused(own_run, [], capsys)["file"] == str(own_run.model / "model.safetensors")


def test_another_split_is_refused(own_run, capsys):
    split = json.loads(own_run.split.read_text(encoding="utf-8"))
    own_run.split.write_text(json.dumps({**split, "train": split["train"][1:]}))
    assert refused(own_run, [], capsys)["file"] == str(own_run.split)


def test_another_plan_is_refused(own_run, capsys):
    plan = Plan.read(own_run.plan)
    plan.model_copy(update={"flips": tuple(not flip for flip in plan.flips)}).write(own_run.plan)
    assert refused(own_run, [], capsys)["file"] == str(own_run.plan)


def test_folders_that_can_not_be_reproduced(own_run, tmp_path, capsys):
    (own_run.model / "model.json").unlink()
    assert refused(own_run, [], capsys)["file"] == str(own_run.root)
    folds = tmp_path / "folds"
    folds.mkdir()
    own_run.root.rename(folds / "fold-0")
    assert "fold-0" in refused(RunFolder(folds), [], capsys)["hint"]
