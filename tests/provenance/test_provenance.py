"""What a run's record holds; a run is resumed only with the data and 2D weights that it was started with."""

import hashlib
import shutil
import subprocess
from datetime import datetime
from pathlib import Path

import numpy as np
import pytest
import torch

import inflate3d
from inflate3d import environment, provenance
from inflate3d.config import InflatedConfig, RunConfig, VolumetricConfig
from inflate3d.datasets.splits import Split
from inflate3d.environment import command_line, this_environment
from inflate3d.errors import ConfigError, DataError, ModelError
from inflate3d.models import weights_origin as origin_module
from inflate3d.models.weights_origin import weights_origin
from inflate3d.preparation.arrays import write_slices
from inflate3d.preparation.prepare import prepare
from inflate3d.preparation.store import Store, case_file
from inflate3d.provenance import Provenance, data_origin, file_sha256, recorded
from inflate3d.run_folder import RunFolder
from inflate3d.stopping import Interrupted

CPU = torch.device("cpu")


@pytest.fixture
def own_store(phantom_store, tmp_path) -> Store:
    shutil.copytree(phantom_store.folder, tmp_path / "store")
    return Store(tmp_path / "store")


def slices_of(store, case):
    return list(range(store.cases[case].shape[0]))


# Sessions


@pytest.fixture
def session(tiny_run, phantom_store, tmp_path):
    """Opens a session of a run in a folder of its own."""
    config, split = RunConfig.read(tiny_run.config), Split.read(tiny_run.split)
    data = data_origin(phantom_store, (*split.train, *split.validation))
    folder = RunFolder(tmp_path / "run")

    def begin():
        return recorded(folder, config, data, None, device=CPU)

    return folder, begin


def test_record_of_a_training(tiny_run, phantom_store):
    record = Provenance.read(tiny_run)
    split = Split.read(tiny_run.split)
    assert record.data == data_origin(phantom_store, [*split.train, *split.validation])
    assert record.weights is None
    assert record.seeds == {"training": 0, "split": 12345, "training_cases": 0}
    (only,) = record.sessions
    assert only.outcome == "finished" and only.ended is not None
    assert datetime.fromisoformat(only.started) <= datetime.fromisoformat(only.ended)
    assert only.environment.version == inflate3d.__version__
    assert (only.environment.device, only.environment.driver) == ("cpu", None)
    assert only.environment.versions["torch"] == torch.__version__
    assert record.model_sha256 == file_sha256(tiny_run.model / "model.safetensors")


def test_each_session_is_recorded_with_how_it_ended(session):
    folder, begin = session
    with pytest.raises(Interrupted), begin():
        assert Provenance.read(folder).sessions[-1].outcome == "running"
        raise Interrupted
    with pytest.raises(ZeroDivisionError), begin():
        raise ZeroDivisionError
    with begin():
        folder.model.mkdir()
        (folder.model / "model.safetensors").write_bytes(b"weights")
    record = Provenance.read(folder)
    assert [each.outcome for each in record.sessions] == ["stopped", "failed", "finished"]
    assert record.model_sha256 == hashlib.sha256(b"weights").hexdigest()


def test_a_run_is_not_resumed_with_other_data(session):
    folder, begin = session
    with pytest.raises(Interrupted), begin():
        raise Interrupted
    record = Provenance.read(folder)
    case = min(record.data.cases)
    data = record.data.model_copy(update={"cases": {**record.data.cases, case: "0" * 64}})
    record.model_copy(update={"data": data}).write(folder)
    with pytest.raises(DataError) as caught, begin():
        raise AssertionError("nothing is trained")
    assert caught.value.case == case
    assert len(Provenance.read(folder).sessions) == 1


def test_a_missing_or_damaged_record_is_refused(tmp_path):
    folder = RunFolder(tmp_path)
    with pytest.raises(ConfigError) as caught:
        Provenance.read(folder)
    assert caught.value.file == str(folder.provenance)
    folder.provenance.write_text('{"version": 1}')
    with pytest.raises(ConfigError):
        Provenance.read(folder)


