from pathlib import Path

import pytest

from inflate3d.cli import train
from inflate3d.cli.parsing import parse_options
from inflate3d.cli.train import Options
from inflate3d.config import InflatedConfig, RunConfig, TrainingDefaults, VolumetricConfig
from inflate3d.errors import ConfigError
from inflate3d.preparation.plan_options import PlanOptions
from inflate3d.presets import Preset, preset_names, read_preset

CT_CLIP = (-175.0, 250.0)

# Zhang et al. 2022: in-plane size, clip and steps of each experiment
PAPER = {
    "bcv": (512, CT_CLIP, 25_000),
    "acdc-paper": (512, CT_CLIP, 25_000),
    "msd-task01": (240, None, 250_000),
    "msd-task02": (320, (601.0, 1511.0), 25_000),
    "msd-task03": (512, CT_CLIP, 25_000),
    "msd-task04": (240, (29.0, 205431.0), 25_000),
    "msd-task05": (320, (0.0, 2152.0), 25_000),
    "msd-task06": (512, CT_CLIP, 25_000),
    "msd-task07": (512, CT_CLIP, 100_000),
    "msd-task08": (512, CT_CLIP, 100_000),
    "msd-task09": (512, CT_CLIP, 25_000),
    "msd-task10": (512, CT_CLIP, 25_000),
}


def test_there_is_one_for_each_dataset_of_the_paper_and_auto():
    whole = {f"paper/{name.removesuffix('-paper')}" for name in PAPER}
    assert set(preset_names()) == {*PAPER, *whole, "acdc", "auto", "paper/recipe", "paper/unetr"}


@pytest.mark.parametrize("name", PAPER)
def test_paper_presets_add_its_network_and_training_to_the_data_choices(name):
    data, whole = read_preset(name), read_preset(f"paper/{name.removesuffix('-paper')}")
    assert (whole.plan, whole.data, whole.training.steps) == (data.plan, data.data, data.training.steps)
    model, training = whole.model, whole.training
    assert isinstance(model, InflatedConfig)
    assert (model.encoder, model.decoder, model.inflation, model.input_scaling) == ("beit", "upernet", "center", "unit")
    assert (training.learning_rate, training.encoder_learning_rate, training.weight_decay) == (3e-5, 3e-5, 0.05)
    assert (training.batch_size, training.warmup_steps, training.decay) == (16, 20, "linear")
    assert (training.loss, training.gradient_clip, training.precision) == ("dice-focal", 1.0, "32")


@pytest.mark.parametrize("name", PAPER)
def test_presets_have_the_papers_values(name):
    size, clip, steps = PAPER[name]
    preset = read_preset(name)
    assert (preset.plan.planned_size, preset.plan.clip) == ((size, size), clip)
    assert isinstance(preset.model, InflatedConfig)
    assert (preset.training.steps, preset.model.depth, preset.data.split) == (steps, 5, "paper")
    assert preset.description.endswith("as in the paper.") or name == "acdc-paper"


def test_our_acdc_is_normalized_as_mr_and_nothing_is_chosen_on_the_test_patients():
    ours, theirs = read_preset("acdc"), read_preset("acdc-paper")
    assert (ours.plan.clip, ours.data.split) == (None, "paper-holdout")
    assert ours.training == theirs.training


def test_unetr_has_the_papers_patches_spacing_and_steps():
    preset = read_preset("paper/unetr")
    assert preset.model == VolumetricConfig(network="unetr", patch_size=(96, 96, 96))
    assert (preset.plan.spacing, preset.plan.depth_axis) == ((2.0, 1.5, 1.5), "axial")
    assert preset.training.steps == 25_000


def test_auto_leaves_everything_to_the_plan():
    auto = read_preset("auto")
    assert auto == Preset(description=auto.description)


def test_a_file_of_ones_own(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text("description: Mine.\nplan: {clip: [0, 80], classes: [liver]}\ntraining: {steps: 7}\n")
    mine = read_preset(str(path))
    assert mine.plan == PlanOptions(clip=(0, 80), classes=("liver",))
    assert mine.training.steps == 7


def test_own_choices_go_before_those_that_a_file_builds_on(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text("description: Mine.\nextends: [bcv, paper/recipe]\nplan: {clip: [0, 80]}\ntraining: {steps: 7}\n")
    mine = read_preset(str(path))
    assert (mine.plan.clip, mine.plan.planned_size, mine.training.steps) == ((0, 80), (512, 512), 7)
    assert isinstance(mine.model, InflatedConfig)
    assert (mine.description, mine.model.encoder) == ("Mine.", "beit")


@pytest.mark.parametrize("extends", ["[nothing]", "bcv", "[1]"])
def test_file_that_builds_on_no_preset(tmp_path, extends):
    path = tmp_path / "mine.yaml"
    path.write_text(f"description: Mine.\nextends: {extends}\n")
    with pytest.raises(ConfigError, match="extends") as caught:
        read_preset(str(path))
    assert caught.value.file == str(path)


@pytest.mark.parametrize(
    ("name", "said"),
    [("msd-task9", "did you mean msd-task09?"), ("nothing.yaml", "can't be read"), ("", "unknown preset")],
)
def test_preset_that_is_not_there(name, said):
    with pytest.raises(ConfigError) as caught:
        read_preset(name)
    assert said in str(caught.value)


def test_key_that_is_not_known(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text("description: Mine.\nplan: {clop: [0, 80]}\n")
    with pytest.raises(ConfigError, match=r"invalid plan\.clop") as caught:
        read_preset(str(path))
    assert caught.value.file == str(path)


@pytest.mark.parametrize("words", [["data", "--preset", "bcv"], ["--preset=bcv", "data", "--steps", "3"]])
def test_options_go_before_the_preset(words):
    options = parse_options(train, "train", words)
    assert (options.preset, options.plan.clip) == ("bcv", CT_CLIP)
    assert options.training.steps == (3 if "--steps" in words else 25_000)


@pytest.mark.parametrize("name", preset_names())
def test_every_preset_resolves_to_the_settings_of_a_run(name):
    options = Options.with_defaults(["--preset", name])
    sections = {section: getattr(options, section) for section in ("data", "model", "augmentation", "training")}
    config = RunConfig(dataset=Path("data"), store=Path("store"), **sections).resolve(TrainingDefaults())
    assert None not in (config.training.steps, config.training.batch_size, config.training.stem_rate_factor)
    assert RunConfig.model_validate(config.model_dump(mode="json")) == config


@pytest.mark.parametrize("name", ["acdc", "acdc-paper", "paper/acdc", "msd-task02"])
def test_hearts_may_be_flipped_although_their_chambers_are_named_left_and_right(name):
    assert read_preset(name).plan.flips is True


def test_twins_are_flipped_by_no_preset():
    assert read_preset("bcv").plan.flips is None  # left and right kidney: the plan forbids it
