"""Memory for predictions: how much they may use, and how much a window needs."""

from __future__ import annotations

import weakref
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from inflate3d import resources
from inflate3d.models.oom import MemoryBudgetError

GIGABYTE = 10**9

DEFAULT_BUDGET = 3 * GIGABYTE // 2
"""Default limit of main memory for a prediction in bytes, in addition to the weights and the scan."""

_USED_FRACTION = 0.9
"""Fraction of the free memory to use; the rest is for other programs and for what torch does not report."""

_OVERHEAD = 1.25
"""Total memory divided by that of the tensors: libraries below torch also allocate memory."""

_BAND_BYTES = {"cpu": 2**24}
"""Size of a band's logits; on a CPU small enough for its caches."""

_BAND_BYTES_ELSEWHERE = 2**28


@dataclass(frozen=True)
class Budget:
    """The memory that a prediction may use.

    Attributes:
        memory: Gigabytes in addition to the weights and the scan; None for the default.
        reserved: Bytes of it that an array on the device uses; with the default limit, arrays do not count.
    """

    device: torch.device
    memory: float | None
    reserved: int = 0

    @property
    def bytes(self) -> int:
        return default_budget(self.device) if self.memory is None else int(self.memory * GIGABYTE)

    def reserve(self, size: int) -> Budget:
        """The budget that is left while an array of this size is on the device.

        Args:
            size: Bytes.
        """
        if self.memory is not None:
            room, limit, hint = self.bytes, "the memory budget", "raise --max-memory, or leave it out"
        else:
            free = free_memory(self.device)
            room, limit = size if free is None else int(_USED_FRACTION * free), "the free memory"
            hint = "predict on a machine with more memory, or train with --planes one"
        if size > room:
            raise MemoryBudgetError(
                f"averaging all planes needs more than {limit}",
                expected=f"at least {size / GIGABYTE:.2f} gigabytes, for the probabilities of all classes",
                got=f"{room / GIGABYTE:.2f}",
                hint=hint,
            )
        return replace(self, reserved=size if self.memory is not None else 0)

    @property
    def band_bytes(self) -> int:
        """Bytes for the logits of a band."""
        usual = _BAND_BYTES.get(self.device.type, _BAND_BYTES_ELSEWHERE)
        return usual if self.memory is None else min(usual, int(self.memory * GIGABYTE) // 16)


def default_budget(device: torch.device) -> int:
    """Bytes that a prediction may use on a device by default."""
    free = free_memory(device)
    if device.type == "cuda":
        assert free is not None
        return int(_USED_FRACTION * free)
    return DEFAULT_BUDGET if free is None else min(DEFAULT_BUDGET, int(_USED_FRACTION * free))


def free_memory(device: torch.device) -> int | None:
    """Free bytes of a device's memory; None if unknown."""
    if device.type == "cuda":
        reserved = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return torch.cuda.mem_get_info(device)[0] + reserved
    return resources.free_memory()


class LiveTensors(TorchDispatchMode):
    """Measures the peak memory of tensors that are created while it is active."""

    def __init__(self) -> None:
        super().__init__()
        self.peak = 0
        self._live: dict[int, int] = {}

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = function(*args, **(kwargs or {}))
        given = {_address(tensor) for tensor in tree_leaves((args, kwargs)) if isinstance(tensor, Tensor)}
        for tensor in tree_leaves(result):
            if isinstance(tensor, Tensor) and _address(tensor) not in given:  # neither a view nor written in place
                self._count(tensor.untyped_storage())
        return result

    @property
    def most_needed(self) -> int:
        """The peak, including what libraries need besides tensors."""
        return int(_OVERHEAD * self.peak)

    def _count(self, storage: torch.UntypedStorage) -> None:
        address = storage.data_ptr()
        self._live[address] = storage.nbytes()
        self.peak = max(self.peak, sum(self._live.values()))
        weakref.finalize(storage, self._live.pop, address, None).atexit = False


def _address(tensor: Tensor) -> int:
    return tensor.untyped_storage().data_ptr()
