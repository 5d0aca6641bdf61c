"""The arms of a comparison: methods that differ in named settings and in nothing else."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar, get_args

from pydantic import BaseModel

from inflate3d.config import (
    DECODERS,
    ENCODER_SETTINGS,
    Inflation,
    RunConfig,
    TrainingConfig,
    Volumetric,
    model_type,
)
from inflate3d.errors import ConfigError
from inflate3d.settings import parse_settings, read_yaml, shown

Settings = TypeVar("Settings", bound=BaseModel)

SECTIONS = ("plan", "model", "augmentation", "training")
"""Sections in which arms may differ. All share data, split and held-out cases."""

PLAN_SETTINGS = {"stride"}
"""Plan settings in which they may differ: those that prepared cases do not depend on."""

NEEDED, OPTIONAL = {"data", "out", "seconds"}, {"seed", "threads"}
"""Placeholders of a program's command, written in braces."""

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]*")
_PLACE = re.compile(r"\{(\w+)\}")


@dataclass(frozen=True)
class Arm:
    """One method in a comparison.

    Attributes:
        name: Its name in tables and folders of runs.
        changes: Its own settings by section, such as ``{"model": {"depth": 1}}``.
        command: Command of the program that is this arm; empty for our networks.
    """

    name: str
    changes: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    command: tuple[str, ...] = ()

    def applied_to(self, settings: Settings) -> Settings:
        """A run's or a command's settings with the arm's changes."""
        changed = {}
        for section, values in self.changes.items():
            present = getattr(settings, section, None) if section in SECTIONS else None
            if not isinstance(present, BaseModel):
                known = [name for name in SECTIONS if hasattr(settings, name)]
                raise ConfigError("invalid section in an arm", expected=", ".join(known), got=f"{self.name}: {section}")
            if section == "plan" and not set(values) <= PLAN_SETTINGS:
                raise ConfigError(
                    "an arm changes how cases are prepared, but all arms share the prepared cases",
                    expected=", ".join(f"plan.{name}" for name in PLAN_SETTINGS),
                    got=f"{self.name}: {', '.join(values)}",
                )
            changed[section] = _changed(self.name, section, present, values)
        return settings.model_copy(update=changed)


def _changed(arm: str, section: str, present: BaseModel, values: Mapping[str, Any]) -> BaseModel:
    kind = model_type(str(values["network"])) if "network" in values else type(present)
    kept = present.model_dump() if kind is type(present) else {}
    try:
        return parse_settings(kind, {**kept, **values})
    except ConfigError as error:
        raise ConfigError(
            f"arm {arm}, {section}: {error.what}", expected=error.expected, got=error.got, hint=error.hint
        ) from error


def _varied(section: str, setting: str, values: Mapping[str, Any]) -> tuple[Arm, ...]:
    return tuple(Arm(name, {section: {setting: value}}) for name, value in values.items())


def _encoder(name: str, weights: str = "timm") -> Arm:
    return Arm(name, {"model": {"encoder": name, "weights": weights}})


def _network(name: str) -> Arm:
    """A 3D network with its own batch size and learning rate, and default values for all settings of an encoder."""
    own = ("batch_size", "accumulate", "learning_rate", "warmup_steps", *ENCODER_SETTINGS)
    training = {name: TrainingConfig.model_fields[name].default for name in own}
    return Arm(name, {"model": {"network": name}, "training": training})


OURS = Arm("ours")
WITHOUT_DEPTH = Arm("without-depth", {"model": {"depth": 1}})
WITHOUT_TRANSFER = Arm("without-transfer", {"model": {"weights": "none"}})
WITHOUT_BOTH = Arm("without-both", {"model": {"weights": "none", "depth": 1}})
UNETR = _network("unetr")

