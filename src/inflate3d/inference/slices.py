"""Which slices of the frame are predicted, and how the scan's own are interpolated between them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from inflate3d.resampling import slice_weights

Scores = list[Float[Tensor, "_ k _ _"]]
"""Logits ``(B, K, H, W)`` of some slices, one tensor for each grid in plane that networks have."""


@dataclass(frozen=True)
class SliceChoice:
    """The slices to predict, and where the scan's own lie among them.

    Attributes:
        centers: Indices in the frame of the slices to predict, ascending.
        lower: For each of the scan's own slices the place among ``centers`` of the one at or below it.
        upper: Likewise of the one above.
        weight: That one's share.
    """

    centers: Int[np.ndarray, " n"]
    lower: Int[np.ndarray, " own"]
    upper: Int[np.ndarray, " own"]
    weight: Float[np.ndarray, " own"]

    @classmethod
    def of(cls, slices: int, own_slices: int, every: int = 1) -> SliceChoice:
        """Chooses every n-th slice of the frame, and the last one: nothing is extrapolated.

        Args:
            slices: How many the frame has.
            own_slices: How many the scan itself has, between the same outer edges.
            every: Steps from one slice that is predicted to the next.
        """
        lower, upper, weight = slice_weights(slices, own_slices)
        if every == 1:
            return cls(np.arange(slices), lower, upper, weight)
        centers = np.union1d(np.arange(0, slices, every), slices - 1)
        # two slices next to each other lie between the same two centers, so one interpolation does for both
        positions = lower + weight
        below = np.searchsorted(centers, positions, side="right") - 1
        above = np.minimum(below + 1, len(centers) - 1)
        between = np.maximum(centers[above] - centers[below], 1)
        return cls(centers, below, above, (positions - centers[below]) / between)

    def interpolate(self, batches: Iterator[Scores]) -> Iterator[Scores]:
        """Turns scores of the predicted slices, batch by batch, into those of the scan's own, one by one, in order.

        One batch and the slice before it are held at a time.
        """
        first, stop, own = 0, 0, 0
        before: Scores = []
        for batch in batches:
            first, stop = stop, stop + len(batch[0])
            while own < len(self.upper) and self.upper[own] < stop:
                yield self._mix(own, first, batch, before)
                own += 1
            before = [part[-1:].clone() for part in batch]
            del batch  # or it would live while the next one is computed

    def _mix(self, own: int, first: int, batch: Scores, before: Scores) -> Scores:
        """The scores of one of the scan's own slices.

        Args:
            own: Its index.
            first: The place among ``centers`` of the batch's first slice.
            batch: Scores of predicted slices.
            before: Scores of the one before them.
        """
        low, share = int(self.lower[own]), float(self.weight[own])
        below = before if low < first else _one(batch, low - first)
        if share == 0:
            return below
        above = _one(batch, int(self.upper[own]) - first)
        return [torch.lerp(*pair, share) for pair in zip(below, above, strict=True)]


def _one(batch: Scores, place: int) -> Scores:
    return [part[place : place + 1] for part in batch]
