import pytest

from inflate3d.comparison.arms import ARM_SETS
from inflate3d.comparison.runs import plan_runs, read_sizes
from inflate3d.errors import ConfigError


@pytest.fixture
def configs(tiny_config):
    return {arm.name: arm.applied_to(tiny_config) for arm in ARM_SETS["depth"]}


def test_every_arm_with_every_seed_and_size(configs, tmp_path):
    runs = plan_runs(configs, (0, 2), (3, None), tmp_path)
    assert [run.name for run in runs] == [
        "ours-3-cases",
        "without-depth-3-cases",
        "ours",
        "without-depth",
        "ours-3-cases-seed-2",
        "without-depth-3-cases-seed-2",
        "ours-seed-2",
        "without-depth-seed-2",
    ]
    last, fewer = runs[-1].config, runs[4].config
    assert (last.training.seed, last.data.training_cases, last.model.depth) == (2, None, 1)  # type: ignore[union-attr]
    assert (fewer.data.training_cases, fewer.data.training_cases_seed, fewer.training.seed) == (3, 2, 2)
    assert {run.config.data.fold for run in runs} == {0}
    assert not any(run.finished for run in runs)


def test_draw_of_the_cases_starts_from_the_users_seed(configs, tmp_path):
    ours = configs["ours"]
    drawn = ours.model_copy(update={"data": ours.data.model_copy(update={"training_cases_seed": 7})})
    runs = plan_runs({"ours": drawn}, (0, 2), (3, None), tmp_path)
    assert [run.config.data.training_cases_seed for run in runs] == [7, 7, 9, 7]


def test_run_of_other_settings_is_not_taken_for_ours(configs, tmp_path):
    before = plan_runs(configs, (0,), (None,), tmp_path)
    before[1].config.write(before[1].folder.config)
    plan_runs(configs, (0,), (None,), tmp_path)
    longer = configs["without-depth"].training.model_copy(update={"steps": 99})
    changed = configs | {"without-depth": configs["without-depth"].model_copy(update={"training": longer})}
    with pytest.raises(ConfigError) as caught:
        plan_runs(changed, (0,), (None,), tmp_path)
    assert (caught.value.expected, caught.value.got) == ("steps 2", "steps 99")


def test_arms_that_are_the_same(configs, tmp_path):
    with pytest.raises(ConfigError) as caught:
        plan_runs(configs | {"again": configs["ours"]}, (0,), (None,), tmp_path)
    assert caught.value.got == "ours and again"


def test_folders_of_one_name(configs, tmp_path):
    with pytest.raises(ConfigError):
        plan_runs({"a": configs["ours"], "a-seed-1": configs["without-depth"]}, (0, 1), (None,), tmp_path)


def test_sizes(tiny_config, phantom_store):
    assert read_sizes("1, 3,all", tiny_config, phantom_store) == (1, 3, None)
    assert read_sizes("4,2,all", tiny_config, phantom_store) == (None, 2)  # the split has 4


def test_sizes_beside_a_number_of_training_cases(tiny_config, phantom_store):
    data = tiny_config.data.model_copy(update={"training_cases": 4})
    with pytest.raises(ConfigError):
        read_sizes("2,4", tiny_config.model_copy(update={"data": data}), phantom_store)


@pytest.mark.parametrize("text", ["5", "0", "", "1,,2", "-1", "two", "1.5"])
def test_sizes_that_can_not_be(text, tiny_config, phantom_store):
    with pytest.raises(ConfigError) as caught:
        read_sizes(text, tiny_config, phantom_store)
    assert "from 1 to 4" in str(caught.value.expected)
