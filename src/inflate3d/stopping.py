"""Stops from outside: Ctrl-C, which a person gives, and SIGTERM, which a scheduler sends before it takes the machine.

Ctrl-C ends a command for good, with 130 as shells have it. After SIGTERM a command ends with 75 (``EX_TEMPFAIL`` of
BSD's sysexits.h: a temporary failure, try again), which asks a scheduler to put the job into its queue again. It is not
143: that is what a shell tells of a process that SIGTERM has killed, whether or not anything was saved.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

STOPPED = 130
"""Exit code after Ctrl-C."""

REQUEUE = 75
"""Exit code after SIGTERM: the same command goes on (`inflate3d train` with ``--resume``)."""


class Terminated(KeyboardInterrupt):
    """SIGTERM came; ends what Ctrl-C ends, in the same way."""

    by_scheduler = True


@contextmanager
def ended_by_sigterm() -> Iterator[None]:
    """SIGTERM, too, leaves the block by an exception, so that temporary files and processes are not left behind.

    Raises:
        Terminated: It came.
    """
    if threading.current_thread() is not threading.main_thread():
        yield  # others can't set handlers
        return
    before = signal.signal(signal.SIGTERM, _raise)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def exit_code(stop: BaseException) -> int:
    """What a command ends with after a stop: by its kind, or by what it says of itself (``by_scheduler``)."""
    return REQUEUE if getattr(stop, "by_scheduler", False) else STOPPED


def _raise(number: int, frame: FrameType | None) -> None:
    raise Terminated("stopped by SIGTERM")
