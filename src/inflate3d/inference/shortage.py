"""Memory that is used up while a network computes: work is done in halves, and in halves of them."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import TypeVar

import torch

from inflate3d.errors import ConfigError, DataError

Result = TypeVar("Result")


def is_shortage(error: BaseException) -> bool:
    """Whether an error means that memory is used up; on a CPU torch has no error of its own for that."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return isinstance(error, RuntimeError) and "allocate memory" in str(error)


def lack_of_memory(error: BaseException) -> DataError:
    """What to tell of a scan that a shortage kept from being predicted."""
    return DataError(
        "memory is not enough for the scan",
        got=str(error).partition("\n")[0] or type(error).__name__,
        hint="give a smaller --max-memory or --batch-size, or predict it on a machine that has more",
    )


class TooLittleMemoryError(ConfigError):
    """The memory that the user allows is too little for a scan; others may be smaller."""


class Shrinking:
    """Work on so many at a time, fewer after a shortage of memory.

    Args:
        size: How many at first.
        what: What they are, for the message.

    Attributes:
        size: How many now.
    """

    def __init__(self, size: int, what: str = "windows") -> None:
        self.size, self.what = size, what

    def run(self, work: Callable[[int], Result]) -> Result:
        """Does work on as many as the memory allows, half as many after each shortage, down to one.

        Args:
            work: Takes how many it may do at a time.

        Raises:
            RuntimeError: Memory is not enough for one, or whatever else the work raises.
        """
        while True:
            try:
                return work(self.size)
            except RuntimeError as error:  # which torch.OutOfMemoryError is
                if self.size == 1 or not is_shortage(error):
                    raise
            self.size //= 2
            if torch.cuda.is_available():
                torch.cuda.empty_cache()
            told = f"memory is not enough for so many {self.what} at a time: going on with {self.size}"
            warnings.warn(told, ResourceWarning, stacklevel=2)
