"""Parses a command line into a command's options, and turns mistakes into our errors."""

from __future__ import annotations

import argparse
import contextlib
import io
import re
from collections.abc import Iterator, Sequence
from types import ModuleType
from typing import Any, get_type_hints

import tyro
from pydantic import ValidationError
from tyro.constructors import ConstructorRegistry, StructConstructorSpec, StructFieldSpec, StructTypeInfo

from inflate3d.errors import ConfigError
from inflate3d.settings import settings_error

HELP_ALL = "--help-all"
"""Shows the settings that ``--help`` leaves out of long lists."""

_TYRO = (
    tyro.conf.OmitArgPrefixes,
    tyro.conf.FlagCreatePairsOff,
    tyro.conf.AvoidSubcommands,  # of a union the default's kind is taken, so that options of the other are unknown
    tyro.conf.SuppressFixed,
)

_DECORATION = re.compile(r"\x1b\[[\d;]*m|\[/?\w+\]")
"""Colors and rich's markup, some of which tyro leaves in its messages."""

_TOO_MANY = re.compile(r"Unrecognized options: (?!-)")
"""tyro's message about extra words at the end of a command."""


def parse_options(module: ModuleType, command: str, words: Sequence[str]) -> Any:
    """Parses a command's options.

    Args:
        module: The command's module, with its ``Options``.
    """
    kind = module.Options
    in_full = HELP_ALL in words
    words = ["--help" if word == HELP_ALL else word for word in words]
    default = kind.with_defaults(words) if hasattr(kind, "with_defaults") else tyro.MISSING_NONPROP
    registry = ConstructorRegistry()
    if not in_full and {"-h", "--help"} & set(words):
        registry.struct_rule(_common_only)
    shown = io.StringIO()
    try:
        with contextlib.redirect_stderr(shown):
            return tyro.cli(
                kind,
                prog=f"inflate3d {command}",
                description=module.__doc__,
                args=words,
                default=default,
                config=_TYRO,
                registry=registry,
            )
    except ValidationError as error:
        raise settings_error(error) from error
    except SystemExit as stop:
        if not stop.code:
            raise
        refused = next((error for error in _causes(stop) if isinstance(error, ValidationError)), None)
        raise (settings_error(refused) if refused else _usage_error(shown.getvalue(), command)) from stop


def values_of(words: Sequence[str], *names: str, lists: Sequence[str] = ()) -> argparse.Namespace:
    """Parses the options that decide about the defaults of the others.

    Args:
        names: Options with one value, such as ``--preset``; None if not given.
    """
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    for name in names:
        parser.add_argument(name)
    for name in lists:
        parser.add_argument(name, nargs="*", action="extend", default=[])
    try:
        return parser.parse_known_args(list(words))[0]
    except argparse.ArgumentError:  # an option without its value, which the full parser reports
        return parser.parse_args([])


def _common_only(section: StructTypeInfo) -> StructConstructorSpec | None:
    """Hides the settings of a section that are not among its ``common`` ones."""
    common = getattr(section.type, "common", None)
    if common is None or not isinstance(section.default, section.type):
        return None
    hints = get_type_hints(section.type, include_extras=True)
    fields = (
        StructFieldSpec(
            name=name,
            type=hints[name] if name in common else tyro.conf.Suppress[hints[name]],
            default=getattr(section.default, name),
            helptext=field.description,
        )
        for name, field in section.type.model_fields.items()
    )
    return StructConstructorSpec(instantiate=section.type, fields=tuple(fields))


def _causes(error: BaseException) -> Iterator[BaseException]:
    """The chain of errors behind this one, latest first."""
    cause = error.__cause__ or error.__context__
    while cause is not None:
        yield cause
        cause = cause.__cause__ or cause.__context__


def _usage_error(shown: str, command: str) -> ConfigError:
    """Turns tyro's error box (a title, then sections between rules, sometimes in ASCII) into one of our errors."""
    parts = re.split("[─╭╮╰╯]+|-{5,}", _DECORATION.sub("", shown).replace("│", " "))
    title, *said = [" ".join(part.split()) for part in parts if part.strip()] or ["usage"]
    got = " ".join(part for part in said if not part.startswith(("For full helptext", "Argument help")))
    hint = f"`inflate3d {command} --help` lists the options"
    if _TOO_MANY.search(got):
        hint = f"fewer arguments are expected; a shell expands *.nii.gz to many: name the folder instead; {hint}"
    return ConfigError(f"invalid command line: {title.lower()}", got=got or None, hint=hint)
