"""Presets: predefined settings in YAML files."""

from __future__ import annotations

from difflib import get_close_matches
from pathlib import Path
from typing import Any

from inflate3d.config import AugmentationConfig, DataConfig, InflatedConfig, ModelConfig, TrainingConfig
from inflate3d.errors import ConfigError
from inflate3d.preparation.plan_options import PlanOptions
from inflate3d.settings import FrozenModel, parse_settings, read_yaml

_HERE = Path(__file__).parent


class Preset(FrozenModel):
    """Predefined settings for a dataset; explicit options of a command take precedence.

    A file may extend presets of the package: ``extends: [bcv]``. Its settings take precedence over theirs, and those of
    a later preset over those of an earlier one.
    """

    description: str
    plan: PlanOptions = PlanOptions()
    data: DataConfig = DataConfig()
    model: ModelConfig = InflatedConfig()
    augmentation: AugmentationConfig = AugmentationConfig()
    training: TrainingConfig = TrainingConfig()


def preset_names() -> tuple[str, ...]:
    """Sorted names of the package's presets, such as ``bcv`` or ``paper/bcv``."""
    return tuple(sorted(path.relative_to(_HERE).with_suffix("").as_posix() for path in _HERE.rglob("*.yaml")))


def read_preset(name: str) -> Preset:
    """Reads one of `preset_names`, or a YAML file of the same form."""
    known = preset_names()
    path = _HERE / f"{name}.yaml" if name in known else Path(name)
    if name not in known and path.suffix not in (".yaml", ".yml"):
        near = get_close_matches(name, known)
        raise ConfigError(
            "unknown preset",
            expected=f"{', '.join(known)}, or a YAML file",
            got=name,
            hint=f"did you mean {near[0]}?" if near else None,
        )
    values = read_yaml(path)
    if not isinstance(values, dict):
        return parse_settings(Preset, values, file=path)  # which raises
    extended = values.pop("extends", None) or []
    if not isinstance(extended, list) or not all(isinstance(other, str) for other in extended):
        raise ConfigError("invalid extends", expected="a list of presets", got=extended, file=path)
    if unknown := [other for other in extended if other not in known or other == name]:
        raise ConfigError("unknown preset in extends", expected=", ".join(known), got=", ".join(unknown), file=path)
    inherited: dict[str, Any] = {}
    for other in extended:
        inherited = overlay(inherited, read_preset(other).model_dump(exclude_unset=True))
    return parse_settings(Preset, overlay(inherited, values), file=path)


def overlay(below: dict[str, Any], above: dict[str, Any]) -> dict[str, Any]:
    """Merges two sets of settings, section by section; ``above`` takes precedence."""
    return below | {
        key: overlay(below[key], value) if isinstance(value, dict) and isinstance(below.get(key), dict) else value
        for key, value in above.items()
    }
