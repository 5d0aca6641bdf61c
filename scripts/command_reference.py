"""The reference of the commands, as Markdown: what `inflate3d COMMAND --help-all` prints."""

import contextlib
import io
import os
import re
from collections.abc import Iterator
from unittest import mock

from inflate3d.cli import COMMANDS, main

MARK = "<!-- commands -->"
"""Stands in a page where the commands go."""

_WIDTH = 100
_COLOR = re.compile(r"\x1b\[[\d;]*m")


def command_reference() -> str:
    """A section for each command, in the order of `inflate3d --help`."""
    return "\n".join(_section(name, purpose) for name, purpose in COMMANDS.items())


def help_of(command: str) -> str:
    """What the command's `--help` prints, without its frames."""
    shown = io.StringIO()
    plain = {"COLUMNS": str(_WIDTH), "NO_COLOR": "1", "TERM": "dumb"}
    with mock.patch.dict(os.environ, plain), contextlib.redirect_stdout(shown), contextlib.suppress(SystemExit):
        main([command, "--help-all"])
    return "\n".join(_unframed(_COLOR.sub("", shown.getvalue())))


def _unframed(text: str) -> Iterator[str]:
    for line in text.splitlines():
        said = line.strip("╭╮╰╯│").rstrip("─ ")
        if not set(said) - set(" -─"):
            continue
        if said.startswith(" ") and not said.startswith("  "):  # the title of a group
            yield ""
        yield said


def _section(name: str, purpose: str) -> str:
    return f"## {name}\n\n{purpose[0].upper()}{purpose[1:]}.\n\n```text\n{help_of(name)}\n```\n"
