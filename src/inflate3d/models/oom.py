"""Out-of-memory errors: recognized, retried with less work at a time, or reported as the scan's problem."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TypeVar

import torch

from inflate3d.errors import ConfigError, DataError

Result = TypeVar("Result")

logger = logging.getLogger(__name__)

_CPU_ERRORS = ("allocate memory", "bad_alloc", "could not create a primitive")
"""Errors of torch's allocator, of C++, and of oneDNN, which computes convolutions."""


class MemoryBudgetError(ConfigError):
    """The memory budget is too small for a scan; smaller scans may fit."""


def is_oom(error: BaseException) -> bool:
    """Whether an error means out of memory; for CPUs torch has no error class of its own."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return isinstance(error, RuntimeError) and any(text in str(error) for text in _CPU_ERRORS)


def out_of_memory_error(error: BaseException) -> DataError:
    """The error to report for a scan that does not fit into memory."""
    return DataError(
        "not enough memory to predict the scan",
        got=str(error).partition("\n")[0] or type(error).__name__,
        hint="lower --max-memory or --batch-size, or use a machine with more memory",
    )


class AdaptiveBatchSize:
    """A batch size that is halved whenever memory runs out."""

    def __init__(self, size: int, unit: str = "windows") -> None:
        self.size, self.unit = size, unit

    def run(self, work: Callable[[int], Result]) -> Result:
        """Calls ``work`` with the current batch size, and again with half of it whenever memory runs out."""
        while True:
            try:
                return work(self.size)
            except RuntimeError as error:  # torch.OutOfMemoryError is one
                if self.size == 1 or not is_oom(error):
                    raise
            self.size //= 2
            if torch.cuda.is_available():
                torch.cuda.empty_cache()
            logger.warning("out of memory: the batch size is now %d %s", self.size, self.unit)
