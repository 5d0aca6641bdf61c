"""How many windows are predicted at a time, and what several networks say of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor

from inflate3d.inference.accumulate import LogitGrid
from inflate3d.inference.memory import GIGABYTE, LiveTensors, usual_budget
from inflate3d.inference.networks import Network, Score
from inflate3d.inference.scan import FramedScan
from inflate3d.inference.slices import Scores
from inflate3d.models.oom import AdaptiveBatchSize, MemoryBudgetError

_SLAB_BYTES = {"cpu": 2**24}
"""What the logits of a slab take: on a CPU little enough to stay in its caches."""

_SLAB_BYTES_ELSEWHERE = 2**28

SLABS = 4
"""Slabs that are held at a time: of a network, of the sum, of the largest values, and what resampling takes."""


@dataclass(frozen=True)
class Budget:
    """What a prediction may take.

    Attributes:
        device: Where it is computed.
        memory: Gigabytes above the weights and the scan; what is usual if not given.
    """

    device: torch.device
    memory: float | None

    @property
    def bytes(self) -> int:
        """All of it."""
        return usual_budget(self.device) if self.memory is None else int(self.memory * GIGABYTE)

    @property
    def slab_bytes(self) -> int:
        """What the logits of a slab may take."""
        usual = _SLAB_BYTES.get(self.device.type, _SLAB_BYTES_ELSEWHERE)
        return usual if self.memory is None else min(usual, int(self.memory * GIGABYTE) // 16)


class Batches:
    """Scores slices of a scan, so many at a time as the memory allows.

    Args:
        networks: Their logits are summed on each grid that they have.
        scan: The scan.
        batch_size: The most windows at a time.
        budget: What memory there is.
        held: Bytes of main memory that the caller holds meanwhile.
        slabs: How many slabs the caller holds at a time.
        apart: Whether each network's logits are wanted, too, behind the sums.
    """

    def __init__(
        self,
        networks: Sequence[Network],
        scan: FramedScan,
        *,
        batch_size: int,
        budget: Budget,
        held: int = 0,
        slabs: int = SLABS,
        apart: bool = False,
    ) -> None:
        self._networks, self._scan, self._apart = networks, scan, apart
        self._most, self._budget, self._held, self._slabs = batch_size, budget, held, slabs

    def scores(self, centers: Int[np.ndarray, " n"]) -> Iterator[Scores]:
        """The scores of slices, batch by batch; the first window tells by the memory it takes how many may follow.

        Where the memory turns out to be less, fewer follow, and the batch is done again; Python's warnings tell so.

        Raises:
            MemoryBudgetError: The memory that was given is too little for a single one.
        """
        batch = AdaptiveBatchSize(self._most)
        ready = [
            (network.grid(self._scan), batch.run(partial(network.begin, self._scan))) for network in self._networks
        ]
        with LiveTensors() as live:
            first = self._score(ready, centers[:1])
        batch.size = self._batch_size(first, live.most_needed)
        yield first
        del first
        start = 1
        while start < len(centers):
            yield batch.run(partial(self._score_next, ready, centers[start:]))
            start += batch.size

    def _score_next(
        self, ready: Sequence[tuple[LogitGrid, Score]], centers: Int[np.ndarray, " n"], size: int
    ) -> Scores:
        return self._score(ready, centers[:size])

    def _score(self, ready: Sequence[tuple[LogitGrid, Score]], centers: Int[np.ndarray, " b"]) -> Scores:
        """The sum of the networks' logits on each grid, and each network's, if wanted."""
        sums: dict[LogitGrid, Tensor] = {}
        members: Scores = []
        for grid, score in ready:
            logits = score(centers)
            sums[grid] = sums[grid] + logits if grid in sums else logits
            if self._apart:
                members.append(logits)
        return [*sums.values(), *members]

    def _batch_size(self, scores: Scores, needed: int) -> int:
        """How many windows the memory allows at a time.

        Args:
            scores: Of one slice.
            needed: Bytes that predicting a window takes.

        Raises:
            MemoryBudgetError: The memory that was given is too little for a single one.
        """
        moved = 0 if self._scan.moved is None else self._scan.moved.nbytes
        # the slice before the batch and one interpolated
        fixed = 2 * sum(part.nbytes for part in scores) + self._slabs * self._budget.slab_bytes
        fixed += self._held if self._budget.device.type == "cpu" else moved
        given = self._budget.memory
        budget = self._budget.bytes + (moved if given is None else 0)  # what was free before the scan was moved
        if given is not None and fixed + needed > budget:
            raise MemoryBudgetError(
                "the memory is too little to predict with",
                expected=f"at least {(fixed + needed) / GIGABYTE:.2f} gigabytes for this scan",
                got=given,
                hint="give more, or leave it to the predictor",
            )
        return min(max((budget - fixed) // max(needed, 1), 1), self._most)
