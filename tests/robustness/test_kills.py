"""``kill -9`` at random moments, then the same command again until it ends: nothing is lost, and nothing is left over.

Half of the moments are times, half are places: right before the command opens, renames, makes or removes a file in its
folder. The default series has four kills for each of six commands; 120 in all are given by
``pytest -m long tests/robustness``.
"""

import csv
import json
import random
import shutil
from collections.abc import Callable
from pathlib import Path

import nibabel
import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from inflate3d.evaluation.scores import Scores
from inflate3d.run_folder import RunFolder

pytestmark = pytest.mark.slow

MOST_RUNS = 4
"""For each kill: a command that ends before its moment is not killed."""


def read_whole(path: Path) -> object:
    """What a file holds; whatever is half written can't be read."""
    name = path.name
    if name.endswith(".json"):
        return json.loads(path.read_bytes())
    if name.endswith(".safetensors"):
        return {key: tensor.numpy().tobytes() for key, tensor in load_file(path).items()}
    if name.endswith(".ckpt"):
        return torch.load(path, weights_only=True)["global_step"]
    if name.endswith(".nii.gz"):
        image = nibabel.Nifti1Image.from_filename(path)
        return np.asanyarray(image.dataobj).tobytes(), np.asarray(image.affine).tobytes()
    if name.endswith(".csv"):
        rows = list(csv.DictReader(path.read_text(encoding="utf-8").splitlines()))
        assert all(None not in row.values() and None not in row for row in rows), path
        return [{key: cell for key, cell in row.items() if key not in ("seconds", "data_time")} for row in rows]
    if name.endswith((".html", ".svg")):
        assert path.read_text(encoding="utf-8").rstrip().endswith((f"</{name.rpartition('.')[2]}>",)), path
    return None


def names_in(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def visible_in(folder: Path) -> set[str]:
    """Files under their final names; those under hidden names were on their way there."""
    return {name for name in names_in(folder) if not any(part.startswith(".") for part in name.split("/"))}


def check_whole(folder: Path) -> None:
    for name in visible_in(folder):
        read_whole(folder / name)


class Series:
    """Kills a command again and again, then lets it end.

    Args:
        zygote: What runs it.
        words: The command, given its folder.
        seed: Of the moments.
    """

    def __init__(self, zygote, words: Callable[[Path], list[object]], seed: int) -> None:
        self.zygote, self.words = zygote, words
        self.random = random.Random(seed)

    def run(self, undisturbed: Path, disturbed: Path, kills: int, *, start: Path | None = None) -> None:
        """Both folders are what the same command has written; the other was killed so many times.

        Args:
            undisturbed: Written by one command.
            disturbed: Likewise.
            kills: How often.
            start: What lies in the folder before the command is given.
        """
        if start is not None:
            shutil.copytree(start, undisturbed)
            shutil.copytree(start, disturbed)
        straight = self.zygote.run(*self.words(undisturbed), folder=undisturbed)
        assert straight.code == 0, straight.said
        killed = 0
        for number in range(MOST_RUNS * kills):
            place, time = self.random.randint(1, straight.touches), self.random.uniform(0, straight.seconds)
            moment = {"seconds": time} if number % 2 else {"touch": place}
            ended = self.zygote.run(*self.words(disturbed), folder=disturbed, **moment)
            assert ended.killed or ended.code == 0, ended.said
            check_whole(disturbed)
            killed += ended.killed
            if killed == kills:
                break
            if not ended.killed and start is None:
                shutil.rmtree(disturbed)  # finished; there is nothing left to be killed at
        assert killed == kills
        last = self.zygote.run(*self.words(disturbed), folder=disturbed)
        assert last.code == 0, last.said
        assert visible_in(disturbed) == visible_in(undisturbed)


@pytest.fixture(params=[4, pytest.param(20, marks=pytest.mark.long)])
def kills(request) -> int:
    return request.param


def test_prepare(zygote, toys, tmp_path, kills):
    def words(store):
        return ["prepare", toys.root, "--store", store, "--jobs", 1, "--spacing", "median"]

    Series(zygote, words, seed=1).run(tmp_path / "straight", tmp_path / "killed", kills)
    for name in names_in(tmp_path / "straight"):
        assert (tmp_path / "killed" / name).read_bytes() == (tmp_path / "straight" / name).read_bytes(), name


def same_training(first: RunFolder, second: RunFolder) -> bool:
    """Weights to the bit, the log but for its seconds, the settings."""
    files = ("model/model.safetensors", "metrics.csv", "plan.json", "split.json", "checkpoints/last.ckpt")
    return all(read_whole(first.root / name) == read_whole(second.root / name) for name in files)


def test_train(zygote, train_words, tmp_path, kills):
    def words(run):
        return [*train_words, "--run", run, "--resume"]

    Series(zygote, words, seed=2).run(tmp_path / "straight", tmp_path / "killed", kills)
    assert same_training(RunFolder(tmp_path / "straight"), RunFolder(tmp_path / "killed"))


def test_folds(zygote, train_words, tmp_path, kills):
    def words(root):
        return [*train_words, "--steps", 2, "--folds", 0, 1, "--run", root, "--resume"]

    straight, killed = tmp_path / "straight", tmp_path / "killed"
    Series(zygote, words, seed=6).run(straight, killed, kills)
    for fold in ("fold-0", "fold-1"):
        assert same_training(RunFolder(straight / fold), RunFolder(killed / fold))


def test_predict(zygote, toys, toy_run, tmp_path, kills):
    def words(out):
        return ["predict", toy_run.root, toys.root / "imagesTr", out, "--skip-existing", "--device", "cpu"]

    straight, killed = tmp_path / "straight", tmp_path / "killed"
    Series(zygote, words, seed=3).run(straight, killed, kills)
    label_maps = [name for name in names_in(straight) if name.endswith(".nii.gz")]
    assert len(label_maps) == 5
    for name in label_maps:
        assert read_whole(killed / name) == read_whole(straight / name), name


def same_scores(first: Path, second: Path) -> bool:
    scores = [Scores.read(folder) for folder in (first, second)]
    return scores[0].cases == scores[1].cases and all(
        np.array_equal(scores[0].measured[name], scores[1].measured[name], equal_nan=True)
        for name in scores[0].measured
    )


def test_evaluate(zygote, toy_run, tmp_path, kills):
    straight, killed = tmp_path / "straight", tmp_path / "killed"
    Series(zygote, lambda run: ["evaluate", run], seed=4).run(straight, killed, kills, start=toy_run.root)
    assert same_scores(straight / "evaluation", killed / "evaluation")
    for name in names_in(straight / "predictions"):
        assert read_whole(killed / "predictions" / name) == read_whole(straight / "predictions" / name), name


@pytest.mark.long
def test_compare(zygote, toys, toy_store, network, tmp_path, kills):
    def words(out):
        return ["compare", toys.root, "--store", toy_store, *network, "--steps", 2, "--arms", "depth", "--out", out]

    straight, killed = tmp_path / "straight", tmp_path / "killed"
    Series(zygote, words, seed=5).run(straight, killed, kills)
    runs = [folder.name for folder in straight.iterdir() if folder.is_dir()]
    assert len(runs) > 1
    for run in runs:
        assert same_training(RunFolder(straight / run), RunFolder(killed / run))
        assert same_scores(straight / run / "evaluation", killed / run / "evaluation")
