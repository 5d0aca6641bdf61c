"""Options that a network has no use for are refused, before anything is read."""

import pytest

from inflate3d.cli import main
from inflate3d.cli.compare import Options
from inflate3d.cli.network_options import OF_PATCHES, OF_WINDOWS, check_arms, check_options
from inflate3d.cli.parsing import parse_options
from inflate3d.comparison.arms import ARM_SETS, Arm
from inflate3d.errors import ConfigError


def options_of(words: str) -> Options:
    from inflate3d.cli import compare

    return parse_options(compare, "compare", ["data", *words.split()])


@pytest.mark.parametrize(
    "words",
    [
        "--network unetr",
        "--network unetr --patch-size 96 96 96 --network-width 8 --steps 7 --clip 0 80",
        "--network dynunet --preset paper/bcv",  # the preset's decoder, depth and scaling were not asked for
        "--network segresnet --inflation center --depth 5 --preset bcv",  # what would stand there anyhow
        "--preset paper/unetr",
        "--preset paper/bcv --decoder fpn-lite --stride 2 --freeze body",
    ],
)
def test_options_that_the_network_uses(words):
    check_options(options_of(words))


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (
            "--network unetr --depth 3 --inflation average --decoder upernet",
            "--inflation average --decoder upernet --depth 3",
        ),
        ("--preset paper/unetr --image-size 64 64", "--image-size 64 64"),
        ("--network dynunet --preset paper/bcv --decoder fpn-lite --stride 2", "--stride 2 --decoder fpn-lite"),
        (
            "--network segresnet --layer-decay 0.8 --freeze body --weights none",
            "--weights none --freeze body --layer-decay 0.8",
        ),
        ("--patch-size 96 96 96", "--patch-size 96 96 96"),
        ("--preset acdc --network-width 8", "--network-width 8"),
    ],
)
def test_options_that_it_does_not_use(words, told):
    with pytest.raises(ConfigError, match="no use for") as caught:
        check_options(options_of(words))
    assert told in str(caught.value.got)
    assert "--network" in str(caught.value.expected)


def test_every_option_of_the_network_is_of_one_kind():
    from inflate3d.config import ModelOptions

    assert {*OF_WINDOWS["model"], *OF_PATCHES["model"], "network"} == set(ModelOptions.model_fields)


@pytest.mark.parametrize("name", ARM_SETS)
def test_built_in_arms_stand_beside_shared_options_that_one_of_them_uses(name):
    options = options_of("--decoder upernet --freeze body --image-size 64 64")
    check_arms(options, ARM_SETS[name])


def test_patch_size_is_of_use_where_one_arm_has_patches():
    options = options_of("--patch-size 96 96 96")
    check_arms(options, ARM_SETS["baselines"])
    with pytest.raises(ConfigError, match="no use for"):
        check_arms(options, ARM_SETS["depth"])


@pytest.mark.parametrize(
    ("changes", "got"),
    [
        ({"model": {"network": "unetr", "depth": 3}}, "--depth 3"),
        ({"model": {"network": "unetr"}, "plan": {"stride": 2}}, "--stride 2"),
        ({"model": {"patch_size": [16, 16, 16]}}, "--patch-size 16 16 16"),
    ],
)
def test_an_arm_with_a_setting_that_its_network_does_not_use(changes, got):
    with pytest.raises(ConfigError, match="arm other: options") as caught:
        check_arms(options_of(""), [Arm("ours"), Arm("other", changes)])
    assert caught.value.got == got


def test_arms_of_windows_beside_a_3d_network():
    with pytest.raises(ConfigError, match="arm slices-5: options"):
        check_arms(options_of("--network unetr"), ARM_SETS["slices"])


@pytest.mark.parametrize("command", ["train", "compare"])
def test_commands_tell_it_first_of_all(command, tmp_path, capsys):
    arms = tmp_path / "arms.yaml"
    arms.write_text("short: {}\nlong: {training: {steps: 9}}\n", encoding="utf-8")
    words = ["--arms", str(arms)] if command == "compare" else []
    assert main([command, str(tmp_path / "none"), "--network", "unetr", "--target", "all", *words]) == 2
    assert "no use for" in capsys.readouterr().err


def test_built_in_3d_arms_are_not_trained_as_pre_trained_encoders_are():
    options = options_of("--freeze body --layer-decay 0.8 --checkpoint-activations")
    training = {arm.name: arm.applied_to(options).training for arm in ARM_SETS["baselines"]}
    assert (training["ours"].freeze, training["ours"].layer_decay) == ("body", 0.8)
    assert (training["dynunet"].freeze, training["dynunet"].layer_decay) == ("none", None)
    assert (training["ours"].checkpoint_activations, training["dynunet"].checkpoint_activations) == (True, False)
