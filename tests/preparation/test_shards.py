"""A store that several processes make, each its share."""

from pathlib import Path

import nibabel
import numpy as np
import pytest

from inflate3d.cli import main
from inflate3d.distributed.ray_cluster import LostError
from inflate3d.distributed.shard import Shard
from inflate3d.errors import DatasetProblems, OutputError
from inflate3d.preparation.plan_options import PlanOptions
from inflate3d.preparation.prepare import prepare, prepare_shard
from inflate3d.preparation.staging import open_staging
from inflate3d.preparation.store import Store


def contents(folder):
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def damage(case):
    """Makes a case one that can't be used, in such a way that it can be mended."""
    whole = case.scan.read_bytes()
    nibabel.Nifti1Image(np.full((20, 24, 7), np.nan, np.float32), np.eye(4)).to_filename(case.scan)
    return lambda: case.scan.write_bytes(whole)


@pytest.mark.parametrize("depth_axis", [None, "coronal"])
def test_shards_make_the_store_that_one_process_makes(tmp_path, write_toys, read, depth_axis):
    toys, store = write_toys(tmp_path / "data"), tmp_path / "store"
    options = PlanOptions(depth_axis=depth_axis)
    done = [prepare_shard(toys, store, Shard(number, 3), workers=1, options=options) for number in (3, 1, 2)]
    assert done == [["toy2"], ["toy0", "toy3"], ["toy1", "toy4"]]
    assert sorted(read) == [case.id for case in toys.cases]
    read.clear()
    prepare(toys, store, workers=1, options=options)
    assert read == []
    prepare(toys, tmp_path / "whole", workers=1, options=options)
    assert contents(store) == contents(tmp_path / "whole")


def test_what_a_shard_left_out_is_done_at_the_end(tmp_path, write_toys, read):
    toys, store = write_toys(tmp_path / "data"), tmp_path / "store"
    prepare_shard(toys, store, Shard(1, 2), workers=1)
    read.clear()
    prepare_shard(toys, store, Shard(1, 2), workers=1)
    assert read == []
    prepare(toys, store, workers=1)
    assert read == ["toy1", "toy3"]


def test_bad_case_costs_no_other_case_and_no_other_shard(tmp_path, write_toys, read):
    toys, store = write_toys(tmp_path / "data"), tmp_path / "store"
    mend = damage(toys.cases[2])
    prepare_shard(toys, store, Shard(2, 2), workers=1)
    with pytest.raises(DatasetProblems) as caught:
        prepare_shard(toys, store, Shard(1, 2), workers=1)
    assert {problem.case for problem in caught.value.problems} == {"toy2"}
    with pytest.raises(DatasetProblems):
        prepare(toys, store, workers=1)
    read.clear()
    mend()
    prepare(toys, store, workers=1)
    assert read == ["toy2"]


def test_shards_lock_out_themselves_and_whole_preparations_alone(tmp_path):
    store = tmp_path / "store"
    with open_staging(store, Shard(1, 2)), open_staging(store, Shard(2, 2)):
        with pytest.raises(OutputError, match="another process"), open_staging(store, Shard(1, 2)):
            pass
        with pytest.raises(OutputError, match="another process"), open_staging(store):
            pass
    with open_staging(store), pytest.raises(OutputError, match="another process"), open_staging(store, Shard(1, 2)):
        pass


def test_engine_that_loses_a_case_does_the_others_and_goes_on_next_time(tmp_path, write_toys, read):
    toys, store = write_toys(tmp_path / "data", cases=3), tmp_path / "store"

    def losing(work, items):
        for item in items:
            yield LostError("the processes that worked on it died") if item.id == "toy1" else work(item)

    with pytest.raises(DatasetProblems) as caught:
        prepare(toys, store, engine=losing)
    (problem,) = caught.value.problems
    assert (problem.case, problem.file) == ("toy1", str(toys.cases[1].scan))
    assert read == ["toy0", "toy2"]
    read.clear()
    prepare(toys, store, workers=1)
    assert read == ["toy1"]


def test_shards_of_the_command_line(tmp_path, write_toys, capsys, monkeypatch):
    write_toys(tmp_path / "data", cases=3)
    monkeypatch.chdir(tmp_path)
    words = ["prepare", "data", "--store", "store", "--jobs", "1"]
    for number in (1, 2):
        assert main([*words, "--shard", f"{number}/2"]) == 0
    assert "shard 2/2: 1 of 3 cases prepared" in capsys.readouterr().out
    assert main(words) == 0
    assert "3 cases of Toys are in store" in capsys.readouterr().out
    assert Store(Path("store")).cases.keys() == {"toy0", "toy1", "toy2"}


def test_dataset_in_a_bucket(capsys):
    assert main(["prepare", "s3://bucket/Task09"]) == 2
    assert "aws s3 sync" in capsys.readouterr().err
