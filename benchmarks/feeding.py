"""Windows a second on one core: from our store through our augmentation, against the recipe's files and transforms.

    python benchmarks/feeding.py                      # 512×512×5
    python benchmarks/feeding.py --size 240
    python benchmarks/feeding.py --device cuda        # our augmentation on the GPU

One process, one thread, no loader: what a core can do. The recipe zooms, crops or pads, mirrors, turns by right angles
and shifts intensities. Ours does it once with the same changes (`--preset paper/recipe`; it has no right angles), and
once with its own: it zooms, turns, shifts, mirrors, and changes gamma, contrast, brightness and noise.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable
from itertools import count
from pathlib import Path

import numpy as np
import torch
from generated import write_ct
from interleaved import compared, interleave
from recipe import feeding, preparation

from inflate3d.config import AugmentationConfig
from inflate3d.preparation.prepare import prepare
from inflate3d.preparation.store import Store
from inflate3d.presets.preset import read_preset
from inflate3d.windows.augment import augment_batch
from inflate3d.windows.datamodule import WindowBatch, Windows, collate
from inflate3d.windows.sampling import WindowSampler

DEPTH, BATCH = 5, 4


class Ours:
    """Batches as the training takes them, from the store to what the network sees."""

    def __init__(self, store: Store, size: tuple[int, int], device: str, settings: AugmentationConfig) -> None:
        self.windows = Windows(store, WindowSampler(store.cases, 0.5, seed=0).draw, DEPTH)
        self.size, self.device, self.settings = size, device, settings
        self.generator = torch.Generator(device).manual_seed(0)
        self.number = count()

    def read(self) -> WindowBatch:
        return collate([self.windows[next(self.number)] for _ in range(BATCH)])

    def augment(self, batch: WindowBatch) -> None:
        batch = WindowBatch(*(part.to(self.device) for part in batch))
        augment_batch(batch, batch.sides, self.size, self.settings, [(True, True, True)], self.generator)
        if self.device == "cuda":
            torch.cuda.synchronize()


def many(batches: int, work: Callable[[], object]) -> Callable[[], None]:
    """The work, so many times."""

    def run() -> None:
        for _ in range(batches):
            work()

    return run


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=512)
    parser.add_argument("--slices", type=int, default=24, help="of the CT that is cut into windows")
    parser.add_argument("--batches", type=int, default=4, help=f"of {BATCH} windows in a round")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args()
    torch.set_num_threads(1)
    size = (options.size, options.size)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        dataset = write_ct(folder / "ct", (*size, options.slices))
        store = prepare(dataset, folder / "store", workers=1)
        preparation.prepare(dataset, folder / "recipe", workers=1)
        ours = Ours(store, size, options.device, AugmentationConfig())
        alike = Ours(store, size, options.device, read_preset("paper/recipe").augmentation)
        (values,) = next(iter(store.cases.values())).ranges
        transform = feeding.make_transform(size, values)
        windows = feeding.list_windows(folder / "recipe")
        random = np.random.default_rng(0)
        transform.set_random_state(0)
        kept = ours.read()
        timings = interleave(
            {
                "recipe": many(options.batches * BATCH, lambda: transform(windows[random.integers(len(windows))])),
                "ours, its changes": many(options.batches, lambda: alike.augment(alike.read())),
                "ours": many(options.batches, lambda: ours.augment(ours.read())),
                "our reading": many(options.batches, ours.read),
                "our augmentation": many(options.batches, lambda: ours.augment(kept)),
            },
            rounds=options.rounds,
        )
    print(f"\n{options.size}×{options.size}×{DEPTH} windows, one core, augmented on {options.device}\n")
    print("| way | ms a window | windows a second |\n| --- | --- | --- |")
    for way in ("recipe", "ours, its changes", "ours", "our reading", "our augmentation"):
        seconds = timings.seconds(way) / (options.batches * BATCH)
        print(f"| {way} | {1e3 * seconds:.1f} | {1 / seconds:.0f} |")
    print(f"\n{compared(timings, 'recipe', 'ours, its changes')}\n{compared(timings, 'recipe', 'ours')}")


if __name__ == "__main__":
    main()
