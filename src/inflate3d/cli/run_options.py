"""The options that `train` and `compare` share, and the defaults that presets and files give them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, get_args

import tyro
from pydantic import model_validator
from tyro.conf import Positional

from inflate3d.cli.parsing import values_of
from inflate3d.cli.prepare import prepare_shown
from inflate3d.cli.terminal import CommandOptions, Terminal
from inflate3d.config import (
    ENCODER_SETTINGS,
    AugmentationConfig,
    DataConfig,
    InflatedConfig,
    Network,
    RunConfig,
    TrainingConfig,
    VolumetricConfig,
    check_encoder_settings,
)
from inflate3d.datasets import Dataset, read_dataset
from inflate3d.datasets.splits import choose_split
from inflate3d.documents import DAMAGED_YAML, parse_yaml
from inflate3d.errors import ConfigError
from inflate3d.preparation.plan_options import PlanOptions
from inflate3d.preparation.store import Store, default_store
from inflate3d.presets import read_preset
from inflate3d.presets.preset import Preset, overlay
from inflate3d.settings import parse_settings, read_yaml

SECTIONS = ("plan", "data", "model", "augmentation", "training")


class RunOptions(CommandOptions):
    """What `train` and `compare` share."""

    dataset: Positional[Path]
    """The dataset's folder; may be left out where --config names one."""
    preset: str = "auto"
    """Predefined settings: auto (the plan's), bcv, acdc, msd-task09, ... or a YAML file."""
    config: Path | None = None
    """Settings in a YAML file, such as a run's config.yaml; they override the preset's."""
    assignments: Annotated[tuple[str, ...], tyro.conf.arg(name="set", metavar="SECTION.KEY=VALUE ...")] = ()
    """Single settings, such as model.decoder_channels=64; they override --config, and options override them."""
    network: Network = "inflated"
    """An inflated 2D backbone, or one of MONAI's 3D networks (dynunet is nnU-Net's); each kind has its own options."""
    store: Path | None = None
    """Folder of the preprocessed cases. None: prepared/NAME-OF-THE-FOLDER."""
    plan: PlanOptions = PlanOptions()
    data: DataConfig = DataConfig()
    model: InflatedConfig | VolumetricConfig = InflatedConfig()
    augmentation: AugmentationConfig = AugmentationConfig()
    training: TrainingConfig = TrainingConfig()

    @model_validator(mode="after")
    def _check_encoder_settings(self) -> RunOptions:
        check_encoder_settings(self.model, self.training)
        return self

    @classmethod
    def with_defaults(cls, words: Sequence[str]) -> RunOptions:
        """Options with the defaults of ``--preset``, ``--config``, ``--set`` and ``--network`` on the command line."""
        given = values_of(words, "--preset", "--config", "--network", lists=["--set"])
        name = given.preset or cls.model_fields["preset"].default
        values: dict[str, Any] = read_preset(name).model_dump(include=set(SECTIONS), exclude_unset=True)
        places: dict[str, Any] = {}
        if given.config is not None:
            settings = _read_config(Path(given.config))
            places = {key: Path(settings.pop(key)) for key in ("dataset", "store") if key in settings}
            values = _overlay_model(values, settings)
        for assignment in given.set:
            values = _overlay_model(values, _parse_assignment(assignment))
        if given.network in get_args(Network):
            values = _overlay_model(values, {"model": {"network": given.network}})
        parsed = parse_settings(Preset, {"description": "", **values})
        sections = {section: getattr(parsed, section) for section in SECTIONS}
        required = {name: tyro.MISSING for name, info in cls.model_fields.items() if info.is_required()}
        chosen = required | places | sections | {"preset": name, "network": parsed.model.network}
        return cls.model_construct(None, **chosen)

    def open(self, terminal: Terminal) -> tuple[RunConfig, Store]:
        """Opens the prepared dataset (preparing it first if necessary) and resolves the settings."""
        from inflate3d.models.backbones import find_backbone

        # What is missing is reported before the minutes that preparing may take.
        if self.training.devices * self.training.nodes > 1:
            self._check_prepared()
        if isinstance(self.model, InflatedConfig):
            find_backbone(self.model.encoder)
        dataset = read_dataset(self.dataset)
        self.check_split(dataset)
        store = open_store(dataset, self.store or default_store(self.dataset), self.plan, terminal)
        return self.run_config(store), store

    def check_split(self, dataset: Dataset) -> None:
        """Checks that the split exists and fits the cases, and that ``--keep`` is allowed with it."""
        split = choose_split(self.data, {case.id: case.group for case in dataset.cases}, dataset.splits)
        split.check_keeping(self.training.keep)

    def run_config(self, store: Store) -> RunConfig:
        """The run's settings, with the plan's choices filled in."""
        model = self.model
        if isinstance(model, InflatedConfig) and self.plan.stride is not None:
            model = model.model_copy(update={"stride": self.plan.stride})
        values = {"data": self.data, "model": model, "augmentation": self.augmentation, "training": self.training}
        places = {"dataset": self.dataset.resolve(), "store": store.folder.resolve()}
        return parse_settings(RunConfig, places | values).resolve(store.plan.defaults)

    def _check_prepared(self) -> None:
        """Several processes started by a launcher would get in each other's way if all of them prepared the dataset."""
        from inflate3d.training.processes import find_processes

        launcher = find_processes(self.training).launcher
        folder = self.store or default_store(self.dataset)
        if launcher and not (folder / "store.json").exists():
            raise ConfigError(
                "the dataset is not prepared",
                expected=f"a prepared dataset, as {launcher} starts several processes",
                hint=f"run `inflate3d prepare {self.dataset}` first, with the same --store if you give one",
                file=folder,
            )