def test_command_lines_of_ours_and_of_others():
    package = Path(inflate3d.__file__).parent
    home = str(Path.home())
    assert command_line(["/usr/bin/inflate3d", "train", f"{home}/data", "--seed", "1"]) == (
        "inflate3d", "train", "~/data" if len(home) > 1 else f"{home}/data", "--seed", "1",
    )  # fmt: skip
    assert command_line([str(package / "__main__.py"), "train"]) == ("python", "-m", "inflate3d", "train")
    worker = str(package / "comparison" / "worker.py")
    assert command_line([worker, "run"]) == ("python", "-m", "inflate3d.comparison.worker", "run")
    assert command_line(["/home/x/mine.py", "--token", "secret"]) == ("mine.py",)
    assert command_line([""]) == ("python",)


# Data


def test_digests_do_not_depend_on_how_slices_are_read(phantom_store, monkeypatch):
    case = min(phantom_store.cases)
    digest = data_origin(phantom_store, [case])
    monkeypatch.setattr(provenance, "SLICES_AT_ONCE", 3)
    assert data_origin(phantom_store, [case]) == digest
    assert len(set(data_origin(phantom_store, phantom_store.cases).cases.values())) == len(phantom_store.cases)


@pytest.mark.slow
def test_preparing_again_gives_the_same_digests(phantoms, phantom_store, tmp_path):
    again = prepare(phantoms, tmp_path / "again", workers=2)
    assert data_origin(again, again.cases) == data_origin(phantom_store, phantom_store.cases)


def test_other_compression_gives_the_same_digest(own_store):
    case = min(own_store.cases)
    path, before = case_file(own_store.folder, case, "image"), data_origin(own_store, [case])
    old = path.read_bytes()
    write_slices(path, own_store.image_slices(case, slices_of(own_store, case)), "label")
    assert path.read_bytes() != old
    assert data_origin(own_store, [case]) == before


@pytest.mark.parametrize("kind", ["image", "label"])
def test_one_changed_voxel_is_reported_with_its_case(own_store, kind):
    before = data_origin(own_store, own_store.cases)
    case = sorted(own_store.cases)[1]
    read = own_store.image_slices if kind == "image" else own_store.label_slices
    array = np.array(read(case, slices_of(own_store, case)))
    array[..., 5, 7, 9] += 1
    write_slices(case_file(own_store.folder, case, kind), array, kind)
    now = data_origin(own_store, own_store.cases)
    with pytest.raises(DataError) as caught:
        before.check_same(now)
    assert caught.value.case == case
    assert f"1 of 5 cases differ: {case}" in str(caught.value.got)
    assert before.sha256 in str(caught.value.expected)
    before.check_same(before)


def test_a_changed_value_range_changes_the_digest(own_store):
    case = min(own_store.cases)
    before = data_origin(own_store, [case])
    own_store.cases[case] = own_store.cases[case].model_copy(update={"ranges": ((0.0, 1.0),)})
    assert data_origin(own_store, [case]) != before


def test_a_damaged_case_and_a_missing_one(own_store):
    case = min(own_store.cases)
    path = case_file(own_store.folder, case, "image")
    path.write_bytes(path.read_bytes()[:2000])
    for name in (case, "nobody"):
        with pytest.raises(DataError) as caught:
            data_origin(own_store, [name])
        assert caught.value.case == name


def test_spacing_and_shape_of_the_cases(phantom_store):
    case = min(phantom_store.cases)
    origin = data_origin(phantom_store, [case])
    measured = next(each for each in phantom_store.fingerprint.cases if each.case == case)
    assert origin.spacing.minimum == origin.spacing.median == origin.spacing.maximum == measured.spacing
    assert origin.shape.median == measured.shape


# Environment


def test_commit_of_a_checkout_with_and_without_changes(tmp_path, monkeypatch):
    package = tmp_path / "src" / "inflate3d"
    package.mkdir(parents=True)
    (package / "code.py").write_text("1\n")
    monkeypatch.setattr(environment, "_PACKAGE", package)
    assert this_environment(CPU).modified is None  # no checkout

    def git(*words):
        names = ["-c", "user.name=x", "-c", "user.email=x@x"]
        done = subprocess.run(["git", "-C", tmp_path, *names, *words], capture_output=True, text=True, check=True)
        return done.stdout.strip()

    git("init", "-q")
    git("add", ".")
    git("commit", "-qm", "one")
    found = this_environment(CPU)
    assert (found.commit, found.modified) == (git("rev-parse", "HEAD"), False)
    (package / "code.py").write_text("2\n")
    assert this_environment(CPU).modified is True
    monkeypatch.setenv("PATH", str(tmp_path))  # without git
    assert (this_environment(CPU).commit, this_environment(CPU).modified) == (None, None)


