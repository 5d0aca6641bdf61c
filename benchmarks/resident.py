"""What a process holds in memory, by Linux's own count.

``resource.getrusage(...).ru_maxrss`` is of no use here: a process inherits the peak of the one that started it.
"""

from __future__ import annotations

from pathlib import Path

MEGABYTE = 2**20


def resident_bytes() -> int:
    """Bytes that this process holds now."""
    return _status("VmRSS")


def peak_bytes() -> int:
    """Bytes that this process has held at most, since it started or since `forget_peak`."""
    return _status("VmHWM")


def forget_peak() -> None:
    """Lets the peak start anew from what is held now."""
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")


def _status(what: str) -> int:
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith(f"{what}:"))
