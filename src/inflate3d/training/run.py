"""A training from its configuration to its folder."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from inflate3d.config import RunConfig
from inflate3d.datasets.splits import Split, choose_split
from inflate3d.errors import ConfigError, Inflate3dError
from inflate3d.preparation.plan import Plan
from inflate3d.preparation.store import Store
from inflate3d.run_folder import RunFolder
from inflate3d.stopping import Interrupted, interruptible
from inflate3d.training.build import build_model, check_plan, plan_run, told

if TYPE_CHECKING:
    import pytorch_lightning as lightning
    import torch
    from rich.console import Console

    from inflate3d.models.segmenter import Segmenter
    from inflate3d.models.volumetric import VolumetricSegmenter
    from inflate3d.provenance import Recording
    from inflate3d.training.processes import Processes

    Model: TypeAlias = Segmenter | VolumetricSegmenter


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
        store: The prepared dataset.
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
    from inflate3d.models.card import TrainedRun, write_model_card
    from inflate3d.training.determinism import determinism

    if processes.first:
        _claim(folder, config, resume)
    plan = plan_run(config, store)
    check_plan(folder, config, plan)
    split = choose_split(config.data, store.groups, store.splits)
    _check_same_split(folder, split)
    if resume and folder.finished:
        return processes.first
    trainer, model = _build_both(config, folder, store, plan, processes, console)
    assert model.plan is not None
    if processes.first:
        if console:
            console.print(told(model), highlight=False, soft_wrap=True)
        config.write(folder.config)
        model.plan.write(folder.plan)
        split.write(folder.split)
    device = trainer.strategy.root_device
    recording = _recorded(folder, config, store, split, device) if processes.first else nullcontext()
    try:
        with recording as session, determinism(config.training):
            fit = partial(_fit, config=config, folder=folder, store=store, split=split)
            rebuild = partial(_build_both, config, folder, store, plan, processes, console)
            model = _fit_in_memory(fit, rebuild, trainer, model, config, folder, console)
            if processes.first:
                _keep_best(folder, model)
    except Interrupted:
        if processes.first:
            raise
        return False  # the first one tells
    if session is not None:
        run = TrainedRun(config, split, session.provenance)
        write_model_card(folder.model, model.architecture, model.plan, run=run)
    return processes.first


def _recorded(
    folder: RunFolder, config: RunConfig, store: Store, split: Split, device: torch.device
) -> AbstractContextManager[Recording]:
    from inflate3d.models.weights_origin import weights_origin
    from inflate3d.provenance import data_origin, recorded

    data = data_origin(store, (*split.train, *split.validation))
    return recorded(folder, config, data, weights_origin(config.model), device=device)


def _fit_in_memory(
    fit: Callable[..., None],
    rebuild: Callable[[], tuple[lightning.Trainer, Model]],
    trainer: lightning.Trainer,
    model: Model,
    config: RunConfig,
    folder: RunFolder,
    console: Console | None,
) -> Model:
    """Trains; where memory is not enough, again from the last checkpoint, each batch in twice as many parts."""
    from inflate3d.models.oom import is_oom
    from inflate3d.training.parts import has_batch_norms, more_parts, too_little_memory

    parts = 1
    while True:
        try:
            fit(trainer, model=model, parts=parts)
            return model
        except (RuntimeError, MemoryError) as error:
            if not is_oom(error):
                raise
            shortage = str(error).partition("\n")[0]  # the error itself would keep the memory
            if trainer.world_size > 1:  # the others have all they need, and would not start anew with this one
                raise too_little_memory(shortage) from error
            parts = more_parts(parts, config.training.batch_size, shortage)
        del trainer, model
        _free_memory()
        trainer, model = rebuild()
        if console:
            place = "the last checkpoint" if folder.last.exists() else "the beginning"
            norms = ", whose batch norms see each part by itself" if has_batch_norms(model) else ""
            message = (
                f"memory is not enough ({shortage}): going on from {place}, {parts} parts of a batch in the encoder"
            )
            console.print(f"training: {message}{norms}", highlight=False, markup=False, soft_wrap=True)


def _free_memory() -> None:
    """Gives the memory of what is not used any more back to the device."""
    import gc

    import torch

    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def _build_both(
    config: RunConfig, folder: RunFolder, store: Store, plan: Plan, processes: Processes, console: Console | None
) -> tuple[lightning.Trainer, Model]:
    """The network as it was before its first step, and what trains it."""
    from inflate3d.training.trainer import make_trainer

    model = build_model(config, store, plan)
    assert model.plan is not None
    return make_trainer(config, folder, model.plan, list(store.cases), processes, console), model


def _claim(folder: RunFolder, config: RunConfig, resume: bool) -> None:
    if not folder.config.exists():
        return
    if not resume:
        raise ConfigError(
            "a run is there already",
            file=folder.root,
            hint="go on with it by --resume, or choose another folder by --run",
        )
    config.check_unchanged(folder.config)


def _check_same_split(folder: RunFolder, split: Split) -> None:
    """A run goes on with the cases that it was started with: others may be among those it holds out."""
    if not folder.split.exists():
        return
    before = Split.read(folder.split)
    if not before.has_cases_of(split):
        raise ConfigError(
            "the run was started with another split",
            expected=before.source,
            got=f"{split.source}, with other cases",
            hint="give the dataset its old split back, or choose another folder by --run",
            file=folder.split,
        )


def _fit(
    trainer: lightning.Trainer,
    *,
    config: RunConfig,
    folder: RunFolder,
    store: Store,
    split: Split,
    model: Model,
    parts: int,
) -> None:
    from timm.layers.norm_act import convert_sync_batchnorm

    from inflate3d.models.segmenter import preferred_memory_format
    from inflate3d.training.parts import take_in_parts
    from inflate3d.training.processes import end_others
    from inflate3d.training.samples import choose_samples
    from inflate3d.training.task import SegmentationTask

    plan = model.plan
    assert plan is not None
    watched = _evenly(split.validation, config.training.validation_cases)
    on_gpu = trainer.accelerator.__class__.__name__ == "CUDAAccelerator"
    data = choose_samples(config, store, split, watched, model, plan, on_gpu)
    if config.model.network == "inflated":
        reduced = config.training.precision != "32"
        model.to(memory_format=preferred_memory_format(trainer.strategy.root_device, reduced_precision=reduced))
    if on_gpu and trainer.world_size > 1:
        convert_sync_batchnorm(model)  # in place; timm's, as torch's would lose the activations of timm's norms
    take_in_parts(model, parts)
    if config.training.compile:
        model.compile()  # in place: names of weights stay as they are
    task = SegmentationTask(model, config, plan, list(store.cases), watched)
    checkpoint = str(folder.last) if folder.last.exists() else None
    with warnings.catch_warnings(), interruptible():
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
        except BaseException as error:
            end_others(trainer)
            if type(error).__module__.startswith(("torch._dynamo", "torch._inductor")):
                raise _cannot_compile(error) from error
            if str(error).startswith("DataLoader worker (pid"):  # torch has no class of its own for it
                raise _worker_ended(error) from error
            raise


def _worker_ended(error: BaseException) -> Inflate3dError:
    return Inflate3dError(
        "a process that reads cases was killed",
        expected="memory for as many of them as there are --workers",
        got=str(error).partition("\n")[0],
        hint="give fewer --workers, and the command again with --resume",
    )


def _cannot_compile(error: BaseException) -> ConfigError:
    return ConfigError(
        "the network can't be compiled",
        got=" ".join(str(error).partition("\n\n")[0].split()),  # its first paragraph
        hint="leave out --compile, or install what it needs: a C++ compiler for a CPU, Triton for a GPU",
    )


def _keep_best(folder: RunFolder, model: Model) -> None:
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
