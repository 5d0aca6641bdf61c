"""Mutations of what lies in containers: gzip streams, zip archives of torch, pickles."""

from __future__ import annotations

import gzip
import io
import random
import zipfile
from collections.abc import Callable

from fuzzing import raw
from fuzzing.numbers import integer

_OPERATIONS = bytes(range(0x20, 0x7F)) + bytes(range(0x80, 0x99))


def mutate_gzip(rng: random.Random, data: bytes, inner: Callable[[random.Random, bytes], bytes]) -> bytes:
    """Mutates what is compressed, and now and then the stream itself."""
    if rng.random() < 0.2:
        return raw.mutate(rng, data)
    packed = gzip.compress(inner(rng, gzip.decompress(data)), 1, mtime=0)
    return packed + (rng.randbytes(8) if rng.random() < 0.02 else b"")


def mutate_torch(rng: random.Random, data: bytes) -> bytes:
    """Mutates a torch file: a member of its archive, the archive's index, or its bytes where it is none."""
    if not data.startswith(b"PK") or rng.random() < 0.2:
        return _mutate_pickle(rng, data)
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        members = {info.filename: archive.read(info) for info in archive.infolist()}
    chosen = rng.random()
    name = next(name for name in members if name.endswith("data.pkl"))
    if chosen < 0.25:
        name = rng.choice(list(members))
    members[name] = _mutate_pickle(rng, members[name]) if name.endswith(".pkl") else raw.mutate(rng, members[name])
    if chosen > 0.9:
        members[rng.choice(("archive/data/99", "../out", "archive/constants.pkl", "archive/code/a.py"))] = b"\x80\x02N."
    elif chosen > 0.85:
        del members[rng.choice(list(members))]
    packed = io.BytesIO()
    kind = zipfile.ZIP_DEFLATED if rng.random() < 0.1 else zipfile.ZIP_STORED
    with zipfile.ZipFile(packed, "w", kind) as archive:
        for member, content in members.items():
            archive.writestr(member, content)
    return packed.getvalue()


def _mutate_pickle(rng: random.Random, data: bytes) -> bytes:
    """Mutates bytes; half of the time by other operations and other numbers in their place."""
    if rng.random() < 0.5 or not data:
        return raw.mutate(rng, data)
    changed = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 4))):
        place = rng.randrange(min(len(changed), 4096))
        chosen = rng.random()
        numbers = [at for at in range(min(len(changed), 4096)) if changed[at] in b"JKM"]
        if chosen < 0.5 and numbers:
            place = rng.choice(numbers)
            size = {ord("J"): 4, ord("K"): 1, ord("M"): 2}[changed[place]]
            changed[place + 1 : place + 1 + size] = (integer(rng) % (1 << (8 * size))).to_bytes(size, "little")
        else:
            changed[place] = rng.choice(_OPERATIONS)
    return bytes(changed)
