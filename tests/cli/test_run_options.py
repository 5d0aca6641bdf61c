"""How presets, --config, --set and options together make the settings of a run."""

import re

import pytest

from inflate3d.cli import main, prepare, train
from inflate3d.cli.parsing import parse_options
from inflate3d.config import InflatedConfig, RunConfig, TrainingConfig, TrainingDefaults, VolumetricConfig, model_type
from inflate3d.errors import ConfigError
from inflate3d.settings import parse_settings


def parse(*words):
    return parse_options(train, "train", list(map(str, words)))


def shown_by(words, capsys):
    with pytest.raises(SystemExit):
        main(words)
    return set(re.findall(r"(?m)^\W*(--[a-z][\w-]*)", capsys.readouterr().out))


def test_help_shows_what_is_common_and_help_all_the_rest(capsys):
    common, everything = (shown_by(["train", option], capsys) for option in ("--help", "--help-all"))
    assert {"--encoder", "--steps", "--config", "--set"} <= common < everything
    assert len(common) <= 28
    assert {"--max-gamma", "--stem-rate-factor", "--split-seed"} <= everything - common


def test_prepare_takes_the_plan_of_the_same_preset_as_train():
    words = ["data", "--preset", "msd-task09", "--planned-size", "64", "64"]
    prepared, trained = (parse_options(module, "", words).plan for module in (prepare, train))
    assert prepared == trained
    assert (prepared.clip, prepared.planned_size) == ((-175, 250), (64, 64))


def test_later_sources_override_earlier_ones(tmp_path):
    file = tmp_path / "mine.yaml"
    file.write_text("training: {steps: 7, seed: 7}\nmodel: {depth: 7, decoder: upernet}\n", encoding="utf-8")
    sets = ["--set", "training.seed=3", "model.image_size=[64, 96]"]
    options = parse("data", "--preset", "bcv", "--config", file, *sets, "--depth", 3)
    assert (options.training.steps, options.training.seed) == (7, 3)
    assert isinstance(options.model, InflatedConfig)
    assert (options.model.depth, options.model.decoder, options.model.image_size) == (3, "upernet", (64, 96))
    assert options.plan.clip == (-175, 250)


def test_settings_of_a_run_are_options_again(tiny_config, tmp_path):
    tiny_config.write(tmp_path / "config.yaml")
    options = parse("--config", tmp_path / "config.yaml")
    assert (options.dataset, options.store) == (tiny_config.dataset, tiny_config.store)
    assert (options.model, options.training) == (tiny_config.model, tiny_config.training)


@pytest.mark.slow
def test_each_kind_of_network_has_its_own_options():
    options = parse("data", "--network", "unetr", "--patch-size", 16, 32, 32)
    assert options.model == VolumetricConfig(network="unetr", patch_size=(16, 32, 32))
    assert parse("data", "--preset", "paper/bcv", "--network", "dynunet").model == VolumetricConfig(network="dynunet")
    for words in (["--patch-size", 16, 32, 32], ["--network", "unetr", "--depth", 3]):
        with pytest.raises(ConfigError):
            parse("data", *words)


@pytest.mark.parametrize("given", [{"freeze": "body"}, {"stem_rate_factor": 0.5}, {"encoder_learning_rate": 1e-3}])
def test_a_3d_network_has_no_settings_of_an_encoder(given):
    with pytest.raises(ConfigError) as caught:
        parse_settings(RunConfig, {"dataset": "d", "store": "s", "model": {"network": "unetr"}, "training": given})
    assert next(iter(given)) in str(caught.value)


@pytest.mark.parametrize(
    "words",
    [
        ["--set", "depth=3"],
        ["--set", "model.depth"],
        ["--set", "model.depth=4"],
        ["--set", "model.nothing=4"],
        ["--set", "model.depth=[1"],
        ["--set", "dataset.x=1"],
        ["--config", "nothing.yaml"],
    ],
)
def test_invalid_settings_are_one_error(words):
    with pytest.raises(ConfigError):
        parse("data", *words)


@pytest.mark.parametrize(
    "text",
    [
        "[1, 2]",
        "a: &a [1]\nb: *a",
        "!!python/object/apply:os.system ['true']",
        "model: 3",
        "model: [inflated]",
        "dataset: 3",
        "dataset: {a: b}",
        "training: {steps: 1.5}",
        "training: {steps: .inf}",
        "training: {seed: 99999999999999999999}",
        "training: {seed: true}",
        "training: {learning_rate: yes}",
        "model: {image_size: [true, 64]}",
        "{" * 5000,
        "model: {network: {a: 1}}",
        "\x00",
    ],
)
def test_hostile_settings_are_one_error(tmp_path, text):
    file = tmp_path / "config.yaml"
    file.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError):
        parse("data", "--config", file)
    with pytest.raises(ConfigError):
        RunConfig.read(file)


def test_nothing_is_left_to_the_plan_twice(phantom_store):
    training, defaults = TrainingConfig(batch_size=4), phantom_store.plan.defaults
    config = RunConfig(dataset="data", store="store", training=training).resolve(defaults)  # type: ignore[arg-type]
    assert (config.training.accumulate, config.training.batch_size, config.training.stem_rate_factor) == (1, 4, 0.032)
    assert config.resolve(phantom_store.plan.defaults) == config


@pytest.mark.parametrize(
    ("network", "rate", "warmup"),
    [
        ("inflated", 1e-3, 20),
        ("dynunet", 1e-3, 30),
        ("segresnet", 3e-4, 30),
        ("swin-unetr", 2e-4, 30),
        ("unetr", 1e-4, 30),
    ],
)
def test_each_network_has_its_own_learning_rate_and_warm_up(network, rate, warmup):
    model = model_type(network)(network=network)  # pyright: ignore[reportArgumentType]
    resolved = TrainingConfig(steps=600).resolve(TrainingDefaults(), model)
    assert (resolved.learning_rate, resolved.warmup_steps) == (rate, warmup)
    given = TrainingConfig(steps=600, learning_rate=0.5, warmup_steps=0).resolve(TrainingDefaults(), model)
    assert (given.learning_rate, given.warmup_steps) == (0.5, 0)
