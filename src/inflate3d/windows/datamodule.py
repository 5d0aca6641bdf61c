"""Batches of training samples from the store, and the cases for validation."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple, TypeAlias

import numpy as np
import pytorch_lightning as lightning
import torch
from jaxtyping import Float, Integer, Num, Shaped
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from inflate3d.orientation import plane_turns
from inflate3d.preparation.parallel import worker_context
from inflate3d.preparation.store import Store
from inflate3d.windows.sampling import SampleLocation
from inflate3d.windows.windows import window_indices

_DRAW_SLAB = 2
"""Distinguishes the draw of a slab's place from the sampler's own draws of the same number."""

Draw: TypeAlias = Callable[[int], SampleLocation]
"""Returns the location of the n-th sample, such as `WindowSampler.draw`."""


class WindowBatch(NamedTuple):
    """Windows on their slices' own pixel grids, padded to the largest of the batch; also 3D patches.

    Attributes:
        windows: Voxel values as the scanner gave them, in the store's type where one does, ``(B, C, D, h, w)``.
        labels: Class numbers of the slices to predict, ``(B, S, h, w)``: a window's center slice, all of others.
        extents: Rows and columns of each window that are not padding, ``(B, 2)``.
        sides: Height and width of each slice, or of what was cut out of it, in millimeters, ``(B, 2)``.
        centers: Where in that the middle of the model's input lies (row, column), normalized, ``(B, 2)``; 0 of windows.
        ranges: For each modality the voxel values that become 0 and 1, ``(B, C, 2)``.
        cases: Number of each window's case, ``(B,)``.
        axes: The axis of the store's arrays that each window is stacked along, ``(B,)``.
    """

    windows: Num[Tensor, "b c d h w"]
    labels: Integer[Tensor, "b s h w"]
    extents: Float[Tensor, "b 2"]
    sides: Float[Tensor, "b 2"]
    centers: Float[Tensor, "b 2"]
    ranges: Float[Tensor, "b c 2"]
    cases: Integer[Tensor, " b"]
    axes: Integer[Tensor, " b"]


class Samples(Dataset[WindowBatch], ABC):
    """Reads single samples from a store, each as a batch of one, without end."""

    def __init__(self, store: Store, draw: Draw) -> None:
        self.store, self.draw = store, draw
        self.numbers = {name: number for number, name in enumerate(store.cases)}

    def __getitem__(self, number: int) -> WindowBatch:
        return self.cut(self.draw(number), number)

    @abstractmethod
    def cut(self, location: SampleLocation, number: int) -> WindowBatch:
        """The sample at a location; its randomness depends only on its number."""


class Windows(Samples):
    def __init__(self, store: Store, draw: Draw, depth: int, stride: int = 1) -> None:
        super().__init__(store, draw)
        self.turns = plane_turns(store.plan.depth_axis)
        self.depth, self.stride = depth, stride

    def cut(self, location: SampleLocation, number: int) -> WindowBatch:
        """The window around the location's slice, and its labels."""
        case = self.store.cases[location.case]
        turn = self.turns[location.axis]
        length, *shape = (case.shape[axis] for axis in turn)
        _, *spacing = (case.spacing[axis] for axis in turn)
        shown, labeled = self.choose(location.slice, length, number)
        image = self.store.image_slices(location.case, shown, location.axis)
        label = self.store.label_slices(location.case, labeled, location.axis)
        extent = torch.tensor([shape], dtype=torch.float32)
        return WindowBatch(
            windows=torch.from_numpy(_for_torch(image.transpose(0, *(1 + axis for axis in turn))))[None],
            labels=torch.from_numpy(np.ascontiguousarray(label.transpose(turn)))[None],
            extents=extent,
            sides=extent * torch.tensor(spacing),
            centers=torch.zeros(1, 2),
            ranges=torch.tensor([case.ranges], dtype=torch.float32),
            cases=torch.tensor([self.numbers[location.case]]),
            axes=torch.tensor([location.axis]),
        )

    def choose(self, center: int, length: int, number: int) -> tuple[list[int], list[int]]:
        """The slices that the network sees, and those whose labels it learns.

        Args:
            center: The slice that was drawn.
            length: Slices of the scan.
            number: The sample's.
        """
        return window_indices([center], self.depth, self.stride, length)[0].tolist(), [center]


class Slabs(Windows):
    """Neighboring slices of a scan, all labeled; the slice that was drawn lies anywhere among them.

    Args:
        store: The prepared cases.
        draw: Where they lie.
        slices: How many a slab has. In a scan with fewer, the last slice is repeated.
        seed: Seed of the places of slabs.
    """

    def __init__(self, store: Store, draw: Draw, slices: int, seed: int) -> None:
        super().__init__(store, draw, slices)
        self.seed = seed

    def choose(self, center: int, length: int, number: int) -> tuple[list[int], list[int]]:
        """See `Windows.choose`."""
        before = int(np.random.default_rng((self.seed, number, _DRAW_SLAB)).integers(self.depth))
        first = min(max(center - before, 0), max(length - self.depth, 0))
        shown = np.arange(first, first + self.depth).clip(max=length - 1).tolist()
        return shown, shown


