from pathlib import Path

import numpy as np
import pytest

from inflate3d.comparison.compare import ARM_SETS, Arm, compare
from inflate3d.config import ModelConfig, RunConfig, TrainingConfig
from inflate3d.errors import ConfigError
from inflate3d.evaluation.scores import Scores

BASE = RunConfig(
    dataset=Path("data"), store=Path("store"), model=ModelConfig(encoder="resnet10t"), training=TrainingConfig(seed=3)
)


class RunArm:
    """Scores an arm by its depth, and keeps what it was asked for."""

    def __init__(self):
        self.asked = []

    def __call__(self, config, folder):
        self.asked.append((folder.root.name, config))
        scores = Scores(("a",), ("liver",), np.array([[config.model.depth / 10]]), np.array([0.5]))
        config.write(folder.config)
        scores.write(folder.evaluation)
        return scores


@pytest.fixture
def run_arm():
    return RunArm()


def differing(first, second):
    first, second = first.model_dump(), second.model_dump()
    parts = {part for part in first if first[part] != second[part]}
    assert parts <= {"model"}
    return {key: second["model"][key] for key in first["model"] if first["model"][key] != second["model"][key]}


def test_papers_arms_differ_only_in_what_they_say():
    assert {arm.name: differing(BASE, arm.config(BASE)) for arm in ARM_SETS["paper"]} == {
        "ours": {},
        "without-depth": {"depth": 1},
        "without-transfer": {"weights": "none"},
        "without-both": {"weights": "none", "depth": 1},
    }


def test_twins():
    assert [differing(BASE, arm.config(BASE)) for arm in ARM_SETS["depth"]] == [{}, {"depth": 1}]


@pytest.mark.parametrize("change", [{"depth": 4}, {"nonsense": 1}])
def test_arm_that_can_not_be(change):
    with pytest.raises(ConfigError):
        Arm("bad", change).config(BASE)


def test_every_arm_in_its_folder(run_arm, tmp_path):
    results = compare(BASE, ARM_SETS["depth"], tmp_path, run_arm)
    assert {name: scores.mean() for name, scores in results.items()} == {"ours": 0.5, "without-depth": 0.1}
    assert [name for name, _ in run_arm.asked] == ["ours", "without-depth"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["ours", "without-depth"]


def test_finished_arms_are_not_run_again(run_arm, tmp_path):
    compare(BASE, ARM_SETS["depth"], tmp_path, run_arm)
    run_arm.asked.clear()
    results = compare(BASE, ARM_SETS["paper"], tmp_path, run_arm)
    assert [name for name, _ in run_arm.asked] == ["without-transfer", "without-both"]
    assert list(results) == ["ours", "without-depth", "without-transfer", "without-both"]
    assert results["ours"].mean() == 0.5


def test_finished_arm_of_other_settings_is_not_taken_for_ours(run_arm, tmp_path):
    compare(BASE, ARM_SETS["depth"], tmp_path, run_arm)
    other = BASE.model_copy(update={"training": TrainingConfig(seed=4)})
    with pytest.raises(ConfigError, match="other settings") as caught:
        compare(other, ARM_SETS["depth"], tmp_path, run_arm)
    assert (caught.value.expected, caught.value.got) == ("seed 3", "seed 4")
