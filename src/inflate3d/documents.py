"""Small text, JSON and YAML files, read with limits: no document can exhaust memory or take hours."""

from __future__ import annotations

import errno
import json
import os
import stat
from pathlib import Path
from typing import Any, BinaryIO

import yaml

LARGEST_DOCUMENT = 1 << 30
"""Size limit of text and JSON in bytes; when parsed, it takes up to about thirty times as much memory."""

LARGEST_YAML = 1 << 17
"""Size limit of YAML in bytes: reading this much takes some seconds."""

MOST_BRACKETS = 32
"""Depth limit of bracketed YAML lists and mappings: PyYAML looks at all open ones for each token."""

DAMAGED_YAML = (yaml.YAMLError, ValueError, LookupError, AttributeError, TypeError, RecursionError)
"""What PyYAML raises for an invalid document, number or date."""

DAMAGED_JSON = (ValueError, RecursionError)
"""What `json` raises for an invalid document, or one that is nested too deeply."""


def open_regular(path: str | Path) -> BinaryIO:
    """Opens a file for reading; devices, pipes and folders are refused by an OSError."""
    # opened without waiting: a pipe that nobody writes to would keep us forever
    number = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0))
    mode = os.fstat(number).st_mode
    if not stat.S_ISREG(mode):
        os.close(number)
        kind = errno.EISDIR if stat.S_ISDIR(mode) else errno.EINVAL
        raise OSError(kind, "it is a folder" if stat.S_ISDIR(mode) else "it is a device or a pipe, no file", str(path))
    return os.fdopen(number, "rb")


def read_text(path: str | Path, *, encoding: str = "utf-8", most: int = LARGEST_DOCUMENT) -> str:
    """Reads a text file of at most ``most`` bytes; devices, pipes and folders are refused by an OSError."""
    with open_regular(path) as file:
        state = os.fstat(file.fileno())
        if state.st_size > most:
            raise OSError(errno.EFBIG, f"it has {state.st_size} bytes, and {most} are the most", str(path))
        text = file.read().decode(encoding)
    return text.replace("\r\n", "\n").replace("\r", "\n")


def parse_json(text: str) -> Any:
    return json.loads(text, object_pairs_hook=_without_duplicates)


def _without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result: dict[str, Any] = {}
    for key, value in pairs:
        if key in result:
            raise ValueError(f"duplicate key: {key[:80]!r}")
        result[key] = value
    return result


def parse_yaml(text: str) -> Any:
    """Parses plain YAML; no tag makes an object of it but a number, a date, text, a list or a mapping."""
    loader = _PlainLoader(text)
    try:
        return loader.get_single_data()
    finally:
        loader.dispose()


class _PlainLoader(yaml.SafeLoader):
    """Rejects anchors (with which a short text can expand to a huge one), duplicate keys, and deep nesting."""

    def fetch_anchor(self) -> None:
        raise yaml.YAMLError(f"anchors and aliases are not read (line {self.line + 1})")

    fetch_alias = fetch_anchor

    def fetch_flow_collection_start(self, TokenClass: type[yaml.Token]) -> None:  # noqa: N803 - PyYAML's own name
        if self.flow_level == MOST_BRACKETS:
            raise yaml.YAMLError(f"a value is in more than {MOST_BRACKETS} brackets")
        super().fetch_flow_collection_start(TokenClass)

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        mapping = super().construct_mapping(node, deep)
        if len(mapping) < len(node.value):
            raise yaml.YAMLError(f"duplicate key (line {node.start_mark.line + 1} and below)")
        return mapping
