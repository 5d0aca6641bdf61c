"""All settings of a run, and whether they fit together."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml
from pydantic import model_validator

from inflate3d.atomic import write_text
from inflate3d.config.model import InflatedConfig, ModelConfig, VolumetricConfig
from inflate3d.config.training import ENCODER_SETTINGS, AugmentationConfig, DataConfig, TrainingConfig, TrainingDefaults
from inflate3d.errors import ConfigError
from inflate3d.settings import FrozenModel, parse_settings, read_yaml


def _check_slabs(model: InflatedConfig | VolumetricConfig, training: TrainingConfig) -> None:
    """Checks that a batch is made of whole slabs.

    Raises:
        ConfigError: It is not.
    """
    if isinstance(model, VolumetricConfig) or model.depth_mixing == "none" or training.batch_size is None:
        return
    if training.batch_size % model.slab:
        raise ConfigError(
            "the batch size is not a multiple of the slab",
            expected=f"a multiple of {model.slab} slices",
            got=training.batch_size,
            hint="change --batch-size or --slab",
        )


def check_encoder_settings(model: InflatedConfig | VolumetricConfig, training: TrainingConfig) -> None:
    """Rejects settings of a pre-trained encoder for a 3D network, which has none."""
    if isinstance(model, InflatedConfig):
        return
    idle = {name: TrainingConfig.model_fields[name].default for name in ENCODER_SETTINGS}
    given = {name: getattr(training, name) for name in ENCODER_SETTINGS if getattr(training, name) != idle[name]}
    if given and given != {"stem_rate_factor": 1.0}:  # which is what resolving gives
        raise ConfigError(
            "a 3D network has no pre-trained encoder",
            expected=f"no settings of an encoder with --network {model.network}",
            got=", ".join(f"{name} {value}" for name, value in given.items()),
        )


class RunConfig(FrozenModel):
    """All settings of a run; together with its data, enough to train it again.

    Examples:
        >>> config = RunConfig(
        ...     dataset="data/Task09_Spleen",
        ...     store="prepared/Task09_Spleen",
        ...     model=InflatedConfig(encoder="resnet18", depth=3),
        ...     training=TrainingConfig(steps=500),
        ... )
        >>> config.model.inflation
        'center'
        >>> config.training.batch_size is None  # left to the plan
        True
    """

    dataset: Path
    """The dataset's folder."""
    store: Path
    """Folder of its preprocessed cases."""
    data: DataConfig = DataConfig()
    model: ModelConfig = InflatedConfig()
    augmentation: AugmentationConfig = AugmentationConfig()
    training: TrainingConfig = TrainingConfig()

    @model_validator(mode="after")
    def _check_sections(self) -> RunConfig:
        check_encoder_settings(self.model, self.training)
        _check_slabs(self.model, self.training)
        return self

    def resolve(self, defaults: TrainingDefaults) -> RunConfig:
        """Replaces each None by the plan's choice; resolving twice changes nothing.

        Raises:
            ConfigError: Settings contradict each other.
        """
        check_encoder_settings(self.model, self.training)
        _check_slabs(self.model, self.training)
        model = self.model.resolve(defaults.depth)
        return self.model_copy(update={"model": model, "training": self.training.resolve(defaults, model)})

    def write(self, path: Path) -> None:
        """Writes the configuration as YAML, atomically.

        Raises:
            OutputError: The file can't be written.
        """
        write_text(path, yaml.safe_dump(self.model_dump(mode="json"), sort_keys=False))

    @classmethod
    def read(cls, path: Path) -> RunConfig:
        """Reads a file of :meth:`write`.

        Raises:
            ConfigError: The file is missing, is not YAML, or holds an unknown key or an invalid value.
        """
        return parse_settings(cls, read_yaml(path), file=path)

    def check_unchanged(self, path: Path) -> None:
        """Checks that the configuration in ``path`` is the same as this one; only the data may have moved.

        Raises:
            ConfigError: Its settings differ, or the file can't be read.
        """
        before = RunConfig.read(path)
        changed = differing(before, self)
        if not changed:
            return
        raise ConfigError(
            "the settings differ from those that the run was started with",
            expected=", ".join(f"{name} {old}" for name, (old, _) in changed.items()),
            got=", ".join(f"{name} {new}" for name, (_, new) in changed.items()),
            file=path,
            hint="give the same options again, or choose another folder with --run or --out",
        )


def differing(before: RunConfig, after: RunConfig) -> dict[str, tuple[Any, Any]]:
    """Settings that differ, by name, with both values; paths and precision "auto" do not count."""
    if after.training.precision == "auto":
        kept = {"precision": before.training.precision}
        after = after.model_copy(update={"training": after.training.model_copy(update=kept)})
    old, new = (config.model_dump(exclude={"dataset", "store"}) for config in (before, after))
    return {
        name: (values.get(name), new[section].get(name))
        for section, values in old.items()
        for name in (*values, *(name for name in new[section] if name not in values))
        if values.get(name) != new[section].get(name)
    }
