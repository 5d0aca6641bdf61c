"""Prediction slice by slice: which slices, how many at a time, and from logits to classes on the scan's own grid.

No array of classes x voxels is created: logits of a batch of slices are interpolated along the depth one slice at a
time, and in-plane one band of rows at a time.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from jaxtyping import Float, Int, Integer
from torch import Tensor

from inflate3d.inference.memory import GIGABYTE, Budget, LiveTensors
from inflate3d.inference.networks import LogitGrid, ScoreSlices, SliceScorer
from inflate3d.inference.outputs import Outputs
from inflate3d.inference.scan import FramedScan
from inflate3d.models.oom import AdaptiveBatchSize, MemoryBudgetError
from inflate3d.resampling import slice_weights
from inflate3d.windows.resample import own_pixels, sample_logits

Logits = list[Float[Tensor, "_ k _ _"]]
"""Logits ``(B, K, H, W)`` of some slices, one tensor per in-plane grid."""

BANDS = 4
"""Bands in memory at a time: one network's, the sum, the maximum, and those for resampling."""


def every_nth(slices: int, step: int) -> Int[np.ndarray, " n"]:
    """Every n-th slice, and the last one so that nothing is extrapolated."""
    return np.union1d(np.arange(0, slices, step), slices - 1)


@dataclass(frozen=True)
class SliceChoice:
    """The slices of model space to predict, and the position of the scan's own slices among them.

    Attributes:
        centers: Indices in model space of the slices to predict, ascending.
        lower: For each slice of the original scan, the position in ``centers`` of the slice at or below it.
    """

    centers: Int[np.ndarray, " n"]
    lower: Int[np.ndarray, " own"]
    upper: Int[np.ndarray, " own"]
    weight: Float[np.ndarray, " own"]

    @classmethod
    def of(cls, slices: int, own_slices: int, step: int = 1) -> SliceChoice:
        """Chooses every n-th slice, and the last one so that nothing is extrapolated.

        Args:
            slices: Number of slices in model space.
            own_slices: Number of slices of the original scan, between the same outer edges.
        """
        lower, upper, weight = slice_weights(slices, own_slices)
        if step == 1:
            return cls(np.arange(slices), lower, upper, weight)
        centers = every_nth(slices, step)
        # two neighboring slices lie between the same two centers, so one interpolation does for both
        positions = lower + weight
        below = np.searchsorted(centers, positions, side="right") - 1
        above = np.minimum(below + 1, len(centers) - 1)
        between = np.maximum(centers[above] - centers[below], 1)
        return cls(centers, below, above, (positions - centers[below]) / between)

    def interpolate(self, batches: Iterator[Logits]) -> Iterator[Logits]:
        """Turns batches of logits of predicted slices into the logits of the scan's own slices, one by one, in order.

        One batch and the slice before it are in memory at a time.
        """
        first, stop, own = 0, 0, 0
        before: Logits = []
        for batch in batches:
            first, stop = stop, stop + len(batch[0])
            while own < len(self.upper) and self.upper[own] < stop:
                yield self._mix(own, first, batch, before)
                own += 1
            before = [part[-1:].clone() for part in batch]
            del batch  # or it would stay in memory while the next one is computed

    def _mix(self, own: int, first: int, batch: Logits, before: Logits) -> Logits:
        """Interpolates the logits of one of the scan's own slices.

        Args:
            first: The position in ``centers`` of the batch's first slice.
            batch: Logits of predicted slices.
            before: Logits of the slice before them.
        """
        low, share = int(self.lower[own]), float(self.weight[own])
        below = before if low < first else _slice_of(batch, low - first)
        if share == 0:
            return below
        above = _slice_of(batch, int(self.upper[own]) - first)
        return [torch.lerp(*pair, share) for pair in zip(below, above, strict=True)]


def _slice_of(batch: Logits, index: int) -> Logits:
    return [part[index : index + 1] for part in batch]


