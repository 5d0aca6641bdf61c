"""The type of tensors for which none is given."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def float32_by_default() -> Iterator[None]:
    """Makes float32 torch's default type, also where the calling program has chosen another one.

    Weights are float32, and tensors of two types can't be multiplied. Use it as a decorator, too.
    """
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float32)
    try:
        yield
    finally:
        torch.set_default_dtype(before)
