"""What a run's record holds, and that a run is gone on with only by what it was begun with."""

from datetime import datetime
from pathlib import Path

import pytest
import torch

import inflate3d
from inflate3d.config import RunConfig
from inflate3d.datasets.splits import Split
from inflate3d.errors import ConfigError, DataError
from inflate3d.models.download import sha256_of
from inflate3d.provenance.data import DataOrigin
from inflate3d.provenance.record import Provenance, command_line, record_path, recorded
from inflate3d.run_folder import RunFolder

CPU = torch.device("cpu")


class Stop(Exception):  # noqa: N818 - as in the training, not an error
    """Stands for the user's wish to stop."""


@pytest.fixture
def session(tiny_run, phantom_store, tmp_path):
    """Opens a session of a run in a folder of its own."""
    config, split = RunConfig.read(tiny_run.config), Split.read(tiny_run.split)
    folder = RunFolder(tmp_path / "run")

    def begin():
        return recorded(folder, config, phantom_store, split, device=CPU, stop=Stop)

    return folder, begin


def test_record_of_a_training(tiny_run, phantom_store):
    record = Provenance.read(tiny_run)
    split = Split.read(tiny_run.split)
    assert sorted(record.data.cases) == sorted(split.train + split.validation)
    assert record.seeds == {"training": 0, "split": 12345, "training_cases": 0}
    assert record.weights is None
    assert record.model_sha256 == sha256_of(tiny_run.model / "model.safetensors")
    [only] = record.sessions
    assert only.outcome == "finished"
    assert only.ended is not None
    assert datetime.fromisoformat(only.started) <= datetime.fromisoformat(only.ended)
    assert datetime.fromisoformat(only.started).utcoffset() is not None
    assert only.code.version == inflate3d.__version__
    assert (only.machine.device, only.machine.driver) == ("cpu", None)
    assert only.machine.threads == torch.get_num_threads()
    assert only.machine.versions["torch"] == torch.__version__
    assert {"python", "timm", "monai", "pytorch-lightning", "numpy"} <= only.machine.versions.keys()


def test_record_names_neither_the_machine_nor_its_user(tiny_run):
    import getpass
    import platform

    text = record_path(tiny_run).read_text(encoding="utf-8")
    for secret in (platform.node(), str(Path.home()), str(tiny_run.root)):
        assert secret not in text
    user = getpass.getuser()
    assert f'"{user}"' not in text and f"/{user}/" not in text


def test_sessions_follow_each_other(session):
    folder, begin = session
    with pytest.raises(Stop), begin():
        [running] = Provenance.read(folder).sessions
        assert (running.outcome, running.ended) == ("running", None)
        raise Stop
    with pytest.raises(ZeroDivisionError), begin():
        raise ZeroDivisionError
    folder.model.mkdir(parents=True)
    (folder.model / "model.safetensors").write_bytes(b"model")
    with begin():
        pass
    record = Provenance.read(folder)
    assert [each.outcome for each in record.sessions] == ["stopped", "failed", "finished"]
    assert record.model_sha256 == sha256_of(folder.model / "model.safetensors")


def test_a_run_is_not_gone_on_with_on_other_cases(session):
    folder, begin = session
    with pytest.raises(Stop), begin():
        raise Stop
    record = Provenance.read(folder)
    case = min(record.data.cases)
    data = DataOrigin(**{**dict(record.data), "cases": {**record.data.cases, case: "0" * 64}})
    record.model_copy(update={"data": data}).write(folder)
    with pytest.raises(DataError, match="not those that the run learned from") as caught, begin():
        raise AssertionError("nothing is trained")
    assert caught.value.case == case
    assert len(Provenance.read(folder).sessions) == 1


def test_a_damaged_record_is_refused(tmp_path):
    folder = RunFolder(tmp_path)
    with pytest.raises(ConfigError, match="can't be read"):
        Provenance.read(folder)
    record_path(folder).write_text('{"version": 1}')
    with pytest.raises(ConfigError, match="not usable"):
        Provenance.read(folder)


def test_command_lines_that_are_ours_and_those_that_are_not():
    package = Path(inflate3d.__file__).parent
    home = str(Path.home())
    assert command_line(["/usr/bin/inflate3d", "train", f"{home}/data", "--seed", "1"]) == (
        "inflate3d", "train", "~/data" if len(home) > 1 else f"{home}/data", "--seed", "1",
    )  # fmt: skip
    assert command_line([str(package / "__main__.py"), "train"]) == ("python", "-m", "inflate3d", "train")
    trial = str(package / "comparison" / "trial.py")
    assert command_line([trial, "run"]) == ("python", "-m", "inflate3d.comparison.trial", "run")
    assert command_line(["/home/x/mine.py", "--token", "secret"]) == ("mine.py",)
    assert command_line([""]) == ("python",)
