"""Numbers at which programs break: ends of types, signs, sizes that nothing holds."""

from __future__ import annotations

import random

INTEGERS = (
    0, 1, -1, 2, 3, 7, 8, 16, 127, 128, 255, 256, 1024, 32767, -32768, 65535, 65536, 1_000_000, 2**24,
    2**31 - 1, -(2**31), 2**32 - 1, 2**32, 2**53, 2**63 - 1, -(2**63), 2**64, 10**18, 10**30,
)  # fmt: skip

FLOATS = (0.0, -0.0, 1e-45, 1e-12, 0.5, -1.0, 1.5, 1e6, 1e30, 3.5e38, 1e308, float("nan"), float("inf"), float("-inf"))

TEXTS = (
    "", " ", "0", "-1", "nan", "inf", "1e999", "9" * 30, "9" * 5000, "true", "null", "None", "LIST", "LOCAL", "..",
    "../..", "../../etc/passwd", "/etc/passwd", "/dev/zero", "/dev/stdin", "C:\\NUL", "CON", "a\0b", "\x1b[2J",
    "\ud800", "é" * 300, "x" * 100_000, "%s%s%s%n", "scan%03d.raw 1 9 1", "%", "{}", "[]", "()",
    "(1,0,0) (0,1,0) (0,0,1)", "raw", "gzip", "bzip2", "ascii", "hex", "int", "float", "block", "1 1 1",
    "1000000 1000000 1000000", "*", "&a [*a]",
    "!!python/object/apply:os.system [id]",
)  # fmt: skip


def integer(rng: random.Random) -> int:
    return rng.choice(INTEGERS) if rng.random() < 0.7 else rng.randrange(-300, 300)


def real(rng: random.Random) -> float:
    return rng.choice(FLOATS) if rng.random() < 0.8 else rng.uniform(-1000, 1000)


def text(rng: random.Random) -> str:
    chosen = rng.random()
    if chosen < 0.6:
        return rng.choice(TEXTS)
    return str(integer(rng)) if chosen < 0.8 else repr(real(rng))
