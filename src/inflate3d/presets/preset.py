"""What a preset can choose, and where presets are found."""

from __future__ import annotations

from difflib import get_close_matches
from pathlib import Path
from typing import Any

from inflate3d.config import AugmentationConfig, DataConfig, ModelOptions, TrainingOptions
from inflate3d.errors import ConfigError
from inflate3d.preparation.plan_options import PlanOptions
from inflate3d.settings import FrozenModel, parse_settings, read_yaml

_HERE = Path(__file__).parent


class Preset(FrozenModel):
    """Choices for a dataset, made beforehand; options of a command go before them.

    A file may build on presets of the package: ``extends: [bcv]``; its own choices go before theirs, and a later one's
    before an earlier one's.

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
    """Names of the presets that come with the package, such as ``bcv`` or ``paper/bcv``, sorted."""
    return tuple(sorted(path.relative_to(_HERE).with_suffix("").as_posix() for path in _HERE.rglob("*.yaml")))


def read_preset(name: str) -> Preset:
    """Reads a preset.

    Args:
        name: One of `preset_names`, or a YAML file of the same form.

    Raises:
        ConfigError: There is none of that name, or the file holds a key or a value that is not known.
    """
    known = preset_names()
    path = _HERE / f"{name}.yaml" if name in known else Path(name)
    if name not in known and path.suffix not in (".yaml", ".yml"):
        near = get_close_matches(name, known)
        raise ConfigError(
            "no such preset",
            expected=f"{', '.join(known)}, or a YAML file",
            got=name,
            hint=f"did you mean {near[0]}?" if near else None,
        )
    values = read_yaml(path)
    if not isinstance(values, dict):
        return parse_settings(Preset, values, file=path)  # which tells what is wrong
    extended = values.pop("extends", None) or []
    if not isinstance(extended, list) or not all(isinstance(other, str) for other in extended):
        raise ConfigError("extends is not usable", expected="a list of presets", got=extended, file=path)
    if unknown := [other for other in extended if other not in known or other == name]:
        raise ConfigError("extends names no preset", expected=", ".join(known), got=", ".join(unknown), file=path)
    inherited: dict[str, Any] = {}
    for other in extended:
        inherited = _over(inherited, read_preset(other).model_dump(exclude_unset=True))
    return parse_settings(Preset, _over(inherited, values), file=path)


def _over(below: dict[str, Any], above: dict[str, Any]) -> dict[str, Any]:
    """Both sets of choices, section by section; ``above`` goes first."""
    return below | {
        key: _over(below[key], value) if isinstance(value, dict) and isinstance(below.get(key), dict) else value
        for key, value in above.items()
    }
