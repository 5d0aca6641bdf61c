"""The training samples, and the cases for validation during training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from inflate3d.config import RunConfig, VolumetricConfig
from inflate3d.datasets.splits import Split
from inflate3d.preparation.plan import Plan
from inflate3d.preparation.store import Store
from inflate3d.resources import count_cores

if TYPE_CHECKING:
    from inflate3d.models.segmenter import Segmenter
    from inflate3d.models.volumetric import VolumetricSegmenter
    from inflate3d.windows.datamodule import Samples, SamplesModule

T = TypeVar("T")


def choose_samples(
    config: RunConfig,
    store: Store,
    split: Split,
    model: Segmenter | VolumetricSegmenter,
    plan: Plan,
    on_gpu: bool,
) -> SamplesModule:
    """Windows or slabs for an inflated backbone, patches for a 3D network.

    Args:
        split: Which of them to train on, and which to validate on.
        on_gpu: Whether loader processes are of use if the user names no number of them.
    """
    from inflate3d.models.volumetric import VolumetricSegmenter
    from inflate3d.windows.datamodule import SamplesModule, Slabs, Windows
    from inflate3d.windows.patches import Patches
    from inflate3d.windows.sampling import WindowSampler

    training = config.training
    cases = {name: store.cases[name] for name in split.train}
    draw = WindowSampler(cases, training.foreground_fraction, training.seed, plan.planes, plan.region_numbers).draw
    samples: Samples
    batch_size = training.batch_size
    if isinstance(config.model, VolumetricConfig):
        assert isinstance(model, VolumetricSegmenter)
        samples = Patches(
            store,
            draw,
            size=model.architecture.patch_size,
            pixel_spacing=plan.pixel_spacing,
            augmentation=config.augmentation,
            seed=training.seed,
        )
    elif config.model.depth_mixing != "none":
        samples = Slabs(store, draw, config.model.slab, training.seed)
        batch_size = batch_size // config.model.slab
    else:
        samples = Windows(store, draw, config.model.depth, plan.stride)
    return SamplesModule(
        samples,
        choose_watched(split.validation, store.groups, training.validation_cases),
        batch_size=batch_size,
        batches=training.steps * training.accumulate,
        workers=training.workers if training.workers is not None else _workers(training.devices) * on_gpu,
    )


def choose_watched(cases: Sequence[str], groups: Mapping[str, str | None], most: int | None) -> tuple[str, ...]:
    """The cases to validate on during training, spread evenly over groups such as patients.

    A second case of a group is taken only where each group has one already.

    Args:
        groups: The group of each case; a case without one is a group of its own.
        most: How many to take; None for all.
    """
    if most is None or len(cases) <= most:
        return tuple(cases)
    members: dict[str, list[str]] = {}
    for case in cases:
        members.setdefault(groups[case] or case, []).append(case)
    kept = _evenly(list(members.values()), most)
    chosen: list[str] = []
    for turn in range(max(map(len, kept))):
        # the first case of one group, the second of the next: phases of the heart are not all the same
        round_ = [each[(turn + index) % len(each)] for index, each in enumerate(kept) if turn < len(each)]
        chosen += _evenly(round_, most - len(chosen))
    return tuple(case for case in cases if case in chosen)


def _evenly(items: list[T], most: int) -> list[T]:
    """At most this many, evenly spread."""
    if len(items) <= most:
        return items
    return [items[index] for index in np.linspace(0, len(items) - 1, most).round().astype(int)]


def _workers(devices: int) -> int:
    """Default number of loader processes for each device."""
    return min(8, max(1, count_cores() // devices))
