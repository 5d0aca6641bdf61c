"""Where the time of a training step goes, part by part: forward and backward, precision by precision.

python benchmarks/training_profile.py               # BEiT-base at 224², two windows; under a minute on two cores
python benchmarks/training_profile.py --encoder vit_small_patch14_dinov2 --image-size 112 --batch-size 8
python benchmarks/training_profile.py --operators   # and torch's own table of operators
"""

from __future__ import annotations

import argparse
import statistics
import time
import warnings
from collections.abc import Callable
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.profiler import profile
from training_steps import CLIP, Batch, Trainer, Way, autocast, make_trainer, random_batch, synchronise

from inflate3d.config import AugmentationConfig
from inflate3d.windows.augment import change_intensities, random_matrices
from inflate3d.windows.resample import resample_labels, resample_windows

PRECISIONS = {"float32": torch.float32, "bfloat16": torch.bfloat16}
MILLIMETERS = 300.0
"""Side of the slices."""


Result = TypeVar("Result")


class Stopwatch:
    """Times parts of a step; a GPU is waited for after each."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.seconds: dict[str, float] = {}

    def time(self, part: str, work: Callable[[], Result]) -> Result:
        """Does the work."""
        started = time.perf_counter()
        result = work()
        synchronise(self.device)
        self.seconds[part] = time.perf_counter() - started
        return result


def augment(batch: Batch, generator: torch.Generator) -> Batch:
    """Geometry and intensities, as a training changes them."""
    settings, size = AugmentationConfig(), (batch.windows.shape[-2], batch.windows.shape[-1])
    sides = torch.full((len(batch.windows), 2), MILLIMETERS, device=batch.windows.device)
    flips = torch.tensor([[False, True, True]], device=sides.device).expand(len(sides), 3)
    matrices = random_matrices(settings, flips, sides, generator)
    windows = resample_windows(batch.windows, matrices, size)
    labels = resample_labels(batch.labels[:, 0], matrices, size)
    return Batch(change_intensities(windows, settings, generator), labels)


def timed_step(trainer: Trainer, batch: Batch, precision: torch.dtype, generator: torch.Generator) -> dict[str, float]:
    """A step with its parts one after the other, so that the backward pass of each is timed by itself."""
    model, device = trainer.model, batch.windows.device
    watch = Stopwatch(device)
    trainer.optimizer.zero_grad()
    batch = watch.time("augmentation", lambda: augment(batch, generator))
    architecture = model.architecture
    with autocast(device, precision):
        scaled = (batch.windows - architecture.input_mean) / architecture.input_std
        maps: list[Tensor] = watch.time("encoder, forward", lambda: model.encoder(scaled))
        cut = [features.detach().requires_grad_() for features in maps]
        logits = watch.time("decoder, forward", lambda: model.decode(cut, scaled))
    scores = logits.detach().float().requires_grad_()
    watch.time("loss, forward and backward", lambda: trainer.loss(scores[:, :, None], batch.labels).backward())
    assert scores.grad is not None
    upstream = scores.grad.to(logits.dtype)
    watch.time("decoder, backward", lambda: logits.backward(upstream))
    gradients = [features.grad for features in cut]
    watch.time("encoder, backward", lambda: torch.autograd.backward(maps, gradients))
    watch.time("gradient clipping", lambda: nn.utils.clip_grad_norm_(model.parameters(), CLIP))
    watch.time("optimizer", trainer.optimizer.step)
    return watch.seconds


def print_table(columns: dict[str, list[dict[str, float]]]) -> None:
    medians = {
        name: {part: statistics.median(each[part] for each in rounds) for part in rounds[0]}
        for name, rounds in columns.items()
    }
    print("| part | " + " | ".join(f"{name}, ms | share" for name in medians) + " |")
    print("| --- |" + " --- |" * 2 * len(medians))
    for part in next(iter(medians.values())):
        cells = [f"{1e3 * each[part]:.1f} | {each[part] / sum(each.values()):.0%}" for each in medians.values()]
        print(f"| {part} | " + " | ".join(cells) + " |")
    print("| together | " + " | ".join(f"{1e3 * sum(each.values()):.0f} | 100%" for each in medians.values()) + " |")


def print_operators(step: Callable[[], object], device: torch.device) -> None:
    with profile() as profiled:
        step()
    print(profiled.key_averages().table(sort_by=f"self_{device.type}_time_total", row_limit=20))


def main() -> None:
    warnings.simplefilter("ignore")
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--encoder", default="beit")
    options.add_argument("--decoder", default="fpn-lite")
    options.add_argument("--image-size", type=int, default=224)
    options.add_argument("--batch-size", type=int, default=2)
    options.add_argument("--rounds", type=int, default=5)
    options.add_argument("--threads", type=int, help="all cores if not given")
    options.add_argument("--device", default="cpu")
    options.add_argument("--operators", action="store_true", help="print torch's table of operators, too")
    given = options.parse_args()
    if given.threads:
        torch.set_num_threads(given.threads)
    device = torch.device(given.device)
    trainer = make_trainer(Way(given.decoder, torch.float32), given.image_size, device, given.encoder)
    batch = random_batch(given.batch_size, given.image_size, device)
    generator = torch.Generator(device).manual_seed(0)
    columns: dict[str, list[dict[str, float]]] = {name: [] for name in PRECISIONS}
    for turn in range(given.rounds + 1):
        for name, precision in PRECISIONS.items():
            seconds = timed_step(trainer, batch, precision, generator)
            if turn:  # the first warms up
                columns[name].append(seconds)
    size, threads = given.image_size, torch.get_num_threads()
    print(
        f"{given.encoder}, {given.decoder}, {given.batch_size} windows of 5×{size}×{size}; {device}, {threads} threads"
    )
    print()
    print_table(columns)
    if given.operators:
        for name, precision in PRECISIONS.items():
            print(f"\n{name}")
            print_operators(lambda precision=precision: trainer.step(batch, precision), device)


if __name__ == "__main__":
    main()
