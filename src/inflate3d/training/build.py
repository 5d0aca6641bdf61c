"""The network of a run, and the plan that its samples follow."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

from inflate3d.config import RunConfig
from inflate3d.errors import ConfigError
from inflate3d.preparation.plan import Plan
from inflate3d.preparation.store import Store
from inflate3d.run_folder import RunFolder

if TYPE_CHECKING:
    from inflate3d.models.segmenter import Segmenter
    from inflate3d.models.volumetric import VolumetricSegmenter

    Model: TypeAlias = Segmenter | VolumetricSegmenter


def plan_run(config: RunConfig, store: Store) -> Plan:
    """The store's plan with what the run has different.

    Raises:
        ConfigError: Settings don't go together.
        DataError: A scan has fewer slices than a window.
    """
    if config.model.network != "inflated":
        _check_nothing_of_an_encoder(config)
        return store.plan
    from inflate3d.models.backbones import nearest_image_size

    own = {
        "stride": config.model.stride or store.plan.stride,
        "image_size": config.model.image_size or nearest_image_size(config.model.encoder, store.plan.image_size),
    }
    plan = store.plan.model_copy(update=own)
    plan.check_depth(store.fingerprint, config.model.depth)
    return plan


def check_plan(folder: RunFolder, config: RunConfig, plan: Plan) -> None:
    """Makes sure that a run which was started goes on by the plan that it was started by.

    Args:
        folder: The run's.
        config: Its settings.
        plan: What `plan_run` gives for them now.

    Raises:
        ConfigError: The store was prepared anew by another.
    """
    if not folder.plan.exists():
        return
    before = Plan.read(folder.plan)
    if config.model.network != "inflated":  # its patch decides
        plan = plan.model_copy(update={"image_size": before.image_size})
    if differing := before.differing(plan):
        raise ConfigError(
            "the run was started by another plan than the store has now",
            expected=", ".join(f"{name} {old}" for name, (old, _) in differing.items()),
            got=", ".join(f"{name} {new}" for name, (_, new) in differing.items()),
            hint="prepare the dataset as it was, or choose another folder by --run or --out",
            file=folder.plan,
        )


def _check_nothing_of_an_encoder(config: RunConfig) -> None:
    """Makes sure that a 3D network is not to be trained as a pre-trained encoder is.

    Raises:
        ConfigError: It is.
    """
    training = config.training
    if training.freeze != "none" or training.layer_decay != 1:
        raise ConfigError(
            "a 3D network has no pre-trained encoder",
            expected=f"--freeze none and --layer-decay 1 beside --network {config.model.network}",
            got=f"--freeze {training.freeze} --layer-decay {training.layer_decay:g}",
        )
    if training.checkpoint_activations:
        raise ConfigError(
            "activations of a 3D network can't be checkpointed",
            expected=f"no --checkpoint-activations beside --network {config.model.network}",
            got="--checkpoint-activations",
        )


def build_model(config: RunConfig, store: Store, plan: Plan) -> Model:
    """The network as it is before its first step, with its plan.

    Raises:
        ModelError: The backbone or its weights can't be used.
    """
    import pytorch_lightning as lightning

    lightning.seed_everything(config.training.seed, verbose=False)
    model = _build_inflated(config, plan) if config.model.network == "inflated" else _build_3d(config, store)
    model.plan = plan.model_copy(update={"image_size": model.architecture.image_size})
    return model


def _build_inflated(config: RunConfig, plan: Plan) -> Segmenter:
    from inflate3d.models.encoders import checkpoint_activations
    from inflate3d.models.segmenter import model_from_config
    from inflate3d.training.optimization import freeze

    model = model_from_config(
        config.model, in_channels=len(plan.modalities), image_size=plan.image_size, num_classes=len(plan.classes)
    )
    freeze(model, config.training.freeze)
    if config.training.checkpoint_activations:
        checkpoint_activations(model.encoder.network, model.encoder.name)
    return model


def _build_3d(config: RunConfig, store: Store) -> VolumetricSegmenter:
    from inflate3d.models.volumetric import volumetric_from_config
    from inflate3d.windows.patches import median_grid

    shape, spacing = median_grid(store)
    return volumetric_from_config(
        config.model,
        in_channels=len(store.plan.modalities),
        num_classes=len(store.plan.classes),
        shape=shape,
        spacing=spacing,
    )


def told(model: Model) -> str:
    """Where the network's weights are from, in words."""
    from inflate3d.models.volumetric import VolumetricSegmenter

    if isinstance(model, VolumetricSegmenter):
        return model.summary()
    report = model.encoder.weights_report
    return report.summary() if report else "2D weights: none, the backbone starts from random ones"
