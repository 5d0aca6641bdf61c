"""Batches of windows from the store, for training and for validation."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pytorch_lightning as lightning
import torch
from jaxtyping import Float, Integer
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from inflate3d.preparation.store import Store
from inflate3d.windows.sampling import WindowSampler
from inflate3d.windows.windows import window_slices


class WindowBatch(NamedTuple):
    """Windows on their slices' own pixel grids, padded to the largest of the batch.

    Attributes:
        windows: Voxel values as the scanner gave them, ``(B, C, D, h, w)``.
        labels: Class numbers of the centre slices, ``(B, h, w)``.
        extents: Rows and columns of each window that are not padding, ``(B, 2)``.
        sides: Height and width of each slice in millimetres, ``(B, 2)``.
        ranges: For each modality the voxel values that become 0 and 1, ``(B, C, 2)``.
        cases: Number of each window's case, ``(B,)``.
    """

    windows: Float[Tensor, "b c d h w"]
    labels: Integer[Tensor, "b h w"]
    extents: Float[Tensor, "b 2"]
    sides: Float[Tensor, "b 2"]
    ranges: Float[Tensor, "b c 2"]
    cases: Integer[Tensor, " b"]


class Windows(Dataset[WindowBatch]):
    """Reads single windows from a store, each as a batch of one.

    Args:
        store: The prepared cases.
        places: The sampler that names case and centre slice of the n-th window, or the list of them.
        count: How many windows there are.
        depth: Slices in a window; how far apart they are, the store's plan says.
    """

    def __init__(self, store: Store, places: WindowSampler | Sequence[tuple[str, int]], count: int, depth: int) -> None:
        self.store, self.places, self.count, self.depth = store, places, count, depth
        self.stride = store.plan.stride
        self.numbers = {name: number for number, name in enumerate(store.cases)}

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, number: int) -> WindowBatch:
        places = self.places
        name, centre = places.draw(number) if isinstance(places, WindowSampler) else places[number]
        case = self.store.cases[name]
        slices = window_slices(centre, self.depth, case.shape[0], self.stride)
        image = self.store.image_slices(name, slices).astype(np.float32)
        label = self.store.label_slice(name, centre).astype(np.int64)
        extent = torch.tensor([case.shape[1:]], dtype=torch.float32)
        return WindowBatch(
            windows=torch.from_numpy(image)[None],
            labels=torch.from_numpy(label)[None],
            extents=extent,
            sides=extent * torch.tensor(case.spacing[1:]),
            ranges=torch.tensor([case.ranges], dtype=torch.float32),
            cases=torch.tensor([self.numbers[name]]),
        )


def collate(batches: Sequence[WindowBatch]) -> WindowBatch:
    """Joins single windows; smaller slices are padded at their end, images with what will become 0."""
    height = max(batch.windows.shape[-2] for batch in batches)
    width = max(batch.windows.shape[-1] for batch in batches)
    channels, depth = batches[0].windows.shape[1:3]
    lows = torch.cat([batch.ranges[..., 0] for batch in batches])
    windows = lows[:, :, None, None, None].repeat(1, 1, depth, height, width)
    labels = torch.zeros(len(batches), height, width, dtype=torch.int64)
    for index, batch in enumerate(batches):
        rows, columns = batch.labels.shape[-2:]
        windows[index, :channels, :, :rows, :columns] = batch.windows[0]
        labels[index, :rows, :columns] = batch.labels[0]
    joined = {
        name: torch.cat([getattr(batch, name) for batch in batches]) for name in ("extents", "sides", "ranges", "cases")
    }
    return WindowBatch(windows=windows, labels=labels, **joined)


@dataclass(frozen=True)
class _Share(Sampler[int]):
    """One process's numbers of windows, from ``first`` on.

    Its length counts those before ``first`` too: Lightning goes on counting batches where a resumed training
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


class WindowsModule(lightning.LightningDataModule):
    """Feeds a training: drawn windows to learn from, every slice of the watched cases to validate on.

    Args:
        store: The prepared cases.
        train: Ids of the cases to learn from.
        validation: Ids of the cases to validate on.
        depth: Slices in a window.
        batch_size: Windows in a batch.
        batches: Batches in the whole training, on one device.
        foreground_fraction: See :class:`WindowSampler`.
        seed: Seed of the draws.
        workers: Loader processes; 0 reads in the training's own.
    """

    def __init__(
        self,
        store: Store,
        *,
        train: Sequence[str],
        validation: Sequence[str],
        depth: int,
        batch_size: int,
        batches: int,
        foreground_fraction: float,
        seed: int,
        workers: int,
    ) -> None:
        super().__init__()
        self.store, self.depth, self.batch_size, self.batches = store, depth, batch_size, batches
        self.workers = workers
        self.validation = tuple(validation)
        self.sampler = WindowSampler({name: store.cases[name] for name in train}, foreground_fraction, seed)

    def train_dataloader(self) -> DataLoader[WindowBatch]:
        """The windows that the training has not seen yet, in order."""
        assert self.trainer is not None
        done = self.trainer.global_step * self.trainer.accumulate_grad_batches * self.batch_size
        ranks, rank = self.trainer.world_size, self.trainer.global_rank
        share = _Share(first=done, count=self.batches * self.batch_size, ranks=ranks, rank=rank)
        windows = Windows(self.store, self.sampler, share.count * ranks, self.depth)
        return self._loader(windows, sampler=share, batch_size=self.batch_size)

    def val_dataloader(self) -> DataLoader[WindowBatch]:
        """Every slice of the watched cases, case by case, shared out over the ranks."""
        assert self.trainer is not None
        places = [(name, index) for name in self.validation for index in range(self.store.cases[name].shape[0])]
        mine = places[self.trainer.global_rank :: self.trainer.world_size]
        windows = Windows(self.store, mine, len(mine), self.depth)
        return self._loader(windows, batch_size=2 * self.batch_size)

    def _loader(self, windows: Windows, **how: object) -> DataLoader[WindowBatch]:
        return DataLoader(
            windows,
            num_workers=self.workers,
            collate_fn=collate,
            pin_memory=torch.cuda.is_available(),
            **how,  # type: ignore[arg-type]
        )
