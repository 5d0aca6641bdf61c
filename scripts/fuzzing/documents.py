"""Mutations of JSON, YAML and tables: of their structure, their values and their text."""

from __future__ import annotations

import json
import random
from typing import Any

import yaml

from fuzzing import raw
from fuzzing.numbers import integer, real, text

_DEPTHS = (3, 100, 1000, 20_000)


def mutate_json(rng: random.Random, data: bytes) -> bytes:
    if rng.random() < 0.2:
        return raw.mutate(rng, data)
    changed = _changed(rng, json.loads(data))
    shown = json.dumps(changed)
    if rng.random() < 0.1:
        depth = rng.choice(_DEPTHS)
        shown = _inserted(rng, shown, "[" * depth + "]" * rng.choice((depth, 0)))
    return shown.encode("utf-8", "surrogatepass")


def mutate_yaml(rng: random.Random, data: bytes) -> bytes:
    chosen = rng.random()
    if chosen < 0.2:
        return raw.mutate(rng, data)
    if chosen < 0.5:
        return _inserted(rng, data.decode(), rng.choice(_YAML)).encode("utf-8", "surrogatepass")
    changed = _changed(rng, yaml.safe_load(data))
    return yaml.safe_dump(changed, sort_keys=False).encode("utf-8", "surrogatepass")


def mutate_table(rng: random.Random, data: bytes) -> bytes:
    if rng.random() < 0.3:
        return raw.mutate(rng, data)
    rows = [line.split(",") for line in data.decode().splitlines()]
    for _ in range(rng.choice((1, 1, 3))):
        row = rng.choice(rows)
        chosen = rng.random()
        if chosen < 0.6 and row:
            row[rng.randrange(len(row))] = rng.choice((text(rng), '"', '""', '"a\nb', "\r", "=1+1"))
        elif chosen < 0.75:
            rows.insert(rng.randrange(len(rows)), list(row))
        elif chosen < 0.9:
            row.append(text(rng))
        elif row:
            row.pop()
    return "\n".join(map(",".join, rows)).encode("utf-8", "surrogatepass")


def _changed(rng: random.Random, document: Any) -> Any:
    """The document with a few of its parts, wherever they lie, exchanged."""
    for _ in range(rng.choice((1, 1, 1, 2, 5))):
        document = _with_change(rng, document)
    return document


def _with_change(rng: random.Random, part: Any) -> Any:
    inner = isinstance(part, dict | list) and len(part) > 0
    if not inner or rng.random() < 0.15:
        return _other(rng, part)
    if isinstance(part, dict):
        changed = dict(part)
        key = rng.choice(list(changed))
        chosen = rng.random()
        if chosen < 0.1:
            del changed[key]
        elif chosen < 0.2:
            changed[text(rng)] = changed.pop(key)
        elif chosen < 0.25:
            changed[text(rng)] = _other(rng, None)
        else:
            changed[key] = _with_change(rng, changed[key])
        return changed
    items = list(part)
    place = rng.randrange(len(items))
    chosen = rng.random()
    if chosen < 0.1:
        del items[place]
    elif chosen < 0.25:
        items.extend([items[place]] * rng.choice((1, 1, 50)))
    else:
        items[place] = _with_change(rng, items[place])
    return items


def _other(rng: random.Random, part: Any) -> Any:
    return rng.choice(
        (
            integer(rng),
            integer(rng),
            real(rng),
            text(rng),
            text(rng),
            None,
            rng.random() < 0.5,
            [],
            {},
            [part],
            {text(rng): part},
            [integer(rng)] * rng.choice((1, 3, 2000)),
        )
    )


def _inserted(rng: random.Random, document: str, what: str) -> str:
    place = rng.randrange(len(document) + 1)
    return document[:place] + what + document[place:]


_LAUGHS = "l0: &l0 [ha, ha]\n" + "".join(
    f"l{number}: &l{number} [{', '.join([f'*l{number - 1}'] * 9)}]\n" for number in range(1, 12)
)
_YAML = (
    "\n" + _LAUGHS, "&a [*a]", "*a", "&a ", "<<: *a", "!!python/object/apply:os.system ['false']\n",
    "!!python/name:os.system ", "!!binary abc=", "!!timestamp 2021-99-99", " 2021-99-99", "!!set {a, b}",
    "!!omap [a: 1]", "!!int xyz ", "0x" + "f" * 4000, "9" * 5000, "1:99:99", ".inf", ".nan", "? [a, b]\n: c\n", "{{",
    "[" * 1000, "- " * 500, "\t", "\n---\n", "%YAML 9.9\n", "\x00", "\x85", "'", '"\\ud800"',
)  # fmt: skip
