"""A finished and evaluated run that tests may change."""

import shutil

import pytest

from inflate3d.inference.runs import evaluate_run
from inflate3d.run_folder import RunFolder


@pytest.fixture(scope="session")
def evaluated_run(tiny_run, tmp_path_factory) -> RunFolder:
    """A copy of the tiny run, evaluated; not to be changed."""
    folder = RunFolder(tmp_path_factory.mktemp("provenance") / "run")
    shutil.copytree(tiny_run.root, folder.root)
    evaluate_run(folder)
    return folder


@pytest.fixture
def own_run(evaluated_run, tmp_path) -> RunFolder:
    """A copy of it, to be changed."""
    shutil.copytree(evaluated_run.root, tmp_path / "run")
    return RunFolder(tmp_path / "run")
