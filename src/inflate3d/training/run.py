"""A training from its configuration to its folder."""

from __future__ import annotations

import os
import warnings
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

import numpy as np

from inflate3d.config import RunConfig
from inflate3d.datasets.splits import Split, choose_split
from inflate3d.errors import ConfigError
from inflate3d.preparation.plan import Plan
from inflate3d.preparation.store import Store
from inflate3d.run_folder import RunFolder

if TYPE_CHECKING:
    import pytorch_lightning as lightning
    from rich.console import Console

    from inflate3d.models.segmenter import Segmenter
    from inflate3d.models.volumetric import VolumetricSegmenter
    from inflate3d.training.processes import Processes
    from inflate3d.windows.datamodule import SamplesModule


def train(
    config: RunConfig,
    folder: RunFolder,
    store: Store,
    *,
    resume: bool = False,
    console: Console | None = None,
) -> bool:
    """Trains one network and leaves its folder.

    On several devices this is run by as many processes. Where no launcher has started them, this process does, by the
    command line of its own: a script that calls this is run anew by each.

    Args:
        config: Everything that is decided.
        folder: The run's folder.
        store: The prepared data set.
        resume: Whether to go on with an unfinished run; without one there it starts.
        console: Where to show progress; nowhere if not given.

    Returns:
        Whether this process is the first of those that train; the others have nothing left to do.

    Raises:
        ConfigError: The run exists already, is to be resumed with another configuration, its split, its
            accelerator or its processes are not there.
        DataError: A scan has fewer slices than a window, or the split doesn't fit the cases.
        ModelError: The backbone or its weights can't be used.
        OutputError: A file can't be written, or another process is training or evaluating the run.
        DivergedError: The loss or the weights are infinite or not numbers.
        Interrupted: The user stopped it; a checkpoint was written.
    """
    from inflate3d.training.processes import find_processes

    processes = find_processes(config.training)
    with folder.locked() if processes.first else nullcontext():
        return _train(config, folder, store, processes, resume, console)


def _train(
    config: RunConfig, folder: RunFolder, store: Store, processes: Processes, resume: bool, console: Console | None
) -> bool:
    from inflate3d.provenance.card import write_card
    from inflate3d.provenance.record import recorded
    from inflate3d.training.determinism import determinism
    from inflate3d.training.stop import Interrupted
    from inflate3d.training.trainer import make_trainer

    if processes.first:
        _claim(folder, config, resume)
    plan = _plan(config, store)
    split = choose_split(config.data, store.groups, store.splits)
    _check_same_split(folder, split)
    if resume and folder.finished:
        return processes.first
    model = _build(config, store, plan)
    assert model.plan is not None
    trainer = make_trainer(config, folder, model.plan, list(store.cases), processes, console)
    if processes.first:
        if console:
            console.print(_told(model), highlight=False, soft_wrap=True)
        config.write(folder.config)
        model.plan.write(folder.plan)
        split.write(folder.split)
    device = trainer.strategy.root_device
    noted = (
        recorded(folder, config, store, split, device=device, stop=Interrupted) if processes.first else nullcontext()
    )
    try:
        with noted, determinism(config.training):
            _fit(trainer, config, folder, store, split, model, model.plan)
            if processes.first:
                _keep_best(folder, model)
    except Interrupted:
        if processes.first:
            raise
        return False  # the first one tells
    if processes.first:
        write_card(folder)
    return processes.first


def _claim(folder: RunFolder, config: RunConfig, resume: bool) -> None:
    if not folder.config.exists():
        return
    if not resume:
        raise ConfigError(
            "a run is there already",
            file=folder.root,
            remedy="go on with it by --resume, or choose another folder by --run",
        )
    config.check_unchanged(folder.config)


def _check_same_split(folder: RunFolder, split: Split) -> None:
    """A run goes on with the cases that it was started with: others may be among those it holds out."""
    if not folder.split.exists():
        return
    before = Split.read(folder.split)
    if (before.train, before.validation, before.test) != (split.train, split.validation, split.test):
        raise ConfigError(
            "the run was started with another split",
            expected=before.source,
            got=f"{split.source}, with other cases",
            remedy="give the data set its old split back, or choose another folder by --run",
            file=folder.split,
        )


def _plan(config: RunConfig, store: Store) -> Plan:
    """The store's plan with what the run has different."""
    if config.model.network != "inflated":
        check_nothing_of_an_encoder(config)
        return store.plan
    stride = config.model.stride or store.plan.stride
    plan = store.plan.model_copy(update={"stride": stride})
    plan.check_depth(store.fingerprint, config.model.depth)
    return plan


def check_nothing_of_an_encoder(config: RunConfig) -> None:
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