def open_store(dataset: Dataset, folder: Path, options: PlanOptions, terminal: Terminal) -> Store:
    """Opens the prepared dataset with its current splits; prepares it if it does not exist yet."""
    if not (folder / "store.json").exists():
        return prepare_shown(dataset, folder, options, terminal)
    store = Store(folder)
    store.check_source(dataset, options)
    store.take_splits(dataset)
    return store


def _read_config(file: Path) -> dict[str, Any]:
    """Sections of settings, and the dataset and store where the file is a run's ``config.yaml``."""
    values = read_yaml(file)
    known = {*SECTIONS, "dataset", "store", "description"}
    if not isinstance(values, dict) or not set(values) <= known:
        raise ConfigError(
            "invalid settings file",
            expected=f"sections among {', '.join(SECTIONS)}; dataset and store",
            got=", ".join(map(str, values)) if isinstance(values, dict) else type(values).__name__,
            file=file,
        )
    if wrong := [key for key in ("dataset", "store") if not isinstance(values.get(key, ""), str)]:
        raise ConfigError("invalid settings file", expected=f"a path as {wrong[0]}", got=values[wrong[0]], file=file)
    settings = {key: value for key, value in values.items() if key in SECTIONS}
    parse_settings(Preset, {"description": "", **settings}, file=file)
    return settings | {key: values[key] for key in ("dataset", "store") if key in values}


def _parse_assignment(text: str) -> dict[str, Any]:
    name, equals, value = text.partition("=")
    section, dot, key = name.partition(".")
    if not (equals and dot and key and section in SECTIONS):
        raise ConfigError(
            "invalid --set", expected=f"SECTION.KEY=VALUE with a section among {', '.join(SECTIONS)}", got=text
        )
    try:
        return {section: {key: parse_yaml(value)}}
    except DAMAGED_YAML as error:
        raise ConfigError("invalid --set", expected="a value in YAML, such as 64 or [64, 64]", got=text) from error


def _overlay_model(below: dict[str, Any], above: dict[str, Any]) -> dict[str, Any]:
    """Overlays settings; if the kind of network changes, nothing of the other kind is kept."""
    if not isinstance(above.get("model", {}), dict):
        return overlay(below, above)  # which is then refused
    before, after = (values.get("model", {}).get("network") for values in (below, above))
    if after is not None and (after == "inflated") != ((before or "inflated") == "inflated"):
        training = {key: value for key, value in below.get("training", {}).items() if key not in ENCODER_SETTINGS}
        below = {**below, "model": {}, "training": training}
    return overlay(below, above)
