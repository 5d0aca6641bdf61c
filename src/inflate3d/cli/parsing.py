"""From the words of a command line to a command's options, mistakes told as all others are."""

from __future__ import annotations

import contextlib
import io
import re
import sys
from collections.abc import Iterator, Sequence
from types import ModuleType
from typing import Any

import tyro
from pydantic import ValidationError

from inflate3d.cli.preset_defaults import preset_defaults
from inflate3d.errors import ConfigError
from inflate3d.settings import settings_error

_FRAME = "╭╮╰╯─│ "
_DECORATION = re.compile(r"\x1b\[[\d;]*m|\[/?\w+\]")
"""Colors and rich's markup, some of which tyro leaves in its messages."""

_TOO_MANY = re.compile(r"Unrecognized options: (?!-)")
"""What tyro says of words behind the last one that the command takes."""


class UsageError(ConfigError):
    """A command line that can't be understood.

    Attributes:
        shown: How tyro tells it on a terminal.
    """

    shown = ""


def parse_options(module: ModuleType, command: str, words: Sequence[str]) -> Any:
    """A command's options.

    Args:
        module: The command's, with its ``Options``.
        command: Its name.
        words: What stands behind the name.

    Raises:
        UsageError: The words name no options of the command, or what they give is not of an option's kind.
        ConfigError: An option has a value that it can't have.
        SystemExit: Help was asked for, and is shown.
    """
    told = io.StringIO()
    try:
        with contextlib.redirect_stderr(told):
            return tyro.cli(
                module.Options,
                prog=f"inflate3d {command}",
                description=module.__doc__,
                args=words,
                default=preset_defaults(module.Options, words),
                config=(tyro.conf.OmitArgPrefixes, tyro.conf.FlagCreatePairsOff),
            )
    except ValidationError as error:
        raise settings_error(error) from error
    except SystemExit as stop:
        if not stop.code:
            raise
        refused = next((error for error in _causes(stop) if isinstance(error, ValidationError)), None)
        raise (settings_error(refused) if refused else _usage_error(told.getvalue(), command)) from stop


def show_usage(error: UsageError) -> None:
    """Tells a mistake on the terminal."""
    print(error.shown, end="", file=sys.stderr)


def _causes(error: BaseException) -> Iterator[BaseException]:
    """The errors that led to one, the latest first."""
    cause = error.__cause__ or error.__context__
    while cause is not None:
        yield cause
        cause = cause.__cause__ or cause.__context__


def _usage_error(shown: str, command: str) -> UsageError:
    """What stands in tyro's box: a title in its frame, then parts with lines between them."""
    lines = [_DECORATION.sub("", line) for line in shown.splitlines()]
    title = lines[0].strip(_FRAME).lower() if lines else "usage"
    parts: list[list[str]] = [[]]
    for line in lines[1:]:
        text = line.strip(_FRAME)
        if text:
            parts[-1].append(text)
        elif "─" in line:
            parts.append([])
    said = [" ".join(part) for part in parts if part and not part[0].startswith(("For full helptext", "Argument help"))]
    got, hint = " ".join(said), f"`inflate3d {command} --help` tells the options"
    if _TOO_MANY.search(got):
        hint = f"it takes fewer words; a shell makes many of *.nii.gz: name the folder instead; {hint}"
        shown += f"{hint}\n"
    error = UsageError(f"the command line can't be understood: {title}", got=got or None, hint=hint)
    error.shown = shown
    return error
