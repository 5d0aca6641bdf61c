import pytest

from inflate3d.cli.compare import Options
from inflate3d.comparison.arms import ARM_SETS, Arm, difference_in_words, find_arms
from inflate3d.errors import ConfigError


def changes(settings, arm):
    before, after = settings.model_dump(), arm.applied_to(settings).model_dump()
    return {
        section: {name: value for name, value in after[section].items() if value != before[section].get(name)}
        for section in before
        if before[section] != after[section]
    }


def test_papers_arms_differ_only_in_what_they_say(tmp_path):
    assert {arm.name: changes(Options(dataset=tmp_path), arm) for arm in ARM_SETS["paper"]} == {
        "ours": {},
        "without-depth": {"model": {"depth": 1}},
        "without-transfer": {"model": {"weights": "none"}},
        "without-both": {"model": {"weights": "none", "depth": 1}},
        "unetr": {"model": {"network": "unetr"}},
    }


@pytest.mark.parametrize("name", ARM_SETS)
def test_built_in_arms_can_be_and_are_named_once(name, tmp_path):
    options = Options(dataset=tmp_path)
    arms = find_arms(name)
    assert len({arm.name for arm in arms}) == len(arms) >= 2
    for arm in arms:
        arm.applied_to(options)


def test_arms_of_a_file(tiny_config, tmp_path):
    file = tmp_path / "arms.yaml"
    file.write_text("five: {}\nempty:\none: {model: {depth: 1}, training: {steps: 7}}\n", encoding="utf-8")
    five, empty, one = find_arms(str(file))
    assert (five.applied_to(tiny_config), empty.applied_to(tiny_config)) == (tiny_config, tiny_config)
    assert changes(tiny_config, one) == {"model": {"depth": 1}, "training": {"steps": 7}}


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("a: {}", "no arms to compare"),
        ("[a, b]", "no arms to compare"),
        ("a: {}\nb: {depth: 1}", "not grouped by section"),
        ("a: {}\nb: {data: {fold: 1}}", "not grouped by section"),
        ("a: {}\nb: 3", "not grouped by section"),
        ("a: {}\nb/c: {}", "is not a valid folder name"),
        ("a: {}\nb: {", "not YAML"),
        ("a: {command: [x, '{data}', '{out}', '{seconds}']}\nb: {}", "must not be a program"),
        ("a: {}\nb: {command: [x, '{data}', '{out}']}", "invalid command"),
        ("a: {}\nb: {command: [x, '{data}', '{out}', '{seconds}', '{home}']}", "invalid command"),
        ("a: {}\nb: {command: [x, '{data}', '{out}', '{seconds}', [y]]}", "invalid command"),
        ("a: {}\nb: {command: x}", "invalid command"),
        ("a: {}\nb: {command: [x, '{data}', '{out}', '{seconds}'], model: {depth: 1}}", "not grouped by section"),
    ],
)
def test_file_that_holds_no_arms(text, part, tmp_path):
    file = tmp_path / "arms.yaml"
    file.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError, match=part) as caught:
        find_arms(str(file))
    assert caught.value.file == str(file)


def test_command_of_an_arm(tmp_path):
    file = tmp_path / "arms.yaml"
    file.write_text("a: {}\nb: {command: [x, '{data}', '{out}', -t, '{seconds}', --batch, 2]}", encoding="utf-8")
    assert find_arms(str(file))[1].command == ("x", "{data}", "{out}", "-t", "{seconds}", "--batch", "2")


def test_unknown_set():
    with pytest.raises(ConfigError) as caught:
        find_arms("legs")
    assert "paper" in str(caught.value.expected)


@pytest.mark.parametrize(
    ("settings", "part"),
    [
        ({"model": {"depth": 4}}, "arm bad, model: invalid depth"),
        ({"model": {"nonsense": 1}}, "arm bad, model: invalid nonsense"),
        ({"data": {"fold": 1}}, "invalid section in an arm"),
        ({"plan": {"stride": 2}}, "invalid section in an arm"),  # a run has its stride in the model
    ],
)
def test_arm_that_can_not_be(settings, part, tiny_config):
    with pytest.raises(ConfigError, match=part):
        Arm("bad", settings).applied_to(tiny_config)


def test_of_the_plan_only_the_stride_can_differ(tmp_path):
    options = Options(dataset=tmp_path)
    assert Arm("two", {"plan": {"stride": 2}}).applied_to(options).plan.stride == 2
    with pytest.raises(ConfigError, match="all arms share") as caught:
        Arm("clipped", {"plan": {"clip": (0, 1)}}).applied_to(options)
    assert caught.value.got == "clipped: clip"


def test_inflation_set_holds_all_ways_against_no_transfer():
    assert [arm.name for arm in ARM_SETS["inflation"]] == ["center", "average", "random", "without-transfer"]


def test_difference_in_words(tiny_config):
    arm = Arm("other", {"model": {"depth": 1, "image_size": None}, "training": {"learning_rate": 0.5}})
    words = difference_in_words(tiny_config, arm.applied_to(tiny_config))
    assert "depth 1 in place of 3" in words
    assert "image size the plan's in place of (64, 64)" in words
    assert "learning rate 0.5 in place of 0.001" in words
    assert difference_in_words(tiny_config, tiny_config) == ""
