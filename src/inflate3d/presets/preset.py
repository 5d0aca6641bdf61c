"""What a preset can choose, and where presets are found."""

from __future__ import annotations

from difflib import get_close_matches
from importlib.resources import files
from pathlib import Path

from inflate3d.config import (
    AugmentationConfig,
    DataConfig,
    FrozenModel,
    ModelOptions,
    TrainingOptions,
    parse_settings,
    read_yaml,
)
from inflate3d.errors import ConfigError
from inflate3d.preparation.planning import PlanOptions


class Preset(FrozenModel):
    """Choices for a data set, made beforehand; options of a command go before them.

    Attributes:
        description: What it is for, in a sentence.
        plan: Choices that the plan takes over.
    """

    description: str
    plan: PlanOptions = PlanOptions()
    data: DataConfig = DataConfig()
    model: ModelOptions = ModelOptions()
    augmentation: AugmentationConfig = AugmentationConfig()
    training: TrainingOptions = TrainingOptions()


def preset_names() -> tuple[str, ...]:
    """Names of the presets that come with the package, sorted."""
    return tuple(
        sorted(Path(file.name).stem for file in files("inflate3d.presets").iterdir() if file.name.endswith(".yaml"))
    )


def read_preset(name: str) -> Preset:
    """Reads a preset.

    Args:
        name: One of `preset_names`, or a YAML file of the same form.

    Raises:
        ConfigError: There is none of that name, or the file holds a key or a value that is not known.
    """
    known = preset_names()
    path = Path(str(files("inflate3d.presets") / f"{name}.yaml")) if name in known else Path(name)
    if name not in known and path.suffix not in (".yaml", ".yml"):
        near = get_close_matches(name, known)
        raise ConfigError(
            "no such preset",
            expected=f"{', '.join(known)}, or a YAML file",
            got=name,
            remedy=f"did you mean {near[0]}?" if near else None,
        )
    return parse_settings(Preset, read_yaml(path), file=path)
