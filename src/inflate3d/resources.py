"""What this machine has: devices, bfloat16, and memory and cores within the limits of containers and batch systems."""

from __future__ import annotations

import logging
import math
import os
import time
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from inflate3d.errors import ConfigError

if TYPE_CHECKING:
    import torch

_ROOT = Path("/")
_AMPERE = (8, 0)
"""Compute capability of the first NVIDIA GPUs that have bfloat16."""

_MEASURED_SIDE = 512
"""Of the matrices whose product is timed; like those of a small vision transformer."""

logger = logging.getLogger(__name__)


def find_device(name: str | None) -> torch.device:
    """The device with this name; by default the GPU if there is one.

    Raises:
        ConfigError: The name is invalid, or the machine does not have the device.
    """
    import torch

    available = ["cpu", *(f"cuda:{number}" for number in range(torch.cuda.device_count()))]
    available += ["mps"] * torch.backends.mps.is_available()
    try:
        device = torch.device(name or ("cuda" if torch.cuda.is_available() else "cpu"))
    except RuntimeError as error:
        raise ConfigError("invalid device", expected=", ".join(available), got=name) from error
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise ConfigError(
            "device not available on this machine",
            expected=", ".join(available),
            got=name,
            hint="leave out the device; for an NVIDIA GPU, check `nvidia-smi` and that torch is a CUDA build",
        ) from error
    return device


def is_faster_in_bfloat16(device: torch.device) -> bool:
    """Whether a device computes faster in bfloat16 than in float32.

    A GPU does from compute capability 8 on. Of the CPUs with AVX-512 BF16 or AMX not all do, so the difference is
    measured, once per process and in a tenth of a second.
    """
    import torch

    if device.type == "cuda":
        return torch.cuda.get_device_capability() >= _AMPERE
    if device.type == "cpu":
        abilities = getattr(torch.cpu, "get_capabilities", dict)()  # which torch 2.8 does not have yet
        return (abilities.get("avx512_bf16", False) or abilities.get("amx_bf16", False)) and bfloat16_speedup() > 1
    return False


@lru_cache(maxsize=1)
def bfloat16_speedup() -> float:
    """How many times as fast as in float32 this CPU multiplies matrices in bfloat16."""
    import torch

    def seconds(kind: torch.dtype) -> float:
        matrix = torch.ones(_MEASURED_SIDE, _MEASURED_SIDE, dtype=kind)
        durations = []
        for _ in range(8):
            started = time.perf_counter()
            torch.mm(matrix, matrix)
            durations.append(time.perf_counter() - started)
        return min(durations)  # others' load only adds

    speedup = seconds(torch.float32) / seconds(torch.bfloat16)
    logger.info("this CPU multiplies matrices in bfloat16 %.1f times as fast as in float32", speedup)
    return speedup


def warn_of_slow_precision(precision: str, device: torch.device) -> None:
    """Warns of bfloat16 on a CPU that has to emulate it (70 times as slow on an AVX2 machine), or is slower in it."""
    if precision == "bf16-mixed" and device.type == "cpu" and not is_faster_in_bfloat16(device):
        logger.warning("this CPU is slower in bfloat16: --precision 32 is faster here than bf16-mixed")


def count_cores(root: Path = _ROOT) -> int:
    """Cores that this process may use, at least 1: by its affinity, and by the CPU quota of its cgroups.

    Args:
        root: Where ``proc`` and ``sys`` are mounted.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quotas = [quota for folder in _cgroups("cpu", root) if (quota := _cpu_quota(folder)) is not None]
    return max(1, min([cores, *(math.ceil(quota) for quota in quotas)]))


def total_memory(root: Path = _ROOT) -> int | None:
    """Bytes of memory that this process could use on an idle machine; None if unknown.

    It is the machine's memory, or the smallest limit of the process's cgroups.

    Args:
        root: Where ``proc`` and ``sys`` are mounted.
    """
    limits = [limit for folder in _cgroups("memory", root) if (limit := _memory_limit(folder)) is not None]
    machine = _meminfo(root).get("MemTotal", _physical_memory())
    return min([*limits, *([] if machine is None else [machine])], default=None)


def free_memory(root: Path = _ROOT) -> int | None:
    """Bytes of memory that this process can use now; None if unknown.

    Args:
        root: Where ``proc`` and ``sys`` are mounted.
    """
    free = [left for folder in _cgroups("memory", root) if (left := _memory_left(folder)) is not None]
    available = _meminfo(root).get("MemAvailable")
    return min([*free, *([] if available is None else [available])], default=None)


def _cgroups(controller: str, root: Path) -> Iterator[Path]:
    """Folders of this process's cgroups, versions 1 and 2, from its own to the root: all limits apply."""
    for line in _read(root / "proc/self/cgroup").splitlines():
        _, controllers, name = line.split(":", 2)
        if controllers and controller not in controllers.split(","):
            continue
        mount = root / "sys/fs/cgroup" / (controller if controllers else "")
        parts = Path(name.lstrip("/")).parts
        if ".." in parts:  # outside of what this container can see
            parts = ()
        for count in range(len(parts), -1, -1):
            yield mount.joinpath(*parts[:count])


def _memory_limit(cgroup: Path) -> int | None:
    return _number(cgroup / "memory.max") or _number(cgroup / "memory.limit_in_bytes")


def _memory_left(cgroup: Path) -> int | None:
    limit = _memory_limit(cgroup)
    if limit is None:
        return None
    used = _number(cgroup / "memory.current") or _number(cgroup / "memory.usage_in_bytes") or 0
    figures = dict(line.split() for line in _read(cgroup / "memory.stat").splitlines())
    cached = int(figures.get("total_inactive_file", figures.get("inactive_file", 0)))  # given up when memory is short
    return max(0, limit - max(0, used - cached))


def _cpu_quota(cgroup: Path) -> float | None:
    """CPU time that a cgroup may use, in cores."""
    quota, _, period = _read(cgroup / "cpu.max").strip().partition(" ")
    if not quota:
        quota, period = _read(cgroup / "cpu.cfs_quota_us").strip(), _read(cgroup / "cpu.cfs_period_us").strip()
    if not quota.isdigit() or not period.isdigit():  # "max", or -1: no limit
        return None
    return int(quota) / int(period)


def _meminfo(root: Path) -> dict[str, int]:
    """Bytes by name, from ``/proc/meminfo``; empty if it does not exist."""
    lines = (line.split(":", 1) for line in _read(root / "proc/meminfo").splitlines())
    return {name: int(figure.split()[0]) * 1024 for name, figure in lines if figure.strip().endswith("kB")}


def _physical_memory() -> int | None:
    if "SC_PHYS_PAGES" not in getattr(os, "sysconf_names", {}):
        return None
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def _number(path: Path) -> int | None:
    text = _read(path).strip()
    return int(text) if text.isdigit() else None


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii")
    except OSError:
        return ""
