"""Mutations of bytes whose meaning is not known."""

from __future__ import annotations

import random

from fuzzing.numbers import integer

_LONGEST = 1 << 18


def mutate(rng: random.Random, data: bytes) -> bytes:
    changed = bytearray(data)
    for _ in range(rng.choice((1, 1, 1, 2, 4, 16))):
        rng.choice(_MUTATIONS)(rng, changed)
    return bytes(changed[:_LONGEST])


def _place(rng: random.Random, data: bytearray) -> int:
    """Headers stand at the start, so half of the changes fall there."""
    most = len(data) if rng.random() < 0.5 else min(len(data), 512)
    return rng.randrange(most) if most else 0


def _flip(rng: random.Random, data: bytearray) -> None:
    if data:
        data[_place(rng, data)] ^= 1 << rng.randrange(8)


def _overwrite(rng: random.Random, data: bytearray) -> None:
    size = rng.choice((1, 2, 4, 8))
    place = _place(rng, data)
    number = integer(rng) % (1 << (8 * size))
    data[place : place + size] = number.to_bytes(size, rng.choice(("little", "big")))


def _cut(rng: random.Random, data: bytearray) -> None:
    del data[_place(rng, data) :]


def _remove(rng: random.Random, data: bytearray) -> None:
    place = _place(rng, data)
    del data[place : place + rng.randrange(1, 64)]


def _insert(rng: random.Random, data: bytearray) -> None:
    place = _place(rng, data)
    data[place:place] = rng.randbytes(rng.randrange(1, 64))


def _splice(rng: random.Random, data: bytearray) -> None:
    """A part of the file stands in another place too."""
    place, source = _place(rng, data), _place(rng, data)
    size = rng.randrange(1, 256)
    data[place : place + (size if rng.random() < 0.5 else 0)] = data[source : source + size]


_MUTATIONS = (_flip, _flip, _overwrite, _overwrite, _cut, _remove, _insert, _splice)
