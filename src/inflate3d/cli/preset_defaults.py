"""A preset's choices as the defaults of a command's options."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeVar

import tyro

from inflate3d.cli.terminal import CommandOptions

Options = TypeVar("Options", bound=CommandOptions)


def preset_defaults(kind: type[Options], words: Sequence[str]) -> Options | Any:
    """Options whose defaults are those of the preset that a command line names.

    Args:
        kind: The command's options.
        words: Its command line.

    Returns:
        What to give tyro as defaults; its mark for none where the command has no presets.

    Raises:
        ConfigError: There is no such preset.
    """
    fields = kind.model_fields
    if "preset" not in fields:
        return tyro.MISSING_NONPROP
    from inflate3d.presets import read_preset

    name = _given(words) or fields["preset"].default
    preset = read_preset(name)
    values = {field: getattr(preset, field) for field in type(preset).model_fields if field in fields}
    required = {field: tyro.MISSING for field, info in fields.items() if info.is_required()}
    chosen: dict[str, Any] = required | values | {"preset": name}
    return kind.model_construct(None, **chosen)


def _given(words: Sequence[str]) -> str | None:
    """What stands behind the last ``--preset``."""
    given = None
    for word, following in zip(words, [*words[1:], None], strict=True):
        if word == "--preset":
            given = following
        elif word.startswith("--preset="):
            given = word.partition("=")[2]
    return given
