"""What a command prints: results on stdout, progress and messages on stderr; with ``--json`` one document on stdout."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Annotated, TypeVar

import tyro
from rich.console import Console
from rich.markup import escape
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table

from inflate3d.errors import plain_text
from inflate3d.settings import FrozenModel

Item = TypeVar("Item")


class CommandOptions(FrozenModel):
    """Options that every command has."""

    as_json: Annotated[bool, tyro.conf.arg(name="json")] = False
    """Print one JSON document on stdout and nothing else there."""


class _Console(Console):
    def on_broken_pipe(self) -> None:
        """Lets `main` see that nobody reads any more; rich exits with 1 instead."""
        raise  # noqa: PLE0704 - called while a BrokenPipeError is handled


class Terminal:
    """Prints results, messages and progress.

    Attributes:
        exit_code: The command's exit code if it completes.
    """

    def __init__(self, *, as_json: bool = False) -> None:
        self.exit_code = 0
        self.console = _Console(quiet=as_json)
        # FORCE_COLOR, which Jupyter sets, does not make a terminal where bars can be drawn
        self.status = _Console(stderr=True, force_terminal=sys.stderr.isatty())

    def print(self, text: str) -> None:
        """Prints a result verbatim: no line wrapping, no markup."""
        self.console.print(text, highlight=False, markup=False, soft_wrap=True)

    def log(self, text: str) -> None:
        """Prints a status message."""
        self.status.print(text, highlight=False, markup=False, soft_wrap=True)

    @contextmanager
    def logging(self) -> Iterator[None]:
        """Prints what the package logs in the meantime (``logging.getLogger("inflate3d")``), from INFO up."""
        logger, handler = logging.getLogger("inflate3d"), _LogHandler(self)
        before = logger.level
        logger.addHandler(handler)
        logger.setLevel(logging.INFO)
        try:
            yield
        finally:
            logger.removeHandler(handler)
            logger.setLevel(before)

    def progress(self, items: Iterable[Item], total: int, description: str) -> Iterator[Item]:
        """Passes items through, with a progress bar on a terminal and a single line elsewhere."""
        if not self.status.is_terminal:
            yield from items
            self.log(f"{description}: {total} of {total} done")
            return
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
        with Progress(*columns, TimeElapsedColumn(), TimeRemainingColumn(), console=self.status) as bar:
            yield from bar.track(items, total=total, description=description)

    def table(self, title: str, columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
        """Prints a table; the first column is text, the others are numbers."""
        table = Table(title=title, title_justify="left")
        for index, column in enumerate(columns):
            table.add_column(escape(column), justify="right" if index else "left", no_wrap=not index)
        for row in rows:
            table.add_row(*map(escape, row))
        self.console.print(table)


class _LogHandler(logging.Handler):
    def __init__(self, terminal: Terminal) -> None:
        super().__init__()
        self.terminal = terminal

    def emit(self, record: logging.LogRecord) -> None:
        prefix = f"{record.levelname.lower()}: " if record.levelno >= logging.WARNING else ""
        self.terminal.log(prefix + plain_text(record.getMessage()))