def test_a_package_installed_within_another_checkout_has_not_its_commit(tmp_path, monkeypatch):
    package = tmp_path / ".venv" / "lib" / "site-packages" / "inflate3d"
    package.mkdir(parents=True)
    subprocess.run(["git", "init", "-q", tmp_path], check=True)
    monkeypatch.setattr(environment, "_PACKAGE", package)
    assert this_environment(CPU).modified is None


def test_differences_of_environments(tiny_run):
    own = Provenance.read(tiny_run).sessions[0].environment.model_copy(update={"modified": False})
    assert own.differences(own) == []
    versions = {**own.versions, "torch": "1.0", "cuda": "9"}
    changes = {"processor": "Z80", "threads": 64, "versions": versions, "commit": "c0ffee", "modified": True}
    found = own.model_copy(update=changes).differences(own)
    assert [line.partition(", then")[0] for line in found] == [
        "commit c0ffee",
        "uncommitted changes True",
        "processor Z80",
        "threads 64",
        "cuda 9",
        "torch 1.0",
    ]
    on_gpus = [own.model_copy(update={"device": "H100", "threads": threads}) for threads in (1, 2)]
    assert on_gpus[0].differences(on_gpus[1]) == []
    other_kernel = own.model_copy(update={"system": own.system.replace(" ", " 9.9 ", 1)})
    assert own.differences(other_kernel) == []


# 2D weights


def test_random_weights_and_3d_networks_have_no_origin():
    assert weights_origin(InflatedConfig(weights="none")) is None
    assert weights_origin(VolumetricConfig(network="unetr")) is None


def test_origin_of_a_file_is_its_name_and_checksum(tmp_path):
    path = tmp_path / "own.safetensors"
    path.write_bytes(b"weights")
    found = weights_origin(InflatedConfig(weights=str(path)))
    assert found is not None
    assert (found.source, found.file, found.license) == ("file own.safetensors", "own.safetensors", "not known")
    assert found.sha256 == hashlib.sha256(b"weights").hexdigest()
    assert str(tmp_path) not in found.model_dump_json()


def test_a_published_file_is_recognized_by_its_checksum(tmp_path, monkeypatch):
    published = origin_module.PUBLISHED["mobile_sam"]
    monkeypatch.setattr(origin_module, "file_sha256", lambda path: published.sha256)
    found = weights_origin(InflatedConfig(weights=str(tmp_path / "renamed.pth")))
    assert found is not None
    assert (found.file, found.license, found.page) == (published.file, "Apache-2.0", published.source)


def test_timms_weights_have_their_hub_id_license_and_checksum(tmp_path, monkeypatch):
    path = tmp_path / "model.safetensors"
    path.write_bytes(b"timm")
    monkeypatch.setattr("huggingface_hub.try_to_load_from_cache", lambda repository, name: str(path))
    found = weights_origin(InflatedConfig(encoder="resnet10t"))
    assert found is not None and found.hub_id is not None
    assert found.hub_id.startswith("timm/resnet10t.")
    assert (found.license, found.page) == ("apache-2.0", f"https://huggingface.co/{found.hub_id}")
    assert found.sha256 == hashlib.sha256(b"timm").hexdigest()
    monkeypatch.setattr("huggingface_hub.try_to_load_from_cache", lambda repository, name: None)
    uncached = weights_origin(InflatedConfig(encoder="resnet10t"))
    assert uncached is not None and uncached.sha256 is None
    found.check_same(uncached)
    found.check_same(None)


def test_changed_weights_are_refused(tmp_path):
    path = tmp_path / "own.safetensors"
    path.write_bytes(b"weights")
    config = InflatedConfig(weights=str(path))
    before = weights_origin(config)
    assert before is not None
    path.write_bytes(b"weightz")
    with pytest.raises(ModelError) as caught:
        before.check_same(weights_origin(config))
    assert hashlib.sha256(b"weights").hexdigest() in str(caught.value.expected)
    assert caught.value.got == hashlib.sha256(b"weightz").hexdigest()
    with pytest.raises(ModelError):
        weights_origin(InflatedConfig(weights=str(tmp_path / "gone.pth")))
