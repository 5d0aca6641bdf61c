"""Reading in processes of their own, which may crash, hang or run out of memory without harm."""

from __future__ import annotations

import gc
import os
import re
import resource
import select
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

SECONDS = 10.0
"""Longest time for one file."""

MEMORY = 512 << 20
"""Bytes of memory that reading a file of a few kilobytes may add."""

_LIMIT = 4 << 30
"""Bytes of address space that a process may add, touched or not: an allocation of more fails, and is a finding.

One GiB of them is what the allocator of a library (mimalloc) reserves for itself.
"""

_MEMORY_DISK = "/dev/shm" if Path("/dev/shm").is_dir() else None  # noqa: S108 - a folder of our own in it

_BATCH = 500
"""Files that one process reads."""


@dataclass(frozen=True)
class Finding:
    """What must not happen.

    Attributes:
        number: The mutant's.
        what: ``crash``, ``hang``, ``memory`` or ``exception``.
        details: The signal or the traceback.
    """

    number: int
    what: str
    details: str


@dataclass(frozen=True)
class Outcome:
    """What came of one mutant that did no harm: whether it was read or refused, and how long that took."""

    number: int
    is_read: bool
    seconds: float
    added: int


Write = Callable[[int, Path], Path]
Read = Callable[[Path], object]


def run(numbers: range, write: Write, read: Read, refusal: type[Exception]) -> Iterator[Outcome | Finding]:
    """Reads mutants one by one, each with limits of time and memory.

    Args:
        numbers: The mutants.
        write: Writes one into an empty folder, and gives what to read.
        read: Reads it.
        refusal: What a reader may raise.
    """
    start = numbers.start
    while start < numbers.stop:
        batch = range(start, min(start + _BATCH, numbers.stop))
        for result in _run_batch(batch, write, read, refusal):
            yield result
            start = result.number + 1


def _run_batch(numbers: range, write: Write, read: Read, refusal: type[Exception]) -> Iterator[Outcome | Finding]:
    """Reads mutants in one process, up to the first that ends it."""
    incoming, outgoing = os.pipe()
    sys.stdout.flush()
    with tempfile.TemporaryDirectory(prefix="fuzz-", dir=_MEMORY_DISK) as folder:
        child = os.fork()
        if child == 0:
            os.close(incoming)
            _work(numbers, write, read, refusal, Path(folder), outgoing)
        os.close(outgoing)
        yield from _watch(child, incoming, numbers)


def _watch(child: int, incoming: int, numbers: range) -> Iterator[Outcome | Finding]:
    current, ended = numbers.start, False
    with os.fdopen(incoming, "rb", buffering=0) as stream:
        pending = b""
        try:
            while True:
                if not select.select([stream], [], [], SECONDS)[0]:
                    ended = True
                    yield Finding(current, "hang", f"no end after {SECONDS:g} s")
                    return
                read = stream.read(1 << 16)
                if not read:
                    break
                *lines, pending = (pending + read).split(b"\n")
                for line in lines:
                    result = _parsed(line.decode("utf-8", "replace"))
                    current = result.number + 1
                    yield result
        finally:
            if current < numbers.stop:
                os.kill(child, signal.SIGKILL)
            _, status = os.waitpid(child, 0)
    if not ended and current < numbers.stop and not (os.WIFEXITED(status) and os.WEXITSTATUS(status) == _AGAIN):
        details = f"signal {os.WTERMSIG(status)}" if os.WIFSIGNALED(status) else f"exit code {os.WEXITSTATUS(status)}"
        yield Finding(current, "crash", details)


_FAILED_ALLOCATION = re.compile(r"(can't|cannot|not|to|not enough memory to) allocate|bad_alloc|out of memory", re.I)

_AGAIN = 77
"""The exit code of a process that asks for a fresh one."""


def _parsed(line: str) -> Outcome | Finding:
    number, what, *rest = line.split("\t")
    if what in ("read", "refused"):
        return Outcome(int(number), what == "read", float(rest[0]), int(rest[1]))
    return Finding(int(number), what, rest[0].replace("\\n", "\n"))


def _work(numbers: range, write: Write, read: Read, refusal: type[Exception], folder: Path, outgoing: int) -> None:
    """The child's part; it never returns."""
    nothing = os.open(os.devnull, os.O_RDWR)
    for stream in (0, 1, 2):
        os.dup2(nothing, stream)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    before = _status("VmHWM")
    most = _status("VmSize") + _LIMIT
    resource.setrlimit(resource.RLIMIT_AS, (most, most))
    gc.disable()
    os.chdir(folder)
    for number in numbers:
        place = folder / "mutant"
        place.mkdir()
        path = write(number, place)
        began = time.perf_counter()
        what, details = _read_one(path, read, refusal)
        seconds = time.perf_counter() - began
        added = _status("VmHWM") - before
        if what in ("read", "refused") and added > MEMORY:
            what, details = "memory", f"{added >> 20} MiB more than before; it was {what}"
        rest = f"{seconds}\t{added}" if what in ("read", "refused") else details.replace("\n", "\\n").replace("\t", " ")
        os.write(outgoing, f"{number}\t{what}\t{rest}\n".encode("utf-8", "replace"))
        if what == "memory":
            os._exit(_AGAIN)
        shutil.rmtree(place)
        if number % 50 == 0:
            gc.collect()
    os._exit(0)


def _read_one(path: Path, read: Read, refusal: type[Exception]) -> tuple[str, str]:
    try:
        read(path)
    except refusal as error:
        if _ran_out(error):
            return "memory", f"an allocation failed: {error}"
        return _told_badly(error) or ("refused", "")
    except BaseException as error:
        return "exception", "".join(traceback.format_exception(error)[-12:])[-3000:]
    return "read", ""


def _told_badly(error: Exception) -> tuple[str, str] | None:
    """Whether an error can't be shown."""
    try:
        shown = str(error)
    except Exception as wrong:
        return "exception", f"the error can't be shown: {wrong!r}"
    return ("exception", f"a message of {len(shown)} characters: {shown[:200]}") if len(shown) > 20_000 else None


def _ran_out(error: BaseException | None) -> bool:
    while error is not None:
        if isinstance(error, MemoryError) or _FAILED_ALLOCATION.search(str(error)):
            return True
        error = error.__cause__ or error.__context__
    return False


def _status(name: str) -> int:
    """A figure of this process in bytes: VmHWM, the most memory that it ever had, or VmSize, its address space."""
    with open("/proc/self/status", encoding="ascii", errors="replace") as status:  # noqa: PTH123 - the fastest way
        return next(int(line.split()[1]) * 1024 for line in status if line.startswith(name))
