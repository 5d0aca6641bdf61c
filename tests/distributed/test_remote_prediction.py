"""Predicting scans of a bucket, on several machines, in shards; the summary of many scans."""

import json

import fsspec
import nibabel
import numpy as np
import pytest

from inflate3d.cli import main
from inflate3d.distributed.ray_cluster import LostError
from inflate3d.distributed.remote import RemoteFolder
from inflate3d.errors import ConfigError, DataError, DatasetProblems, OutputError
from inflate3d.inference import batch, targets
from inflate3d.inference.batch import PredictorRecipe, predict_files
from inflate3d.inference.predictor import Predictor
from inflate3d.inference.scans import find_scans


@pytest.fixture(scope="module")
def predictor(tiny_run):
    return Predictor.load(tiny_run.root, device="cpu")


@pytest.fixture
def scans(tmp_path):
    """Three scans on the disk, the second of them damaged."""
    folder = tmp_path / "scans"
    folder.mkdir()
    for number, name in enumerate("abc"):
        voxels = np.random.default_rng(number).integers(-200, 400, (20, 24, 6)).astype(np.int16)
        nibabel.Nifti1Image(voxels, np.diag([1, 1, 3, 1])).to_filename(folder / f"{name}.nii.gz")
    (folder / "b.nii.gz").write_bytes(b"damaged")
    return folder


@pytest.fixture
def bucket(scans):
    """A bucket in memory with the same scans; the address of its folder."""
    system = fsspec.filesystem("memory")
    system.store.clear()
    system.pseudo_dirs[:] = [""]
    system.put(f"{scans}/", "/bucket/scans/", recursive=True)
    system.pipe_file("/bucket/scans/readme.txt", b"")
    yield "memory://bucket"
    system.store.clear()


def read(address):
    return fsspec.filesystem("memory").cat_file(address)


def words(tiny_run, scans, out, *more):
    return ["predict", str(tiny_run.root), str(scans), str(out), "--device", "cpu", "--json", *more]


def one_after_another(work, items):
    yield from map(work, items)


# --- elsewhere -------------------------------------------------------------------------------------------


def test_bucket_to_bucket_is_as_disk_to_disk(tiny_run, scans, bucket, tmp_path, capsys):
    assert main(words(tiny_run, scans, tmp_path / "out")) == 2
    capsys.readouterr()
    assert main(words(tiny_run, f"{bucket}/scans", f"{bucket}/out/")) == 2
    error = json.loads(capsys.readouterr().out)["error"]
    assert error["written"] == [f"{bucket}/out/a.nii.gz", f"{bucket}/out/c.nii.gz"]
    assert [problem["file"] for problem in error["problems"]] == [f"{bucket}/scans/b.nii.gz"]
    system = fsspec.filesystem("memory")
    assert sorted(system.ls("/bucket/out", detail=False)) == [
        f"/bucket/out/{name}" for name in ("a.nii.gz", "c.nii.gz", "summary.json")
    ]
    for name in ("a.nii.gz", "c.nii.gz"):
        assert read(f"{bucket}/out/{name}") == (tmp_path / "out" / name).read_bytes()


def test_one_scan_of_a_bucket_to_the_disk(tiny_run, bucket, tmp_path, capsys):
    assert main(words(tiny_run, f"{bucket}/scans/a.nii.gz", tmp_path / "out")) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["written"] == [str(tmp_path / "out" / "a.nii.gz")]
    assert document["scans"][0]["file"] == document["written"][0]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [".inflate3d", "a.nii.gz"]


def test_no_more_than_three_scans_are_on_the_disk(predictor, bucket, tmp_path, monkeypatch):
    """A scan is downloaded only after the one three places before has been removed: in events, not in time."""
    system = fsspec.filesystem("memory")
    system.rm("/bucket/scans/b.nii.gz")
    for name in "defg":
        system.cp_file("/bucket/scans/a.nii.gz", f"/bucket/scans/{name}.nii.gz")
    events = []
    fetch, release = RemoteFolder.fetch, targets.Job.release
    monkeypatch.setattr(RemoteFolder, "fetch", lambda self, name: events.append(("+", name)) or fetch(self, name))
    monkeypatch.setattr(targets.Job, "release", lambda self: release(self) or events.append(("-", self.case.scan.name)))
    results = predict_files(predictor, f"{bucket}/scans", tmp_path / "out")
    assert len(results) == 6
    held = [sum(1 if sign == "+" else -1 for sign, _ in events[: end + 1]) for end in range(len(events))]
    assert max(held) <= 3  # the one that is read, the one that is predicted, the one that is written
    assert held[-1] == 0
    assert list(RemoteFolder.of(f"{bucket}/scans").local.iterdir()) == []


