"""What runs in the background, as MONAI Label's clients see it: a training, predictions of many cases, scoring."""

from __future__ import annotations

import secrets
from collections import deque
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal

State = Literal["RUNNING", "DONE", "ERROR", "STOPPED"]

DETAILS = 20
"""Lines about a task that are kept."""

MOST_TASKS = 100


@dataclass
class Task:
    """Work in the background.

    Attributes:
        request: What was asked for.
        details: Lines about its progress, newest last; there is always one.
        result: What came of it.
    """

    request: dict[str, Any]
    state: State = "RUNNING"
    details: deque[str] = field(default_factory=lambda: deque(["started"], maxlen=DETAILS))
    result: dict[str, Any] | None = None
    id: str = field(default_factory=lambda: secrets.token_hex(8))
    started: datetime = field(default_factory=datetime.now)
    ended: datetime | None = None

    @property
    def running(self) -> bool:
        return self.state == "RUNNING"

    def end(self, state: State, line: str, result: dict[str, Any] | None = None) -> None:
        """Sets how it ended, unless it has ended already."""
        if self.running:
            self.details.append(line)
            self.result, self.ended, self.state = result, datetime.now(), state

    def to_dict(self) -> dict[str, Any]:
        times = {"start_ts": self.started, "end_ts": self.ended}
        return {
            "id": self.id,
            "status": self.state,
            "request": self.request,
            **{name: f"{time:%Y-%m-%d %H:%M:%S}" for name, time in times.items() if time is not None},
            "details": list(self.details),
            **({} if self.result is None else {"result": self.result}),
        }


class TaskList:
    """The tasks of one kind, of which one runs at a time."""

    def __init__(self) -> None:
        self._tasks: deque[Task] = deque(maxlen=MOST_TASKS)

    def add(self, task: Task) -> Task:
        self._tasks.append(task)
        return task

    @property
    def newest(self) -> Task | None:
        return self._tasks[-1] if self._tasks else None

    @property
    def running(self) -> Task | None:
        newest = self.newest
        return newest if newest is not None and newest.running else None

    def all(self) -> list[Task]:
        return list(self._tasks)
