"""A Ray cluster on this machine, some of whose workers are killed."""

import os
import signal
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import nibabel
import numpy as np
import pytest

from inflate3d.datasets.case import Case
from inflate3d.distributed import ray_cluster as engine_module
from inflate3d.distributed.ray_cluster import LostError, ray_cluster
from inflate3d.errors import ConfigError, DataError, DatasetProblems
from inflate3d.inference.batch import PredictorRecipe, predict_files
from inflate3d.inference.prediction import Prediction
from inflate3d.inference.predictor import Predictor
from inflate3d.inference.scan_result import ScanResult
from inflate3d.preparation.prepare import prepare

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def cluster():
    with ray_cluster(cores=2) as engine:
        yield engine


@pytest.fixture
def die_once(tmp_path):
    """Makes a function that kills its process when it is first called, whichever process that is."""

    def die_once():
        try:
            (tmp_path / "died").touch(exist_ok=False)
        except FileExistsError:
            return
        os.kill(os.getpid(), signal.SIGKILL)

    return die_once


def contents(folder):
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("address", ["127.0.0.1:1", "ray://127.0.0.1:1", "127.0.0.1:99999"])
def test_cluster_that_is_not_there(address):  # before there is one
    with pytest.raises(ConfigError, match="Ray cluster can't be reached"), ray_cluster(address):
        pass


def test_item_whose_worker_is_killed_is_done_by_another(cluster, tmp_path, die_once):
    def work(number):
        if number == 3:
            die_once()
        with (tmp_path / "done").open("a") as log:
            log.write(f"{number}\n")
        return number**2

    assert list(cluster(work, range(12))) == [number**2 for number in range(12)]
    assert (tmp_path / "died").exists()
    assert Counter((tmp_path / "done").read_text(encoding="utf-8").split()) == {str(number): 1 for number in range(12)}


def test_item_that_kills_every_worker_is_lost_alone(cluster, monkeypatch):
    monkeypatch.setattr(engine_module, "TRIES", 2)

    def work(number):
        if number == 1:
            os.kill(os.getpid(), signal.SIGKILL)
        return number

    first, lost, last = cluster(work, range(3))
    assert (first, last) == (0, 2)
    assert isinstance(lost, LostError)
    assert str(lost.got).startswith("2 times")


def test_error_of_ours_comes_back_as_it_was(cluster):
    def work(number):
        raise DataError("scan has fewer slices than the window", case=f"case {number}")

    with pytest.raises(DataError, match="fewer slices") as caught:
        list(cluster(work, [7]))
    assert type(caught.value) is DataError
    assert caught.value.case == "case 7"


def test_store_is_that_of_one_process(cluster, tmp_path, write_toys):
    toys = write_toys(tmp_path / "data", cases=3)
    prepare(toys, tmp_path / "spread", engine=cluster)
    prepare(toys, tmp_path / "local", workers=1)
    assert contents(tmp_path / "spread") == contents(tmp_path / "local")


@pytest.fixture
def scans(tmp_path):
    """Six scans, one of them damaged."""
    cases = []
    for number in range(6):
        voxels = np.random.default_rng(number).integers(-200, 400, (20, 24, 6)).astype(np.int16)
        path = tmp_path / "scans" / f"scan{number}.nii.gz"
        path.parent.mkdir(exist_ok=True)
        nibabel.Nifti1Image(voxels, np.diag([1, 1, 3, 1])).to_filename(path)
        cases.append(Case(path.name.partition(".")[0], (path,), label=None))
    cases[4].scan.write_bytes(b"damaged")
    return cases


@pytest.fixture
def thresholds(tmp_path, phantom_store):
    """How a network's stand-in is loaded: what it predicts is logged, and before one scan it may be killed."""

    class Thresholds(Predictor):
        plan = phantom_store.plan  # type: ignore[assignment]

        def __init__(self, deadly):
            self.deadly = deadly

        def predict(self, volume, **asked):
            if volume.array[0, 0, 0, 0] == 302:  # scan 2
                self.deadly()
            with (tmp_path / "predicted").open("a") as log:
                log.write(f"{volume.array.sum()}\n")
            return Prediction((volume.array[0] > 0).astype(np.uint8), volume.affine)

    @dataclass(frozen=True)
    class Recipe(PredictorRecipe):
        deadly: Callable[[], None] = print

        def load(self):
            return Thresholds(self.deadly)

        def __hash__(self):
            return 0

    return lambda deadly: Recipe(Path(), deadly=deadly)


def test_nothing_is_lost_and_nothing_done_twice(cluster, tmp_path, scans, thresholds, die_once):
    voxels = nibabel.Nifti1Image.load(scans[2].scan)
    assert np.asarray(voxels.dataobj)[0, 0, 0] == 302
    results: list[ScanResult] = []
    with pytest.raises(DatasetProblems) as spread:
        predict_files(thresholds(die_once), scans, tmp_path / "spread", engine=cluster, report=results.append)
    done = [result for result in results if result.state == "done"]
    assert (tmp_path / "died").exists()
    predicted = (tmp_path / "predicted").read_text(encoding="utf-8").split()
    assert len(predicted) == len(set(predicted)) == len(done) == 5
    with pytest.raises(DatasetProblems) as local:
        predict_files(thresholds(lambda: None), scans, tmp_path / "local")
    assert contents(tmp_path / "spread") == contents(tmp_path / "local")
    assert [scan.case for scan in done] == ["scan0", "scan1", "scan2", "scan3", "scan5"]
    assert [one.to_dict() for one in spread.value.problems] == [one.to_dict() for one in local.value.problems]
