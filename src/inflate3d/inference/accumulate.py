"""From logits on the networks' grids to classes on the scan's own, slab by slab.

Classes × pixels on the scan's own grid are never held at once: a slab is so many rows of a slice that its logits take
a fixed number of bytes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Integer
from torch import Tensor

from inflate3d.windows.resample import own_pixels, sample_logits


class LogitGrid(NamedTuple):
    """Where a network's logits lie in a slice; the middles are the same.

    Attributes:
        size: Rows and columns.
        sides: Their height and width in millimeters.
    """

    size: tuple[int, int]
    sides: tuple[float, float]


class OwnPixels:
    """The pixels of a scan's own slices.

    Args:
        shape: Rows and columns.
        sides: Height and width of a slice in millimeters, ``(1, 2)``.
        grids: Of the networks' logits; one may come again.
        device: Where those are.
        slab_bytes: What the logits of a slab may take.
    """

    def __init__(
        self,
        shape: tuple[int, int],
        sides: Float[Tensor, "1 2"],
        grids: Sequence[LogitGrid],
        *,
        device: torch.device,
        slab_bytes: int,
    ) -> None:
        self.shape, self.slab_bytes = shape, slab_bytes
        own = (float(sides[0, 0]), float(sides[0, 1]))
        places = {  # none where they are those of the logits
            grid: None if grid == (shape, own) else own_pixels(shape, sides, torch.tensor([grid.sides])).to(device)
            for grid in dict.fromkeys(grids)
        }
        self._pixels = [places[grid] for grid in grids]

    def likeliest(self, scores: Sequence[Float[Tensor, "1 k _ _"]]) -> Integer[Tensor, "h w"]:
        """The class with the largest sum of logits at each pixel; of equal ones the lowest number.

        Args:
            scores: Of one slice, for each of the grids.

        Returns:
            Class numbers, of the smallest unsigned type that torch computes with.
        """
        chosen = self.empty(scores)
        for rows in self.slabs(scores):
            chosen[rows] = likeliest_class(self.total(scores, rows))
        return chosen

    def empty(self, scores: Sequence[Float[Tensor, "1 k _ _"]]) -> Integer[Tensor, "h w"]:
        """Room for the class numbers of a slice, of the smallest unsigned type that torch computes with."""
        kind = torch.uint8 if scores[0].shape[1] <= 256 else torch.int32
        return torch.empty(self.shape, dtype=kind, device=scores[0].device)

    def slabs(self, scores: Sequence[Float[Tensor, "1 k _ _"]]) -> Iterator[slice]:
        """The rows of a slice, so many at a time that the logits of one grid stay within the bytes of a slab."""
        rows, columns = self.shape
        step = max(1, self.slab_bytes // (scores[0].shape[1] * columns * scores[0].element_size()))
        return (slice(first, min(first + step, rows)) for first in range(0, rows, step))

    def total(self, scores: Sequence[Float[Tensor, "1 k _ _"]], rows: slice) -> Float[Tensor, "k rows w"]:
        """The sum of the logits of a slab.

        Args:
            scores: Of one slice, for each of the grids, or for the first of them.
            rows: Of the slice.
        """
        total = self.logits(scores, 0, rows)
        for place in range(1, len(scores)):
            total = total + self.logits(scores, place, rows)
        return total

    def logits(self, scores: Sequence[Float[Tensor, "1 k _ _"]], place: int, rows: slice) -> Float[Tensor, "k rows w"]:
        """The logits of a slab from one of the grids, by its place among them."""
        pixels = self._pixels[place]
        slab = scores[place][:, :, rows] if pixels is None else sample_logits(scores[place], pixels[:, rows])
        return slab[0]


def likeliest_class(logits: Float[Tensor, "k h w"]) -> Integer[Tensor, "h w"]:
    """The class with the largest logit at each pixel; of equal ones the lowest number."""
    if logits.device.type != "cpu":
        return logits.argmax(0)
    # torch's argmax over the first axis takes several times as long on a CPU
    best, chosen = logits[0].clone(), torch.zeros(logits.shape[1:], dtype=torch.int32)
    for number in range(1, len(logits)):
        chosen.masked_fill_(logits[number] > best, number)
        torch.maximum(best, logits[number], out=best)
    return chosen


def label_type(values: Integer[np.ndarray, " k"]) -> np.dtype:
    """The smallest type that holds label values."""
    return np.min_scalar_type(int(values.max()))
