"""Defaults of a training that depend on the dataset: depth, batch size, sampling and steps."""

from __future__ import annotations

import math
import sys
from dataclasses import dataclass
from pathlib import Path

from inflate3d.config import TrainingDefaults
from inflate3d.orientation import DEPTH_AXES
from inflate3d.preparation.fingerprint import Fingerprint
from inflate3d.preparation.plan import Plan, window_span
from inflate3d.resources import total_memory

USUAL_DEPTH = 5
"""Slices in a window; the paper's ablation found 5 best (84.74 %, 1 slice 83.34 %, 11 slices 83.83 % on BCV)."""

THICK_SLICES = 6.0
"""Millimeters from which on a window is a single slice: 5 slices lost 0.013 Dice to 1 on ACDC (mostly 10 mm, 40 test
scans, one seed), and gained 0.014 on BCV (3 to 5 mm; the paper)."""

USUAL_STRIDE = 1
"""Neighboring slices; the paper's ablation found them best (BCV, mean of 14 labels: stride 1 84.74 %, 2 84.30 %,
3 77.68 %)."""

USUAL_BATCH = 16
"""Windows per step, as in the paper."""
WINDOW_BYTES_PER_PIXEL = 8_000
"""Memory of a window in training: 3,900 to 5,700 bytes are saved for the backward pass (float32; ViT-B, Swin-B and
ConvNeXt-B with the default decoder, from 224² to 512²), and as much again is workspace."""
FIXED_BYTES = 2 * 2**30
"""Weights, gradients and optimizer state of a base-sized network, and the libraries."""

PASSES = 10
"""How often the default training sees every slice."""
FEWEST_STEPS, MOST_STEPS = 1_000, 25_000
"""The paper trains for 25,000 steps."""

RARE_SHARE = 0.05
"""A class in a smaller fraction of the slices is rare, and more windows are sampled by class."""

_GPU_DEVICES = ("/dev/nvidiactl", "/dev/nvidia0", "/dev/kfd", "/dev/dxg", "/dev/nvhost-gpu", "/dev/nvgpu")
"""Device files of NVIDIA's and AMD's drivers, of the Windows subsystem for Linux, and of Jetson boards."""

_ASSUMED = 8 << 30
"""Memory assumed where the system does not report it, in bytes."""


@dataclass(frozen=True)
class Memory:
    """Memory that a training may use.

    Attributes:
        usable: Bytes.
        where: Kind of memory, in words.
    """

    usable: int
    where: str


def available_memory() -> Memory:
    """Nine tenths of the first GPU's memory; without a GPU half of what this process may use."""
    if _may_have_gpu():
        import torch

        if torch.cuda.is_available():
            total = torch.cuda.get_device_properties(0).total_memory
            return Memory(int(0.9 * total), "the GPU's memory")
    if (whole := total_memory()) is None:
        return Memory(_ASSUMED, "memory, assumed since the system does not report it")
    return Memory(whole // 2, "the machine's memory")


def _may_have_gpu() -> bool:
    """Whether importing torch, which takes seconds, is worthwhile: on Linux a GPU's driver appears as a device."""
    return sys.platform != "linux" or any(Path(device).exists() for device in _GPU_DEVICES)


def propose_training(plan: Plan, fingerprint: Fingerprint, memory: Memory) -> tuple[TrainingDefaults, dict[str, str]]:
    """Depth, batch size, sampling and steps for this dataset, with the reason for each.

    Args:
        memory: Memory available for training.
    """
    world = DEPTH_AXES.index(plan.depth_axis)
    slices = [plan.slice_count(case.shape[world], case.spacing[world]) for case in fingerprint.cases]
    why: dict[str, str] = {}
    apart = plan.slice_spacing or fingerprint.median_spacing()[world]
    depth, why["depth"] = _depth(min(slices), apart, plan)
    batch, accumulate, why["batch_size"] = _batch_size(plan.image_size, memory)
    fraction, why["foreground_fraction"] = _foreground_fraction(fingerprint, plan, world)
    steps, why["steps"] = _steps(sum(slices), batch * accumulate)
    defaults = TrainingDefaults(
        depth=depth, batch_size=batch, accumulate=accumulate, foreground_fraction=fraction, steps=steps
    )
    return defaults, why


def _depth(thinnest: int, apart: float, plan: Plan) -> tuple[int, str]:
    if apart >= THICK_SLICES:
        return (
            1,
            f"1 slice: slices are {apart:.3g} mm apart, and neighbors of {THICK_SLICES:g} mm or more have not paid",
        )
    depth = USUAL_DEPTH
    while depth > 1 and window_span(depth, plan.stride) > thinnest:
        depth -= 2
    if depth == USUAL_DEPTH:
        return depth, f"{depth} slices, as in the paper"
    resampled = "" if plan.slice_spacing is None else f", resampled to {plan.slice_spacing:.3g} mm,"
    return depth, f"{depth} slice{'s' if depth > 1 else ''}: the thinnest scan{resampled} has {thinnest}"


def _batch_size(size: tuple[int, int], memory: Memory) -> tuple[int, int, str]:
    window = WINDOW_BYTES_PER_PIXEL * size[0] * size[1]
    room = max(2, int((memory.usable - FIXED_BYTES) / window))
    batch = min(USUAL_BATCH, 2 ** int(math.log2(room)))
    accumulate = USUAL_BATCH // batch
    reason = f"{batch} windows: {memory.usable / 2**30:.0f} GiB of {memory.where}, about {window / 2**30:.1f} a window"
    return batch, accumulate, reason + (f"; gradients of {accumulate} batches are added up" if accumulate > 1 else "")


def _foreground_fraction(fingerprint: Fingerprint, plan: Plan, world: int) -> tuple[float, str]:
    shares = fingerprint.slice_share(world)
    # a region is in at least as many slices as the most frequent of its values
    targets = {name: max(shares.get(value, 0.0) for value in held) for name, held in plan.targets.items()}
    rarest = min(targets, key=lambda name: targets[name])
    share = targets[rarest]
    kind = "region" if plan.regions else "class"
    fraction, part = (0.5, "half") if share >= RARE_SHARE else (0.67, "two thirds")
    return fraction, (
        f"{part} of the windows are drawn by {kind}, each {kind} alike: "
        f"the rarest, {rarest}, is in {share:.0%} of the slices"
    )


def _steps(slices: int, windows: int) -> tuple[int, str]:
    passes = PASSES * slices / windows
    wanted = 100 * round(passes / 100)
    steps = min(max(wanted, FEWEST_STEPS), MOST_STEPS)
    why = f"{PASSES} passes over {slices} slices"
    if steps != wanted:
        about = f"{float(f'{passes:.2g}'):.0f}"
        why += f" would be about {about}, the {'least' if steps > wanted else 'most'} is {steps}"
    return steps, f"{steps}: {why}"