ARM_SETS: dict[str, tuple[Arm, ...]] = {
    "depth": (OURS, WITHOUT_DEPTH),
    "paper": (OURS, WITHOUT_DEPTH, WITHOUT_TRANSFER, WITHOUT_BOTH, UNETR),
    "inflation": (*_varied("model", "inflation", {name: name for name in get_args(Inflation)}), WITHOUT_TRANSFER),
    "slices": _varied("model", "depth", {f"slices-{depth}": depth for depth in (5, 1, 3, 9, 11, 21)}),
    "stride": _varied("plan", "stride", {f"stride-{stride}": stride for stride in (1, 2, 3)}),
    "pretraining": (
        *map(_encoder, ("beit", "beit-ssl", "dino", "swint", "videoswint")),
        _encoder("vit", weights="none"),
    ),
    "decoders": _varied("model", "decoder", {name: name for name in DECODERS}),
    "baselines": (OURS, *map(_network, get_args(Volumetric))),
}
"""Built-in comparisons by name; the others are compared with the first arm."""


def find_arms(name: str) -> tuple[Arm, ...]:
    """A built-in set of arms, or the arms of a YAML file."""
    if name in ARM_SETS:
        return ARM_SETS[name]
    if Path(name).suffix in (".yaml", ".yml"):
        return read_arms(Path(name))
    raise ConfigError("unknown set of arms", expected=f"{', '.join(ARM_SETS)}, or a YAML file", got=name)


def read_arms(file: Path) -> tuple[Arm, ...]:
    """Reads arms from YAML: name to changed settings, by section; the first one is the reference.

    Example::

        five-slices: {}
        one-slice: {model: {depth: 1}}
        one-slice-longer: {model: {depth: 1}, training: {steps: 10000}}
        another: {command: [python, train.py, "{data}", "{out}", --seconds, "{seconds}", --seed, "{seed}"]}
    """
    values = read_yaml(file)
    if not isinstance(values, dict) or len(values) < 2:
        raise ConfigError(
            "the file has no arms to compare",
            expected="two arms or more, by name, such as `one-slice: {model: {depth: 1}}`",
            got=shown(values),
            file=file,
        )
    arms = tuple(_read_arm(str(name), changes, file) for name, changes in values.items())
    if arms[0].command:
        raise ConfigError(
            "the first arm must not be a program",
            expected="an inflate3d network, which the others are compared with",
            got=arms[0].name,
            file=file,
        )
    return arms


def _read_arm(name: str, changes: Any, file: Path) -> Arm:
    changes = {} if changes is None else changes
    if not _NAME.fullmatch(name):
        raise ConfigError(
            "the arm's name is not a valid folder name",
            expected="letters, digits and . _ + -",
            got=repr(name),
            file=file,
        )
    if isinstance(changes, dict) and set(changes) == {"command"}:
        return Arm(name, command=_read_command(name, changes["command"], file))
    known = isinstance(changes, dict) and set(changes) <= set(SECTIONS)
    if not (known and all(isinstance(values, dict) for values in changes.values())):
        raise ConfigError(
            f"the settings of arm {name} are not grouped by section",
            expected=f"settings under {', '.join(SECTIONS)}, or a command alone",
            got=shown(changes),
            file=file,
        )
    return Arm(name, changes)


def _read_command(name: str, words: Any, file: Path) -> tuple[str, ...]:
    words = [str(word) if isinstance(word, int | float) else word for word in words] if isinstance(words, list) else []
    used = [place for word in words if isinstance(word, str) for place in _PLACE.findall(word)]
    if not all(isinstance(word, str) for word in words) or not NEEDED <= set(used) <= NEEDED | OPTIONAL:
        raise ConfigError(
            f"invalid command of arm {name}",
            expected="a list of words with {data}, {out} and {seconds}, and if needed {seed} and {threads}",
            got=shown(words),
            file=file,
        )
    return tuple(words)


def difference_in_words(first: RunConfig, config: RunConfig) -> str:
    """How an arm differs from the first one, such as ``depth 1 in place of 5``; empty if it does not."""
    differences = []
    for section in SECTIONS:
        if not hasattr(first, section):
            continue
        before, after = (getattr(each, section).model_dump() for each in (first, config))
        differences += [
            f"{name.replace('_', ' ')} {_in_words(value)} in place of {_in_words(before.get(name))}"
            for name, value in after.items()
            if value != before.get(name)
        ]
    return ", ".join(differences)


def _in_words(value: Any) -> str:
    return "the plan's" if value is None else str(value)