def test_label_maps_in_a_bucket_are_left_out_if_wanted(tiny_run, bucket, capsys):
    system = fsspec.filesystem("memory")
    system.rm("/bucket/scans/b.nii.gz")
    line = words(tiny_run, f"{bucket}/scans", f"{bucket}/out", "--skip-existing")
    assert main(line) == 0
    capsys.readouterr()
    system.cp_file("/bucket/scans/a.nii.gz", "/bucket/scans/c.nii.gz")  # newer than its label map
    assert main(line) == 2
    assert json.loads(capsys.readouterr().out)["error"]["file"] == f"{bucket}/out/c.nii.gz"
    assert main([*line, "--overwrite"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert (document["skipped"], document["written"]) == (["a"], [f"{bucket}/out/c.nii.gz"])


def test_label_map_that_can_not_be_sent_stops_no_other(predictor, bucket, tmp_path, monkeypatch):
    kind = type(fsspec.filesystem("memory"))  # each thread has one of its own
    real = kind.put_file

    def refuse(self, local, there, **how):
        if there.endswith("a.nii.gz"):
            raise PermissionError("AccessDenied")
        real(self, local, there, **how)

    monkeypatch.setattr(kind, "put_file", refuse)
    with pytest.raises(DatasetProblems) as caught:
        predict_files(predictor, tmp_path / "scans", f"{bucket}/out")
    assert [problem.case for problem in caught.value.problems] == ["a", "b"]
    assert caught.value.problems[0].file == f"{bucket}/out/a.nii.gz"
    assert list(RemoteFolder.of(f"{bucket}/out").local.glob("*.nii.gz")) == []


def test_place_that_can_not_be_written_is_told_before_any_work(tiny_run, bucket, monkeypatch, capsys):
    def refuse(*parts, **how):
        raise PermissionError("AccessDenied")

    monkeypatch.setattr(fsspec.filesystem("memory"), "put_file", refuse)
    monkeypatch.setattr(Predictor, "predict", lambda *parts, **how: pytest.fail("predicted"))
    assert main(words(tiny_run, f"{bucket}/scans", f"{bucket}/out")) == 2
    assert json.loads(capsys.readouterr().out)["error"]["file"].startswith(f"{bucket}/out/")


def test_scan_is_not_overwritten_in_its_bucket(tiny_run, bucket, capsys):
    before = read(f"{bucket}/scans/a.nii.gz")
    assert main(words(tiny_run, f"{bucket}/scans/a.nii.gz", f"{bucket}/scans")) == 2
    error = json.loads(capsys.readouterr().out)["error"]
    assert (error["what"], error["file"]) == ("label map would overwrite its scan", f"{bucket}/scans/a.nii.gz")
    assert read(f"{bucket}/scans/a.nii.gz") == before


def test_existing_label_maps_in_a_bucket_are_not_replaced(tiny_run, bucket, capsys):
    line = words(tiny_run, f"{bucket}/scans/a.nii.gz", f"{bucket}/out")
    assert main(line) == 0
    capsys.readouterr()
    assert main(line) == 2
    assert json.loads(capsys.readouterr().out)["error"]["file"] == f"{bucket}/out/a.nii.gz"
    assert main([*line, "--overwrite"]) == 0


def test_folder_without_scans(predictor, bucket):
    with pytest.raises(DataError) as caught:
        find_scans(bucket, predictor.plan)
    assert caught.value.file == bucket


@pytest.mark.parametrize("name", ["a.mhd", "a.hdr", "a.img.gz", "a.nhdr"])
def test_scans_of_several_files_are_refused(predictor, name):
    with pytest.raises(DataError) as caught:
        find_scans(f"memory://bucket/{name}", predictor.plan)
    assert caught.value.got == name


def test_web_server_takes_no_label_maps(predictor, scans):
    with pytest.raises(OutputError) as caught:
        predict_files(predictor, scans, "https://host/out")
    assert caught.value.file == "https://host/out"


# --- many machines ---------------------------------------------------------------------------------------


def test_other_machines_take_scans_from_a_bucket_themselves(tiny_run, bucket):
    recipe = PredictorRecipe.of(tiny_run.root, (), {"device": "cpu"})
    with pytest.raises(DatasetProblems) as caught:
        predict_files(recipe, f"{bucket}/scans", f"{bucket}/out", engine=one_after_another)
    (problem,) = caught.value.problems
    assert problem.file == f"{bucket}/scans/b.nii.gz"
    assert caught.value.written == [f"{bucket}/out/a.nii.gz", f"{bucket}/out/c.nii.gz"]
    assert read(f"{bucket}/out/a.nii.gz")


def test_scan_that_was_written_before_its_worker_died_is_not_predicted_again(predictor, scans, tmp_path, monkeypatch):
    (scans / "b.nii.gz").unlink()
    found = find_scans(scans, predictor.plan)
    loads = []
    monkeypatch.setattr(batch, "_load", lambda recipe: loads.append(recipe) or predictor)

    def twice(work, items):  # as if the first try's answer was lost
        for item in items:
            work(item)
            yield work(item)

    recipe = PredictorRecipe(tmp_path)
    for number in (1, 2):  # label maps that existed before count for nothing
        results = predict_files(recipe, found, tmp_path / "out", engine=twice)
        assert [result.state for result in results] == ["done", "done"]
        assert len(loads) == 2 * number


def test_scan_whose_workers_all_died(predictor, scans, tmp_path):
    def losing(work, items):
        yield from (LostError("worker processes died repeatedly") for _ in items)

    found = find_scans(scans, predictor.plan)
    with pytest.raises(DatasetProblems) as caught:
        predict_files(PredictorRecipe(tmp_path), found, tmp_path / "out", engine=losing)
    assert [problem.case for problem in caught.value.problems] == ["a", "b", "c"]


# --- shards and summaries --------------------------------------------------------------------------------


def test_shards_share_the_scans_and_tell_what_became_of_theirs(tiny_run, scans, tmp_path, capsys):
    out = tmp_path / "out"
    assert main(words(tiny_run, scans, out, "--shard", "1/2")) == 0
    assert main(words(tiny_run, scans, out, "--shard", "2/2")) == 2
    assert main(words(tiny_run, scans, out, "--shard", "1/2", "--skip-existing")) == 0
    capsys.readouterr()
    assert sorted(path.name for path in out.iterdir() if path.name != ".inflate3d") == [
        *("a.nii.gz", "c.nii.gz", "summary-1-of-2.json", "summary-2-of-2.json"),
    ]
    first, second = (json.loads((out / f"summary-{number}-of-2.json").read_text(encoding="utf-8")) for number in (1, 2))
    assert first["counts"] == {"done": 0, "skipped": 2, "failed": 0, "not reached": 0}
    assert second["counts"] == {"done": 0, "skipped": 0, "failed": 1, "not reached": 0}
    (failed,) = second["scans"]
    assert (failed["case"], failed["error"]["what"]) == ("b", "the file can't be read")


def test_summary_tells_what_was_not_reached(tiny_run, scans, tmp_path, monkeypatch):
    real, calls = Predictor.predict, iter(range(3))

    def stop(self, volume, **how):
        if next(calls) == 1:
            raise KeyboardInterrupt
        return real(self, volume, **how)

    monkeypatch.setattr(Predictor, "predict", stop)
    assert main(words(tiny_run, scans, tmp_path / "out")) == 130
    summary = json.loads((tmp_path / "out" / "summary.json").read_text(encoding="utf-8"))
    assert [scan["state"] for scan in summary["scans"]] == ["done", "failed", "not reached"]
    assert set(summary["scans"][0]) == {"case", "state", "file", "seconds"}
    assert summary["scans"][0]["file"] == str(tmp_path / "out" / "a.nii.gz")


@pytest.mark.parametrize(
    "error",
    [
        MemoryError("no room"),
        RuntimeError("DefaultCPUAllocator: can't allocate memory: 9 bytes"),
        RuntimeError("could not create a primitive"),
    ],
)
def test_scan_that_memory_is_too_small_for_stops_no_other(predictor, scans, tmp_path, monkeypatch, error):
    real, calls = predictor.predict, iter(range(3))

    def fail(volume, **how):
        if next(calls) == 0:
            raise error
        return real(volume, **how)

    monkeypatch.setattr(predictor, "predict", fail)
    with pytest.raises(DatasetProblems) as caught:
        predict_files(predictor, scans, tmp_path / "out")
    assert [problem.what for problem in caught.value.problems] == [
        "not enough memory to predict the scan",
        "the file can't be read",
    ]
    assert caught.value.written == [tmp_path / "out" / "c.nii.gz"]


def test_mistake_of_ours_is_no_scans_problem(predictor, scans, tmp_path, monkeypatch):

    def fail(volume, **how):
        raise RuntimeError("shapes differ")

    monkeypatch.setattr(predictor, "predict", fail)
    with pytest.raises(RuntimeError, match="shapes differ"):
        predict_files(predictor, scans, tmp_path / "out")


def test_ray_without_its_package(monkeypatch):
    import sys

    from inflate3d.cli.engine_options import EngineOptions

    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ConfigError, match="ray is not installed"), EngineOptions(engine="ray").open():
        pass