def collate(batches: Sequence[WindowBatch]) -> WindowBatch:
    """Joins single windows; smaller slices are padded at the end, images with what will become 0."""
    others = ("extents", "sides", "centers", "ranges", "cases", "axes")
    joined = {name: torch.cat([getattr(batch, name) for batch in batches]) for name in others}
    sizes = {batch.windows.shape[-2:] for batch in batches}
    if len(sizes) == 1 and len({batch.windows.dtype for batch in batches}) == 1:
        windows, labels = (torch.cat([getattr(batch, name) for batch in batches]) for name in ("windows", "labels"))
    else:
        windows, labels = _pad(batches)
    return WindowBatch(windows=windows, labels=labels, **joined)


def _pad(batches: Sequence[WindowBatch]) -> tuple[Float[Tensor, "b c d h w"], Integer[Tensor, "b s h w"]]:
    """Windows and labels of slices that differ in size or type."""
    height = max(batch.windows.shape[-2] for batch in batches)
    width = max(batch.windows.shape[-1] for batch in batches)
    depth, labeled = batches[0].windows.shape[2], batches[0].labels.shape[1]
    lows = torch.cat([batch.ranges[..., 0] for batch in batches])
    windows = lows[:, :, None, None, None].repeat(1, 1, depth, height, width)
    labels = torch.zeros(len(batches), labeled, height, width, dtype=batches[0].labels.dtype)
    for index, batch in enumerate(batches):
        rows, columns = batch.labels.shape[-2:]
        windows[index, ..., :rows, :columns] = batch.windows[0]
        labels[index, ..., :rows, :columns] = batch.labels[0]
    return windows, labels


def _for_torch(array: Shaped[np.ndarray, "..."]) -> Shaped[np.ndarray, "..."]:
    """The array in a type that torch computes with: signed integers, or bytes."""
    wide = array.dtype in (np.uint16, np.uint32, np.uint64)
    return np.ascontiguousarray(array.astype(np.float32) if wide else array)


@dataclass(frozen=True)
class _Share(Sampler[int]):
    """One process's share of the window numbers, from ``first`` on.

    Its length counts those before ``first`` too: Lightning continues to count batches where a resumed training
    had stopped.
    """

    first: int
    count: int
    ranks: int
    rank: int

    def __iter__(self) -> Iterator[int]:
        return iter(range(self.first * self.ranks + self.rank, self.count * self.ranks, self.ranks))

    def __len__(self) -> int:
        return self.count


class TimedLoader:
    """The batches of a loader, and how long the training waited for them.

    Attributes:
        seconds: All so far, of this process: time that more loader processes would save.
    """

    def __init__(self, loader: DataLoader[WindowBatch]) -> None:
        self.loader, self.seconds = loader, 0.0

    def __len__(self) -> int:
        return len(self.loader)

    def __iter__(self) -> Iterator[WindowBatch]:
        since = time.monotonic()
        for batch in self.loader:
            self.seconds += time.monotonic() - since
            yield batch
            since = time.monotonic()


class SamplesModule(lightning.LightningDataModule):
    """Feeds a training: random samples to train on, and the ids of the cases to validate on.

    Args:
        workers: Loader processes; 0 reads in the training's own.
    """

    def __init__(
        self, samples: Samples, validation: Sequence[str], *, batch_size: int, batches: int, workers: int
    ) -> None:
        super().__init__()
        self.samples, self.validation = samples, tuple(validation)
        self.batch_size, self.batches, self.workers = batch_size, batches, workers

    def train_dataloader(self) -> TimedLoader:
        """The samples that the training has not seen yet, in order."""
        assert self.trainer is not None
        done = self.trainer.global_step * self.trainer.accumulate_grad_batches * self.batch_size
        ranks, rank = self.trainer.world_size, self.trainer.global_rank
        loader = DataLoader(
            self.samples,
            batch_size=self.batch_size,
            sampler=_Share(first=done, count=self.batches * self.batch_size, ranks=ranks, rank=rank),
            num_workers=self.workers,
            multiprocessing_context=worker_context(__name__) if self.workers else None,
            persistent_workers=self.workers > 0,  # they take seconds to start
            collate_fn=collate,
            pin_memory=torch.cuda.is_available(),
        )
        return TimedLoader(loader)

    def val_dataloader(self) -> DataLoader[str]:
        """The validation cases, divided among the ranks; cases are repeated if there are more ranks."""
        assert self.trainer is not None
        ranks = self.trainer.world_size
        # each has a part in the validation; no Dice depends on how often all count
        cases = self.validation * -(-ranks // len(self.validation))
        return DataLoader(cases[self.trainer.global_rank :: ranks], batch_size=None)  # type: ignore[arg-type]
