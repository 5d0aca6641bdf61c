"""What is validated in a training is what is predicted and kept by it."""

import csv
import json
import shutil

import pytest
import torch

from inflate3d.config import DataConfig, RunConfig, TrainingConfig, VolumetricConfig
from inflate3d.errors import ConfigError, ModelError
from inflate3d.inference.runs import evaluate_run
from inflate3d.models.segmenter import load_model
from inflate3d.preparation.prepare import prepare
from inflate3d.run_folder import RunFolder
from inflate3d.training.run import train
from inflate3d.training.samples import choose_watched
from inflate3d.training.task import SegmentationTask


def dice_of(folder):
    """Of the validations, each class and their mean by name."""
    with folder.metrics.open(newline="", encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if row["dice"]]
    return [{name: float(cell) for name, cell in row.items() if name.startswith("dice")} for row in rows]


def evaluated(folder):
    """The same of the held-out cases, by the evaluation."""
    scores = evaluate_run(folder, device="cpu")
    means = zip(scores.classes, scores.class_means(), strict=True)
    per_case = scores.case_means()
    return {**{f"dice/{name}": mean for name, mean in means}, "dice": sum(per_case) / len(per_case)}


@pytest.mark.slow
def test_last_validation_of_an_inflated_network_is_its_evaluation(tiny_run, tmp_path):
    folder = RunFolder(shutil.copytree(tiny_run.root, tmp_path / "run"))
    assert dice_of(folder)[-1] == pytest.approx(evaluated(folder), rel=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("spacing", [None, (1.7, 1.4)])
def test_last_validation_of_a_3d_network_is_its_evaluation(write_toys, tmp_path, spacing):
    toys = write_toys(tmp_path / "toys")
    store = prepare(toys, tmp_path / "store", workers=1)
    if spacing:
        store.plan.model_copy(update={"pixel_spacing": spacing}).write(store.folder / "plan.json")
        del store.plan
    config = RunConfig(
        dataset=toys.root,
        store=store.folder,
        data=DataConfig(num_folds=2),
        model=VolumetricConfig(network="dynunet", patch_size=(4, 16, 16), network_width=2),
        training=TrainingConfig(steps=3, batch_size=2, validate_every=2, accelerator="cpu", workers=0),
    )
    folder = RunFolder(tmp_path / "run")
    train(config, folder, store)
    first, last = dice_of(folder)  # the last step is validated, though 3 is no multiple of 2
    assert last == pytest.approx(evaluated(folder), rel=1e-5)
    assert first != last


PATIENTS = {f"p{patient}_{phase}": f"p{patient}" for patient in range(6) for phase in ("ed", "es")}


@pytest.mark.parametrize(
    ("most", "watched"),
    [
        (1, ["p0_ed"]),
        (3, ["p0_ed", "p2_es", "p5_ed"]),
        (6, ["p0_ed", "p1_es", "p2_ed", "p3_es", "p4_ed", "p5_es"]),
        (7, ["p0_ed", "p0_es", "p1_es", "p2_ed", "p3_es", "p4_ed", "p5_es"]),
        (99, list(PATIENTS)),
        (None, list(PATIENTS)),
    ],
)
def test_no_patient_is_watched_twice_while_others_remain(most, watched):
    assert choose_watched(tuple(PATIENTS), PATIENTS, most) == tuple(watched)


def test_watched_cases_without_groups_are_spread_evenly():
    names = tuple("abcdefghi")
    assert choose_watched(names, dict.fromkeys(names), 3) == ("a", "e", "i")


@pytest.fixture
def with_test_part(tiny_config, phantom_store, tmp_path):
    """A configuration that keeps the best weights, by a split with a test case."""
    names = list(phantom_store.cases)
    split = tmp_path / "split.json"
    split.write_text(json.dumps({"train": names[:3], "validation": names[3:4], "test": names[4:]}))
    training = tiny_config.training.model_copy(update={"keep": "best", "validate_every": 1})
    return tiny_config.model_copy(update={"training": training, "data": DataConfig(split=str(split))})


@pytest.mark.slow
def test_best_weights_are_kept_where_other_cases_are_scored(with_test_part, phantom_store, tmp_path, monkeypatch):
    """The first of two validations is made the better one."""
    real = SegmentationTask.on_validation_epoch_end

    def spoil(self):
        if self.global_step == 2:
            self.case_dice.counts[..., 0] = 0  # nothing matches
        real(self)

    monkeypatch.setattr(SegmentationTask, "on_validation_epoch_end", spoil)
    folder = RunFolder(tmp_path / "run")
    train(with_test_part, folder, phantom_store)
    best, last = (torch.load(path, weights_only=True) for path in (folder.best, folder.last))
    assert (best["global_step"], last["global_step"]) == (1, 2)
    for name, values in load_model(folder.root).state_dict().items():
        assert torch.equal(values, best["state_dict"][f"model.{name}"]), name

    folder.best.write_bytes(b"not a file" * 99)
    shutil.rmtree(folder.model)
    with pytest.raises(ModelError) as caught:
        train(with_test_part, folder, phantom_store, resume=True)
    assert caught.value.file == str(folder.best)


def test_best_weights_are_refused_where_they_would_be_scored_by_the_cases_that_chose_them(
    with_test_part, tiny_config, phantom_store, tmp_path
):
    config = with_test_part.model_copy(update={"data": tiny_config.data})
    with pytest.raises(ConfigError) as caught:
        train(config, RunFolder(tmp_path / "run"), phantom_store)
    assert "--keep" in str(caught.value.hint)
    assert not (tmp_path / "run").exists()
