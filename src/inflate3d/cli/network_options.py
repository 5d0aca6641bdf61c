"""Options that a network has no use for: refused, since they would be ignored without a word."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel

from inflate3d.comparison.arms import Arm
from inflate3d.config import Network
from inflate3d.errors import ConfigError
from inflate3d.presets import read_preset

if TYPE_CHECKING:
    from inflate3d.cli.train import RunOptions

OF_WINDOWS: Mapping[str, tuple[str, ...]] = {
    "plan": ("stride",),
    "model": (
        "encoder",
        "weights",
        "inflation",
        "depth",
        "target",
        "image_size",
        "decoder",
        "decoder_channels",
        "detail_channels",
        "input_scaling",
    ),
    "training": ("encoder_learning_rate", "layer_decay", "freeze", "checkpoint_activations"),
}
"""By section, what only inflated 2D backbones have."""

OF_PATCHES: Mapping[str, tuple[str, ...]] = {"model": ("patch_size", "network_width")}
"""What only 3D networks have."""

Given = dict[tuple[str, str], Any]
"""Values by section and name."""


def check_options(options: RunOptions) -> None:
    """Makes sure that the network has a use for whatever the user gave.

    Args:
        options: A command's options; what they have from their preset, or by default, the user did not give.

    Raises:
        ConfigError: It has none.
    """
    _check_used(_given(options), {options.model.network})


def check_arms(options: RunOptions, arms: Sequence[Arm]) -> None:
    """The same for a comparison: some arm has a use for each option, and each arm for what it has different.

    Raises:
        ConfigError: It is not so.
    """
    networks: dict[str, Network] = {arm.name: arm.applied_to(options).model.network for arm in arms}
    for arm in arms:
        own = {
            (section, name): value
            for section, values in arm.changes.items()
            for name, value in values.items()
            if value != _default(options, section, name)
        }
        _check_used(own, {networks[arm.name]}, arm.name)
    _check_used(_given(options), {*networks.values()})


def _given(options: RunOptions) -> Given:
    """What the user gave: what is otherwise in the preset."""
    preset = read_preset(options.preset)
    found: Given = {}
    for section in ("plan", "model", "training"):
        own, before = getattr(options, section), getattr(preset, section)
        names = type(own).model_fields
        found |= {(section, name): getattr(own, name) for name in names if getattr(own, name) != getattr(before, name)}
    return found


def _default(options: RunOptions, section: str, name: str) -> Any:
    settings: type[BaseModel] = type(getattr(options, section))
    return settings.model_fields[name].default


def _check_used(given: Given, networks: set[Network], arm: str | None = None) -> None:
    if networks == {"inflated"}:
        unused, useful = OF_PATCHES, "those of windows and their 2D backbone"
    elif "inflated" not in networks:
        unused, useful = OF_WINDOWS, f"{_flags(OF_PATCHES['model'])}, and those of data, plan and training"
    else:
        return
    idle = {key: value for key, value in given.items() if key[1] in unused.get(key[0], ())}
    if not idle:
        return
    network = ", ".join(sorted(networks))
    raise ConfigError(
        f"{f'arm {arm}: ' if arm else ''}options that a network of this kind has no use for",
        expected=f"for --network {network}: {useful}",
        got=" ".join(_as_flag(name, value) for (_, name), value in idle.items()),
        hint="leave them out, or choose another --network",
    )


def _flags(names: Iterable[str]) -> str:
    return ", ".join(_flag(name) for name in names)


def _flag(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def _as_flag(name: str, value: Any) -> str:
    parts = value if isinstance(value, list | tuple) else (value,)
    return " ".join([_flag(name), *map(str, parts)])
