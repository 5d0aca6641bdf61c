"""How much memory a training may use on this machine."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

from inflate3d.io.damage import machine_memory

_GPU_DEVICES = ("/dev/nvidiactl", "/dev/nvidia0", "/dev/kfd", "/dev/dxg", "/dev/nvhost-gpu", "/dev/nvgpu")
"""Of NVIDIA's and AMD's drivers, of Windows' subsystem for Linux, and of Jetson boards."""

_ASSUMED = 8 << 30
"""Bytes, where the system doesn't tell."""


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
    if _may_have_gpu():
        import torch

        if torch.cuda.is_available():
            total = torch.cuda.get_device_properties(0).total_memory
            return Memory(int(0.9 * total), "the GPU's memory")
    if (whole := machine_memory()) is None:
        return Memory(_ASSUMED, "an assumed memory, which the system doesn't tell")
    return Memory(whole // 2, "the machine's memory")


def _may_have_gpu() -> bool:
    """Whether it is worth the seconds of importing torch: on Linux a GPU's driver shows itself as a device."""
    return sys.platform != "linux" or any(Path(device).exists() for device in _GPU_DEVICES)
