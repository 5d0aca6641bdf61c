"""Learning from unlabeled scans: agreement by hand, what counts as a rise, what is refused, and the command."""

import json
import shutil

import numpy as np
import pytest

from inflate3d.annotation.pseudo_labels import UnlabeledFolder, agreed, compare, find_unlabeled
from inflate3d.cli import main
from inflate3d.config import RunConfig
from inflate3d.datasets import Split, read_dataset
from inflate3d.errors import ConfigError, DataError
from inflate3d.evaluation.scores import Scores
from inflate3d.io import read_labels
from inflate3d.run_folder import FoldsFolder


def test_voxels_on_which_one_network_disagrees_are_ignored():
    maps = [np.array([[[0, 2, 2, 5, 0]]], np.uint8), np.array([[[0, 2, 5, 5, 0]]], np.uint8)]
    third = np.array([[[0, 2, 2, 5, 2]]], np.uint8)
    assert agreed([*maps, third], 255).tolist() == [[[0, 2, 255, 5, 255]]]
    assert agreed(maps[:1], 700).dtype == np.uint16


def scores(values):
    return Scores(tuple(f"c{number}" for number in range(len(values))), ("liver",), {"dice": np.array(values)[:, None]})


@pytest.mark.parametrize(("rises", "p", "kept"), [(5, 1 / 32, True), (4, 4 / 32, False), (0, 1, False)])
def test_a_rise_counts_if_chance_seldom_makes_it(rises, p, kept):
    before = [0.5, 0.6, 0.7, 0.8, 0.9]
    change = [0.04, 0.02, 0.05, 0.03, 0.01 * (2 * (rises == 5) - 1) * 3]
    after = [value + (step if rises else -abs(step)) for value, step in zip(before, change, strict=True)]
    gain = compare(scores(before), scores(after), scans=3)
    assert gain.p == pytest.approx(p, abs=1 / 32) and gain.kept is kept
    assert gain.difference.value == pytest.approx(np.mean(after) - np.mean(before))
    assert gain.patients == 5


def test_what_can_not_be_judged_is_refused_before_anything_is_trained(write_toys, tmp_path, capsys):
    dataset = write_toys(tmp_path / "data", 6)
    with pytest.raises(DataError, match="no unlabeled scan"):
        find_unlabeled(tmp_path / "data/imagesTr", dataset)
    (tmp_path / "new").mkdir()
    shutil.copy(dataset.cases[0].scan, tmp_path / "new/other.nii.gz")
    assert [case.id for case in find_unlabeled(tmp_path / "new", dataset)] == ["other"]
    few = write_toys(tmp_path / "few", 4)
    with pytest.raises(ConfigError, match="too few labeled cases"):
        find_unlabeled(tmp_path / "new", few)
    words = ["train", str(dataset.root), "--unlabeled", str(tmp_path / "new"), "--run", str(tmp_path / "run"), "--json"]
    assert main(words) == 2
    assert json.loads(capsys.readouterr().out)["error"]["expected"] == "--folds all"
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_folds_learn_from_what_they_agree_on_and_the_better_ones_are_named(write_toys, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_toys(tmp_path / "all", 9)
    dataset = write_toys(tmp_path / "data", 6)
    for number in (6, 7, 8):
        (tmp_path / "new").mkdir(exist_ok=True)
        shutil.copy(tmp_path / f"all/imagesTr/toy{number}.nii.gz", tmp_path / "new")
    words = [
        *("train", "data", "--folds", "all", "--run", "run", "--unlabeled", "new", "--encoder", "resnet10t"),
        *("--weights", "none", "--decoder-channels", "8", "--detail-channels", "4", "--image-size", "32", "32"),
        *("--steps", "12", "--batch-size", "4", "--accumulate", "1", "--workers", "0", "--accelerator", "cpu"),
        *("--validation-cases", "1", "--validate-every", "12", "--depth", "1", "--json"),
    ]
    monkeypatch.setattr("inflate3d.cli.train.write_page", lambda folder: folder.report)
    assert main(words) == 0
    said = json.loads(capsys.readouterr().out)
    folds, found = FoldsFolder(tmp_path / "run"), UnlabeledFolder.of(FoldsFolder(tmp_path / "run"))
    gain = json.loads(found.result.read_text(encoding="utf-8"))
    assert said["better"] == str((found.folds if gain["kept"] else folds).root.relative_to(tmp_path))
    assert len(folds.runs) == len(found.folds.runs) == 5
    before, after = (Split.read(each.fold(2).split) for each in (folds, found.folds))
    assert after.held_out == before.held_out
    new = set(after.train) - set(before.train)
    assert new <= {"toy6", "toy7", "toy8"} and len(new) == gain["scans"] > 0
    learned = read_dataset(RunConfig.read(found.folds.fold(2).config).dataset)
    label = learned.case(min(new)).label
    assert label is not None
    values = np.unique(read_labels(label).array)
    assert learned.ignore == 255 and set(values.tolist()) <= {0, 2, 5, 255}
    assert dataset.ignore is None
    stamp = found.folds.fold(0).model.stat().st_mtime_ns
    assert main([*words, "--resume"]) == 0
    assert found.folds.fold(0).model.stat().st_mtime_ns == stamp
    shutil.copy(dataset.cases[0].scan, tmp_path / "new/one-more.nii.gz")
    assert main([*words, "--resume"]) == 2