def _build(config: RunConfig, store: Store, plan: Plan) -> Segmenter | VolumetricSegmenter:
    import pytorch_lightning as lightning

    lightning.seed_everything(config.training.seed, verbose=False)
    model = _build_inflated(config, plan) if config.model.network == "inflated" else _build_3d(config, store)
    model.plan = plan.model_copy(update={"image_size": model.architecture.image_size})
    return model


def _build_inflated(config: RunConfig, plan: Plan) -> Segmenter:
    from inflate3d.models.activation_checkpoints import checkpoint_activations
    from inflate3d.models.backbones import nearest_image_size
    from inflate3d.models.segmenter import model_from_config
    from inflate3d.training.optimization import freeze

    size = config.model.image_size
    if size is None:
        size = nearest_image_size(config.model.encoder, plan.image_size)
    model = model_from_config(
        config.model, in_channels=len(plan.modalities), image_size=size, num_classes=len(plan.classes)
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


def _told(model: Segmenter | VolumetricSegmenter) -> str:
    """Where the network's weights are from, in words."""
    from inflate3d.models.volumetric import VolumetricSegmenter

    if isinstance(model, VolumetricSegmenter):
        return model.summary()
    report = model.encoder.weights_report
    return report.summary() if report else "2D weights: none, the backbone starts from random ones"


def _fit(
    trainer: lightning.Trainer,
    config: RunConfig,
    folder: RunFolder,
    store: Store,
    split: Split,
    model: Segmenter | VolumetricSegmenter,
    plan: Plan,
) -> None:
    from timm.layers.norm_act import convert_sync_batchnorm

    from inflate3d.models.memory_format import quickest_memory_format
    from inflate3d.training.processes import end_others
    from inflate3d.training.stop import Interrupted, signals_given_back
    from inflate3d.training.task import SegmentationTask

    watched = _evenly(split.validation, config.training.validation_cases)
    on_gpu = trainer.accelerator.__class__.__name__ == "CUDAAccelerator"
    data = _samples(config, store, split, watched, model, plan, on_gpu)
    if config.model.network == "inflated":
        reduced = config.training.precision != "32"
        model.to(memory_format=quickest_memory_format(trainer.strategy.root_device, reduced_precision=reduced))
    if on_gpu and trainer.world_size > 1:
        convert_sync_batchnorm(model)  # in place; timm's, as torch's would lose the activations of timm's norms
    if config.training.compile:
        model.compile()  # in place: names of weights stay as they are
    task = SegmentationTask(model, config, plan, list(store.cases), watched)
    checkpoint = str(folder.last) if folder.last.exists() else None
    with warnings.catch_warnings(), signals_given_back():
        # The loader does go on from the right window: it asks for the step (see WindowsModule).
        warnings.filterwarnings("ignore", ".*your dataloader is not resumable.*")
        warnings.filterwarnings("ignore", ".*does not have many workers.*")
        warnings.filterwarnings("ignore", "Checkpoint directory .* exists and is not empty")  # a resumed run's
        warnings.filterwarnings("ignore", r"Found \d+ module\(s\) in eval mode.*")  # a frozen backbone's
        warnings.filterwarnings("ignore", ".*LeafSpec.*")  # Lightning 2.6 beside torch 2.15
        # All processes do log the same numbers.
        warnings.filterwarnings("ignore", ".*sync_dist=True.*")
        warnings.filterwarnings("ignore", ".*find_unused_parameters=True was specified.*")
        warnings.filterwarnings("ignore", ".*Grad strides do not match bucket view strides.*")  # channels_last
        try:
            trainer.fit(task, datamodule=data, ckpt_path=checkpoint, weights_only=True)
        except Interrupted:
            raise  # the others are leaving, too
        except BaseException:
            end_others(trainer)
            raise


def _samples(
    config: RunConfig,
    store: Store,
    split: Split,
    watched: tuple[str, ...],
    model: Segmenter | VolumetricSegmenter,
    plan: Plan,
    on_gpu: bool,
) -> SamplesModule:
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
    return WindowsModule(store, depth=config.model.depth, stride=plan.stride, target=config.model.target, **how)


def _workers(devices: int) -> int:
    """Loader processes of each device, if the user does not say."""
    return min(8, max(1, (os.cpu_count() or 1) // devices))


def _keep_best(folder: RunFolder, model: Segmenter | VolumetricSegmenter) -> None:
    import torch

    state = torch.load(folder.best, map_location="cpu", weights_only=True)["state_dict"]
    own = {name.removeprefix("model."): value for name, value in state.items() if name.startswith("model.")}
    model.load_state_dict(own)
    model.save(folder.model)


def _evenly(cases: tuple[str, ...], most: int | None) -> tuple[str, ...]:
    """At most so many of the cases, spread evenly over them."""
    if most is None or len(cases) <= most:
        return cases
    return tuple(cases[index] for index in np.linspace(0, len(cases) - 1, most).round().astype(int))
