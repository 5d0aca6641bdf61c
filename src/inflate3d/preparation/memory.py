"""How much memory a training may use on this machine."""

from __future__ import annotations

import os
from dataclasses import dataclass


@dataclass(frozen=True)
class Memory:
    """Memory for a training.

    Attributes:
        usable: Bytes that it may take.
        where: Whose they are, in words.
    """

    usable: int
    where: str


def available_memory() -> Memory:
    """Nine tenths of the first GPU's memory, or where there is none half of the machine's."""
    import torch

    if torch.cuda.is_available():
        total = torch.cuda.get_device_properties(0).total_memory
        return Memory(int(0.9 * total), "the GPU's memory")
    return Memory(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2, "the machine's memory")
