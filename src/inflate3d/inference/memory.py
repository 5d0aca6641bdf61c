"""How much memory a prediction may take, and how much a window takes."""

from __future__ import annotations

import weakref
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from inflate3d import resources

GIGABYTE = 10**9

USUAL_BUDGET = 3 * GIGABYTE // 2
"""Bytes that a prediction in main memory takes at most, above the weights and the scan, if nothing else is asked."""

_SPARED = 0.9
"""Part of the free memory that is used: others want some, and so does what torch does not tell."""

_UNTOLD = 1.25
"""Libraries under torch hold memory that is no tensor's while they compute: so many times what tensors take."""


def usual_budget(device: torch.device) -> int:
    """Bytes that a prediction may take on a device, if nothing else is asked."""
    free = free_memory(device)
    if device.type == "cuda":
        assert free is not None
        return int(_SPARED * free)
    return USUAL_BUDGET if free is None else min(USUAL_BUDGET, int(_SPARED * free))


def free_memory(device: torch.device) -> int | None:
    """Bytes of a device's memory that nobody uses; none if the system does not tell."""
    if device.type == "cuda":
        reserved = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return torch.cuda.mem_get_info(device)[0] + reserved
    return resources.free_memory()


class LiveTensors(TorchDispatchMode):
    """Counts the bytes of all tensors that are made while it is on, and live at the same time.

    Attributes:
        peak: The most so far.
    """

    def __init__(self) -> None:
        super().__init__()
        self.peak = 0
        self._live: dict[int, int] = {}

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Runs an operation, and counts what it makes."""
        result = function(*args, **(kwargs or {}))
        given = {_place(tensor) for tensor in tree_leaves((args, kwargs)) if isinstance(tensor, Tensor)}
        for tensor in tree_leaves(result):
            if isinstance(tensor, Tensor) and _place(tensor) not in given:  # no view, nor written in place
                self._count(tensor.untyped_storage())
        return result

    @property
    def most_needed(self) -> int:
        """The peak, with what libraries take beside tensors."""
        return int(_UNTOLD * self.peak)

    def _count(self, storage: torch.UntypedStorage) -> None:
        place = storage.data_ptr()
        self._live[place] = storage.nbytes()
        self.peak = max(self.peak, sum(self._live.values()))
        weakref.finalize(storage, self._live.pop, place, None).atexit = False


def _place(tensor: Tensor) -> int:
    return tensor.untyped_storage().data_ptr()
