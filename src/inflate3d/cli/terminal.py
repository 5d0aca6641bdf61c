"""What a command shows: results on stdout, progress on stderr, nothing but one document with ``--json``."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
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

from inflate3d.settings import FrozenModel

Item = TypeVar("Item")


class Interruption(Exception):  # noqa: N818 - not an error, the user wanted it
    """The user or a scheduler stopped the command.

    Args:
        told: How to go on.
        by_scheduler: Whether a scheduler did, which is to put the job into its queue again.
    """

    def __init__(self, told: str, *, by_scheduler: bool = False) -> None:
        self.by_scheduler = by_scheduler
        super().__init__(told)


class CommandOptions(FrozenModel):
    """What every command has."""

    as_json: Annotated[bool, tyro.conf.arg(name="json")] = False
    """Print one JSON document on stdout and nothing else there."""


class Terminal:
    """Where a command shows what it does.

    Args:
        as_json: Whether stdout belongs to the JSON document alone.

    Attributes:
        console: For results.
        status: For progress.
        exit_code: What the command ends with if it comes to its end.
    """

    def __init__(self, *, as_json: bool = False) -> None:
        self.exit_code = 0
        self.console = Console(quiet=as_json)
        self.status = Console(stderr=True)

    def say(self, text: str) -> None:
        """Prints a result as it stands: no line is broken, nothing in it is taken for markup."""
        self.console.print(text, highlight=False, markup=False, soft_wrap=True)

    def tell(self, text: str) -> None:
        """Prints what is being done."""
        self.status.print(text, highlight=False, markup=False, soft_wrap=True)

    def progress(self, items: Iterable[Item], total: int, description: str) -> Iterator[Item]:
        """Passes items through, with a bar on a terminal and one closing line elsewhere."""
        if not self.status.is_terminal:
            yield from items
            self.tell(f"{description}: {total} of {total} done")
            return
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
        with Progress(*columns, TimeElapsedColumn(), TimeRemainingColumn(), console=self.status) as bar:
            yield from bar.track(items, total=total, description=description)

    def table(self, title: str, columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
        """Shows a table; the first column is text, the others are figures."""
        table = Table(title=title, title_justify="left")
        for index, column in enumerate(columns):
            table.add_column(escape(column), justify="right" if index else "left", no_wrap=not index)
        for row in rows:
            table.add_row(*map(escape, row))
        self.console.print(table)
