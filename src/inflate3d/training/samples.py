"""What a training draws its batches from."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from inflate3d.config import InflatedConfig, RunConfig
from inflate3d.datasets.splits import Split
from inflate3d.preparation.plan import Plan
from inflate3d.preparation.store import Store
from inflate3d.resources import count_cores

if TYPE_CHECKING:
    from inflate3d.models.segmenter import Segmenter
    from inflate3d.models.volumetric import VolumetricSegmenter
    from inflate3d.windows.datamodule import SamplesModule


def choose_samples(
    config: RunConfig,
    store: Store,
    split: Split,
    watched: tuple[str, ...],
    model: Segmenter | VolumetricSegmenter,
    plan: Plan,
    on_gpu: bool,
) -> SamplesModule:
    """Windows for an inflated backbone, patches for a 3D network.

    Args:
        config: The run's settings.
        store: Its prepared cases.
        split: Which of them to train on.
        watched: Those to validate on.
        model: What is trained.
        plan: Spacing and stride of the samples.
        on_gpu: Whether loader processes are of use if the user names no number of them.
    """
    from inflate3d.models.volumetric import VolumetricSegmenter
    from inflate3d.windows.datamodule import WindowsModule
    from inflate3d.windows.patches import PatchesModule

    training = config.training
    how: dict[str, Any] = {
        "train": split.train,
        "validation": watched,
        "batch_size": training.batch_size,
        "batches": training.steps * training.accumulate,
        "foreground_fraction": training.foreground_fraction,
        "seed": training.seed,
        "workers": training.workers if training.workers is not None else _workers(training.devices) * on_gpu,
    }
    if isinstance(model, VolumetricSegmenter):
        return PatchesModule(
            store,
            size=model.architecture.patch_size,
            pixel_spacing=plan.pixel_spacing,
            augmentation=config.augmentation,
            **how,
        )
    assert isinstance(config.model, InflatedConfig)
    return WindowsModule(store, depth=config.model.depth, stride=plan.stride, target=config.model.target, **how)


def _workers(devices: int) -> int:
    """Loader processes of each device, if the user does not say."""
    return min(8, max(1, count_cores() // devices))
