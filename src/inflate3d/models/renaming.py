"""Tensor names of one layout to another's, by patterns."""

from __future__ import annotations

import re
from collections.abc import Callable

Renaming = tuple[tuple[str, str | Callable[[re.Match[str]], str]], ...]
"""Patterns and what takes their place, applied one after the other."""


def rename(name: str, renaming: Renaming) -> str:
    """Applies every pattern."""
    for pattern, replacement in renaming:
        name = re.sub(pattern, replacement, name)
    return name
