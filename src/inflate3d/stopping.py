"""Stop signals: Ctrl-C (SIGINT) from the user, SIGTERM from a scheduler that needs the machine.

After Ctrl-C a command exits with 130, as shells have it. After SIGTERM it exits with 75 (``EX_TEMPFAIL`` of BSD's
sysexits.h: temporary failure, try again), which asks a scheduler to requeue the job. Not with 143: that is what a
shell reports for a process that SIGTERM has killed, whether or not anything was saved.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM)

STOPPED = 130
"""Exit code after Ctrl-C."""

REQUEUE = 75
"""Exit code after SIGTERM: the same command resumes the work (`inflate3d train` with ``--resume``)."""


class Interrupted(BaseException):
    """A signal stopped the work. Not an `Exception`, so that error handlers do not catch it.

    It is not a `KeyboardInterrupt`, which Lightning turns into an exit of its own.

    Args:
        step: Number of completed optimizer steps of a training that has written its checkpoint.
    """

    def __init__(self, message: str = "stopped", *, number: int = signal.SIGINT, step: int | None = None) -> None:
        self.number, self.step = number, step
        super().__init__(message)

    def with_hint(self, hint: str) -> Interrupted:
        """The same, with a hint on how to resume."""
        return Interrupted(f"{self}; {hint}", number=self.number, step=self.step)


@contextmanager
def interruptible(*numbers: signal.Signals) -> Iterator[None]:
    """Raises `Interrupted` at these signals (both if none is given), and restores all handlers afterwards.

    An exception leaves the block, so that temporary files and processes are cleaned up.
    """
    if threading.current_thread() is not threading.main_thread():
        yield  # others can't set handlers
        return
    before = {number: signal.getsignal(number) for number in STOP_SIGNALS}
    for number in numbers or STOP_SIGNALS:
        signal.signal(number, _interrupt)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def exit_code(stop: BaseException) -> int:
    """What a command exits with after an `Interrupted` or a `KeyboardInterrupt`."""
    return REQUEUE if isinstance(stop, Interrupted) and stop.number == signal.SIGTERM else STOPPED


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise Interrupted(f"stopped by {signal.Signals(number).name}", number=number)
