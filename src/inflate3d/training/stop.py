"""A training that is stopped from outside: by Ctrl-C, or by a scheduler's SIGTERM."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Interrupted(Exception):  # noqa: N818 - not an error, the user wanted it
    """The training was stopped by a signal, after a checkpoint was written.

    Attributes:
        step: Optimizer steps done.
        signal: The signal's number.
    """

    def __init__(self, step: int, number: int = signal.SIGINT) -> None:
        self.step, self.signal = step, number
        super().__init__(f"stopped after step {step}")

    @property
    def by_scheduler(self) -> bool:
        """Whether it was SIGTERM, after which the job is to be put into its queue again."""
        return self.signal == signal.SIGTERM


@contextmanager
def signals_given_back() -> Iterator[None]:
    """Leaves the process's signal handlers as they were, whatever a training does with them."""
    before = {number: signal.getsignal(number) for number in STOP_SIGNALS}
    try:
        yield
    finally:
        if threading.current_thread() is threading.main_thread():
            for number, handler in before.items():
                signal.signal(number, handler)
