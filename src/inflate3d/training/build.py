"""Builds a run's network and the plan that its samples follow."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from inflate3d.config import InflatedConfig, RunConfig, VolumetricConfig
from inflate3d.errors import ConfigError
from inflate3d.preparation.fingerprint import Fingerprint
from inflate3d.preparation.plan import Plan
from inflate3d.preparation.store import Store

if TYPE_CHECKING:
    from inflate3d.models.segmenter import Segmenter
    from inflate3d.models.volumetric import VolumetricSegmenter

    Model: TypeAlias = Segmenter | VolumetricSegmenter

MOST_ANISOTROPIC = 2.0
"""Largest ratio of spacings in the median case at which windows along all axes are allowed."""


def plan_run(config: RunConfig, store: Store) -> Plan:
    """The run's plan: the store's, with the run's own stride and image size."""
    if isinstance(config.model, VolumetricConfig):
        _, rows, columns = _patch_size(config.model, store)
        return store.plan.model_copy(update={"image_size": (rows, columns)})
    from inflate3d.models.backbones import nearest_image_size

    own = {
        "stride": config.model.stride or store.plan.stride,
        "image_size": config.model.image_size or nearest_image_size(config.model.encoder, store.plan.image_size),
        "planes": config.model.planes,
    }
    plan = store.plan.model_copy(update=own)
    if plan.planes == "all":
        spacing = _check_spacing(store.fingerprint)
        plan = plan.model_copy(update={"reasons": plan.reasons | {"planes": f"all three: {spacing}"}})
    for plane in plan.plane_plans:
        plane.check_depth(store.fingerprint, config.model.depth)
    return plan


def _check_spacing(fingerprint: Fingerprint) -> str:
    """The median spacing in words; it must be similar along all axes."""
    sides = fingerprint.median_spacing()
    words = f"median spacing is {' × '.join(f'{side:.3g}' for side in sides)} mm (left-right, back-front, down-up)"
    if max(sides) >= MOST_ANISOTROPIC * min(sides):
        raise ConfigError(
            "slices are too thick to train on all planes",
            expected=f"a largest spacing below {MOST_ANISOTROPIC:g} times the smallest",
            got=words,
            hint="leave out --planes: across thick slices, an image is coarse along one of its sides",
        )
    return words


def thinnest_structure(store: Store, cases: Sequence[str]) -> tuple[float, float, float] | None:
    """Along each axis of the frame the millimeters of the shortest stretch of slices that hold a label, of all cases.

    Returns:
        None where no case has a label.
    """
    shortest = [np.inf, np.inf, np.inf]
    for stored in (store.cases[case] for case in cases):
        for axis, spacing in enumerate(stored.spacing):
            holding = np.zeros(stored.shape[axis] + 2, int)
            for slices in stored.slices_along(axis).values():
                holding[np.array(slices) + 1] = 1
            edges = np.flatnonzero(np.diff(holding))
            shortest[axis] = min([shortest[axis], *((edges[1::2] - edges[::2]) * spacing)])
    depth, rows, columns = map(float, shortest)
    return None if depth == np.inf else (depth, rows, columns)


def absent_classes(store: Store, cases: Sequence[str]) -> list[str]:
    """Names of the classes, or regions, that none of the cases has."""
    values = list(store.plan.classes)
    present = {values[number] for case in cases for number in store.cases[case].slices}
    return [name for name, held in store.plan.targets.items() if present.isdisjoint(held)]


def build_model(config: RunConfig, store: Store, plan: Plan) -> Model:
    """The network before its first step, with its plan."""
    import pytorch_lightning as lightning

    lightning.seed_everything(config.training.seed, verbose=False)
    if isinstance(config.model, InflatedConfig):
        model = _build_inflated(config, config.model, plan)
    else:
        model = _build_volumetric(config.model, store)
    model.plan = plan
    return model


def _build_inflated(config: RunConfig, settings: InflatedConfig, plan: Plan) -> Segmenter:
    from inflate3d.models.encoders import checkpoint_activations
    from inflate3d.models.segmenter import model_from_config
    from inflate3d.training.optimization import freeze, freeze_layers

    model = model_from_config(
        settings,
        in_channels=len(plan.modalities),
        image_size=plan.image_size,
        num_classes=plan.outputs,
        class_names=plan.class_names,
    )
    freeze(model, config.training.freeze)
    freeze_layers(model, config.training.freeze_layers)
    if config.training.checkpoint_activations:
        checkpoint_activations(model.encoder.network, model.encoder.name)
    return model


def _build_volumetric(settings: VolumetricConfig, store: Store) -> VolumetricSegmenter:
    from inflate3d.models.volumetric import create_volumetric
    from inflate3d.windows.patches import median_grid

    _, spacing = median_grid(store)
    return create_volumetric(
        settings.network,
        in_channels=len(store.plan.modalities),
        num_classes=store.plan.outputs,
        patch_size=_patch_size(settings, store),
        spacing=spacing,
        width=settings.network_width,
    )


def _patch_size(settings: VolumetricConfig, store: Store) -> tuple[int, int, int]:
    from inflate3d.models.volumetric import usual_patch_size
    from inflate3d.windows.patches import median_grid

    return settings.patch_size or usual_patch_size(settings.network, median_grid(store)[0])


def describe_weights(model: Model) -> str:
    """Where the network's weights come from, for the user."""
    from inflate3d.models.volumetric import VolumetricSegmenter

    if isinstance(model, VolumetricSegmenter):
        return model.summary()
    report = model.encoder.weights_report
    return report.summary() if report else "2D weights: none, the backbone starts from random weights"
