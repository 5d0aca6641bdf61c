"""Every preset that is shipped, through the command line: prepare a look-alike of its dataset, train two steps."""

from pathlib import Path
from zlib import crc32

import pytest

from inflate3d.cli import main
from inflate3d.config import RunConfig
from inflate3d.models.segmenter import load_model
from inflate3d.preparation.store import Store
from inflate3d.presets import preset_names, read_preset
from inflate3d.run_folder import RunFolder

pytestmark = pytest.mark.slow

SHORT = "--steps 2 --batch-size 2 --validate-every 2 --validation-cases 1 --accelerator cpu --workers 0"
TINY = {
    "inflated": "--encoder test_vit --weights none --image-size 32 32 --decoder-channels 8",
    "unetr": "--patch-size 16 32 32 --network-width 1",
}
ANY_DATA = {"auto": "msd-task09", "paper/recipe": "msd-task09", "paper/unetr": "bcv"}
"""Presets for no dataset in particular, and one to try them on."""


def data_of(preset):
    """Which dataset a preset is for."""
    return ANY_DATA.get(preset) or preset.removeprefix("paper/").removesuffix("-paper")


@pytest.fixture(scope="module")
def folders(look_alikes, tmp_path_factory):
    """Writes each dataset once; presets that plan alike share its store."""
    root, written = tmp_path_factory.mktemp("look-alikes"), {}

    def find(preset):
        name, wishes = data_of(preset), read_preset(preset).plan.model_dump_json()
        if name not in written:
            written[name] = look_alikes[name](root)
        return written[name], root / f"{name}-{crc32(wishes.encode())}"

    return find


def test_every_preset_has_a_look_alike(look_alikes):
    assert {data_of(preset) for preset in preset_names()} == set(look_alikes)


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=() if name == "paper/bcv" else pytest.mark.long) for name in preset_names()]
)
@pytest.mark.usefixtures("published_sizes")
def test_preset_trains_on_a_look_alike(name, folders, tmp_path):
    data, store = folders(name)
    preset, run = read_preset(name), RunFolder(tmp_path / "run")
    words = ["train", str(data), "--preset", name, "--store", str(store), "--run", str(run.root)]
    assert main([*words, *f"{TINY[preset.model.network]} {SHORT}".split()]) == 0
    _check_choices(name, RunConfig.read(run.config), Store(store))
    model = load_model(run.root)
    assert model.plan is not None
    assert model.architecture.num_classes == len(model.plan.classes)
    assert model.architecture.in_channels == len(model.plan.modalities)


def _check_choices(name: str, config: RunConfig, store: Store) -> None:
    """What the preset chose, and nothing made small, stands in the run's settings and the plan."""
    preset = read_preset(name)
    chosen = preset.model_dump(exclude_unset=True)
    small = {"steps", "batch_size", "encoder", "image_size", "patch_size"}
    for section in ("data", "model", "augmentation", "training"):
        ran = getattr(config, section).model_dump()
        for setting, value in chosen.get(section, {}).items():
            assert setting in small or ran[setting] == value, f"{section}.{setting}"
    if preset.plan.clip is not None:
        assert {(rule.low, rule.high) for rule in store.plan.normalization} == {preset.plan.clip}
    if preset.plan.planned_size is not None:
        assert store.plan.image_size == preset.plan.planned_size
    assert config.dataset == Path(store.source)