class SliceBatches:
    """Scores the slices of a scan, as many at a time as memory allows.

    Args:
        scorers: The networks; their logits are summed on each of their grids.
        budget: The memory budget.
        held: Bytes of main memory that the caller uses at the same time.
        bands: Number of bands that the caller holds at a time.
        kept: Number of slices whose logits the caller keeps.
        separate: Whether to also return each network's logits, after the sums.
    """

    def __init__(
        self,
        scorers: Sequence[SliceScorer],
        scan: FramedScan,
        *,
        batch_size: int,
        budget: Budget,
        held: int = 0,
        bands: int = BANDS,
        kept: int = 0,
        separate: bool = False,
    ) -> None:
        self._scorers, self._scan, self._separate = scorers, scan, separate
        self._batch = AdaptiveBatchSize(batch_size)
        self._ready: list[tuple[LogitGrid, ScoreSlices]] = []
        self._most, self._budget, self._held, self._bands, self._kept = batch_size, budget, held, bands, kept

    def logits(self, centers: Int[np.ndarray, " n"]) -> Iterator[Logits]:
        """The logits of slices, batch by batch; the memory of the first window determines the batch size.

        If memory runs out nevertheless, half the batch size is tried, with a warning in the log.
        """
        batch, start = self._batch, 0
        if not self._ready:
            self._ready = [
                (each.grid(self._scan), batch.run(partial(each.begin, self._scan))) for each in self._scorers
            ]
            with LiveTensors() as live:
                first = self._score(self._ready, centers[:1])
            batch.size = self._batch_size(first, live.most_needed)
            yield first
            del first
            start = 1
        while start < len(centers):
            yield batch.run(partial(self._score_next, self._ready, centers[start:]))
            start += batch.size

    def _score_next(
        self, ready: Sequence[tuple[LogitGrid, ScoreSlices]], centers: Int[np.ndarray, " n"], size: int
    ) -> Logits:
        return self._score(ready, centers[:size])

    def _score(self, ready: Sequence[tuple[LogitGrid, ScoreSlices]], centers: Int[np.ndarray, " b"]) -> Logits:
        """The sum of the networks' logits on each grid, then each network's if asked for."""
        sums: dict[LogitGrid, Tensor] = {}
        members: Logits = []
        for grid, score in ready:
            logits = score(centers)
            sums[grid] = sums[grid] + logits if grid in sums else logits
            if self._separate:
                members.append(logits)
        return [*sums.values(), *members]

    def _batch_size(self, logits: Logits, needed: int) -> int:
        """How many windows fit into memory at a time.

        Args:
            needed: Bytes needed per window.
        """
        moved = 0 if self._scan.moved is None else self._scan.moved.nbytes
        # the slice before the batch and an interpolated one
        fixed = (2 + self._kept) * sum(part.nbytes for part in logits) + self._bands * self._budget.band_bytes
        fixed += self._budget.reserved + (self._held if self._budget.device.type == "cpu" else moved)
        given = self._budget.memory
        budget = self._budget.bytes + (moved if given is None else 0)  # what was free before the scan was moved
        if given is not None and fixed + needed > budget:
            raise MemoryBudgetError(
                "memory budget is too small to predict the scan",
                expected=f"at least {(fixed + needed) / GIGABYTE:.2f} gigabytes",
                got=given,
                hint="raise --max-memory, or leave it out",
            )
        return min(max((budget - fixed) // max(needed, 1), 1), self._most)


class OwnPixels:
    """Brings logits to the pixels of a scan's own slices, band by band.

    Args:
        shape: Rows and columns of a slice.
        sides: Height and width of a slice in millimeters, ``(1, 2)``.
        grids: Grids of the logits; a grid may occur more than once.
        outputs: What the logits stand for.
        device: Device of the logits.
        band_bytes: Size limit of a band's logits in bytes.
    """

    def __init__(
        self,
        shape: tuple[int, int],
        sides: Float[Tensor, "1 2"],
        grids: Sequence[LogitGrid],
        outputs: Outputs,
        *,
        device: torch.device,
        band_bytes: int,
    ) -> None:
        self.shape, self.outputs, self.band_bytes = shape, outputs, band_bytes
        own = (float(sides[0, 0]), float(sides[0, 1]))
        points = {  # None where the pixels are those of the logits
            grid: None if grid == (shape, own) else own_pixels(shape, sides, torch.tensor([grid.sides])).to(device)
            for grid in dict.fromkeys(grids)
        }
        self._points = [points[grid] for grid in grids]

    def classes(self, logits: Sequence[Float[Tensor, "1 k _ _"]]) -> Integer[Tensor, "h w"]:
        """The class of each pixel by the sum of the logits.

        Args:
            logits: Logits of one slice, one tensor per grid.

        Returns:
            Class numbers, in the smallest unsigned type that torch supports.
        """
        classes = self.empty_classes(logits)
        for rows in self.bands(logits):
            classes[rows] = self.outputs.choose(self.total(logits, rows))
        return classes

    def empty_classes(self, logits: Sequence[Float[Tensor, "1 k _ _"]]) -> Integer[Tensor, "h w"]:
        return torch.empty(self.shape, dtype=self.outputs.number_type, device=logits[0].device)

    def bands(self, logits: Sequence[Float[Tensor, "1 k _ _"]]) -> Iterator[slice]:
        """The rows of a slice, in parts that fit into a band."""
        rows, columns = self.shape
        step = max(1, self.band_bytes // (logits[0].shape[1] * columns * logits[0].element_size()))
        return (slice(first, min(first + step, rows)) for first in range(0, rows, step))

    def total(self, logits: Sequence[Float[Tensor, "1 k _ _"]], rows: slice) -> Float[Tensor, "k rows w"]:
        """The sum of a band's logits over the grids.

        Args:
            logits: Logits of one slice, one tensor per grid or for the first grids only.
        """
        total = self.resampled(logits, 0, rows)
        for index in range(1, len(logits)):
            total = total + self.resampled(logits, index, rows)
        return total

    def resampled(
        self, logits: Sequence[Float[Tensor, "1 k _ _"]], index: int, rows: slice
    ) -> Float[Tensor, "k rows w"]:
        """The logits of a band from the grid with this index."""
        points = self._points[index]
        band = logits[index][:, :, rows] if points is None else sample_logits(logits[index], points[:, rows])
        return band[0]
