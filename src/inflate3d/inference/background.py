"""A call that goes on beside the caller's own work."""

from __future__ import annotations

import time
from collections.abc import Callable
from threading import Thread
from typing import Generic, TypeVar

Result = TypeVar("Result")


class Background(Generic[Result]):
    """Runs a call in a thread of its own, which dies with the process: nobody who leaves has to wait for it.

    Args:
        call: What to run.
    """

    def __init__(self, call: Callable[[], Result]) -> None:
        self._call = call
        self._result: Result
        self._error: BaseException | None = None
        self._seconds = 0.0
        self._thread = Thread(target=self._run, daemon=True)
        self._thread.start()

    def wait(self) -> tuple[Result, float]:
        """Waits for the end of the call.

        Returns:
            What it returned, and the seconds that it took.

        Raises:
            BaseException: Whatever the call raised.
        """
        self._thread.join()
        if self._error is not None:
            raise self._error
        return self._result, self._seconds

    def finish(self) -> None:
        """Waits for the end of the call, whatever becomes of it."""
        self._thread.join()

    def _run(self) -> None:
        started = time.perf_counter()
        try:
            self._result = self._call()
        except BaseException as error:  # noqa: BLE001 - told to whoever waits
            self._error = error
        self._seconds = time.perf_counter() - started
