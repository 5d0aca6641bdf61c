"""Trains a run, from its settings to its folder."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from inflate3d.config import InflatedConfig, RunConfig
from inflate3d.datasets.splits import Split, choose_split
from inflate3d.errors import ModelError, truncate
from inflate3d.preparation.plan import Plan
from inflate3d.preparation.store import Store
from inflate3d.preparation.typical import TypicalScans
from inflate3d.run_folder import RunFolder
from inflate3d.stopping import Interrupted, interruptible
from inflate3d.training.build import absent_classes, build_model, describe_weights, plan_run, thinnest_structure
from inflate3d.training.resuming import check_checkpoint, check_plan, check_split, take_folder

if TYPE_CHECKING:
    import pytorch_lightning as lightning
    import torch
    from rich.console import Console

    from inflate3d.training.build import Model
    from inflate3d.training.processes import Processes
    from inflate3d.training.task import Augment

logger = logging.getLogger(__name__)


def train(
    config: RunConfig,
    folder: RunFolder,
    store: Store,
    *,
    resume: bool = False,
    console: Console | None = None,
    augment: Augment | None = None,
    callbacks: Sequence[lightning.Callback] = (),
) -> bool:
    """Trains one network and writes the run's folder.

    With several devices, one process per device runs this. Unless a launcher has started them, this process does, with
    its own command line: each of them runs the calling script from its start.

    Args:
        config: The settings; None is replaced by the choice of the store's plan.
        folder: The run's folder.
        store: The preprocessed dataset.
        resume: Resume an interrupted run, or start a new one if none exists. A finished run whose settings
            now have more steps is extended, with a new learning rate schedule for the additional steps.
        console: Where to show progress; by default nowhere.
        augment: Changes each training batch, after the built-in augmentation: a function of the images
            ``(B, C, D, H, W)`` (intensities from 0 to 1), the labels ``(B, V, D, H, W)`` (class numbers at ``V`` points
            of each pixel, one unless slices are shrunk; for windows only of the center slice) and a `torch.Generator`
            on their device, that returns both. Draw random numbers only from the generator, so that a resumed training
            gives the same result as an uninterrupted one.
        callbacks: Additional callbacks for Lightning's trainer.

    Returns:
        Whether this is the first process of the training; the others have nothing left to do.

    Raises:
        ConfigError: The run exists already, or was started with other settings, another plan or split; the accelerator
            or the processes are not available; or the best weights are to be kept without test cases to score them.
        DataError: A scan has fewer slices than a window, the split doesn't fit the cases, or the run was started with
            other cases.
        ModelError: The backbone, its weights or the checkpoint to resume from are invalid.
        OutputError: A file can't be written, or another process is training or evaluating the run.
        DivergedError: The loss or the weights became infinite or NaN.
        Interrupted: A signal stopped it, after a checkpoint was written.

    Examples:
        >>> from pathlib import Path
        >>> import inflate3d as i3d
        >>> store = i3d.prepare(i3d.read_dataset("data/Liver"), Path("prepared/Liver"), workers=1)
        >>> config = i3d.RunConfig(
        ...     dataset="data/Liver",
        ...     store=store.folder,
        ...     model=i3d.InflatedConfig(encoder="resnet10t", weights="none", depth=3, image_size=(32, 32)),
        ...     training=i3d.TrainingConfig(steps=2, batch_size=2, accelerator="cpu", workers=0),
        ... )
        >>> train(config, i3d.RunFolder(Path("runs/first")), store)
        True
    """
    from inflate3d.models.default_type import float32_by_default
    from inflate3d.training.precision import choose_precision
    from inflate3d.training.processes import find_processes

    processes = find_processes(config.training)
    with folder.locked() if processes.first else nullcontext(), float32_by_default():
        config = choose_precision(config.resolve(store.plan.defaults), folder)
        if processes.first:
            config = take_folder(folder, config, resume)
        plan = plan_run(config, store)
        check_plan(folder, plan)
        split = choose_split(config.data, store.groups, store.splits)
        check_split(folder, split)
        split.check_keeping(config.training.keep)
        training = [case for case in store.fingerprint.cases if case.case in split.train]
        measured = {
            "thinnest": thinnest_structure(store, split.train),
            "typical": TypicalScans.of(training, plan.modalities),
        }
        plan = plan.model_copy(update=measured)
        if not (resume and folder.finished):
            _Training(config, folder, store, plan, split, processes, console, augment, tuple(callbacks)).run()
    return processes.first


@dataclass(frozen=True)
class _Training:
    config: RunConfig
    folder: RunFolder
    store: Store
    plan: Plan
    split: Split
    processes: Processes
    console: Console | None
    augment: Augment | None
    callbacks: tuple[lightning.Callback, ...]

    def run(self) -> None:
        from inflate3d.models.card import TrainedRun, write_model_card
        from inflate3d.training.determinism import determinism
        from inflate3d.training.optimization import describe_rates
        from inflate3d.training.precision import fast_products

        config, folder, first = self.config, self.folder, self.processes.first
        trainer, model = self.build()
        if first:
            self.log(describe_weights(model))
            self.log(f"{describe_rates(model, config.training)}; precision: {config.training.precision}")
            _warn_of_untrained_classes(self.store, self.split)
        device = trainer.strategy.root_device
        recording = self.record(device) if first else nullcontext()
        try:
            with recording, determinism(config.training), fast_products(device):
                if first:  # only now, as the recording has checked the data that may have moved
                    config.write(folder.config)
                    self.plan.write(folder.plan)
                    self.split.write(folder.split)
                model = self.fit_in_memory(trainer, model)
                if first:
                    _write_kept(folder, model, config.training.keep)
        except Interrupted:
            if first:
                raise
            return  # the first one reports it
        if first:  # last, as it is what makes the run a finished one
            write_model_card(folder.model, model.architecture, self.plan, run=TrainedRun.read(folder))

    def record(self, device: torch.device) -> AbstractContextManager[None]:
        from inflate3d.models.weights_origin import weights_origin
        from inflate3d.provenance import data_origin, recorded

        data = data_origin(self.store, (*self.split.train, *self.split.validation))
        return recorded(self.folder, self.config, data, weights_origin(self.config.model), device=device)

    def build(self) -> tuple[lightning.Trainer, Model]:
        """The network before its first step, and its task."""
        from inflate3d.training.trainer import make_trainer

        model = build_model(self.config, self.store, self.plan)
        cases = list(self.store.cases)
        trainer = make_trainer(self.config, self.folder, self.plan, cases, self.processes, self.console, self.callbacks)
        return trainer, model

    def fit_in_memory(self, trainer: lightning.Trainer, model: Model) -> Model:
        """Trains; if memory runs out, continues from the last checkpoint with each batch in twice as many parts."""
        from inflate3d.models.oom import is_oom
        from inflate3d.training.parts import has_batch_norms, more_parts, too_little_memory

        parts = 1
        while True:
            try:
                self.fit(trainer, model, parts)
                return model
            except (RuntimeError, MemoryError) as error:
                if not is_oom(error):
                    raise
                reason = str(error).partition("\n")[0]  # the error itself would keep the memory
                if trainer.world_size > 1:  # the others have all they need, and would not start anew with this one
                    raise too_little_memory(reason) from error
                parts = more_parts(parts, self.config.training.batch_size, reason)
            del trainer, model
            _free_memory()
            trainer, model = self.build()
            start = "the last checkpoint" if self.folder.last.exists() else "the beginning"
            norms = ", and batch norms see each part by itself" if has_batch_norms(model) else ""
            self.log(
                f"training: out of memory ({reason}); resuming from {start}, the encoder takes each batch in {parts} "
                f"parts{norms}"
            )

    def fit(self, trainer: lightning.Trainer, model: Model, parts: int) -> None:
        from timm.layers.norm_act import convert_sync_batchnorm

        from inflate3d.models.segmenter import preferred_memory_format
        from inflate3d.training.faults import explained
        from inflate3d.training.parts import take_in_parts
        from inflate3d.training.samples import choose_samples
        from inflate3d.training.task import SegmentationTask

        config, store = self.config, self.store
        on_gpu = trainer.accelerator.__class__.__name__ == "CUDAAccelerator"
        data = choose_samples(config, store, self.split, model, self.plan, on_gpu)
        if isinstance(config.model, InflatedConfig):
            reduced = config.training.precision != "32"
            model.to(memory_format=preferred_memory_format(trainer.strategy.root_device, reduced_precision=reduced))
        if on_gpu and trainer.world_size > 1:
            convert_sync_batchnorm(model)  # in place; timm's, as torch's would lose the activations of timm's norms
        take_in_parts(model, parts)
        if config.training.compile:
            model.compile()  # in place: names of weights stay as they are
        task = SegmentationTask(model, config, self.plan, store, data.validation, self.augment)
        checkpoint = self.folder.last if self.folder.last.exists() else None
        if checkpoint:
            check_checkpoint(checkpoint)
        with interruptible(), explained(trainer, checkpoint):
            trainer.fit(task, datamodule=data, ckpt_path=str(checkpoint) if checkpoint else None, weights_only=True)

    def log(self, message: str) -> None:
        if self.console:
            self.console.print(message, highlight=False, markup=False, soft_wrap=True)


def _free_memory() -> None:
    """Returns cached memory to the device."""
    import gc

    import torch

    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def _warn_of_untrained_classes(store: Store, split: Split) -> None:
    """A class that no training case has can't be learned, whatever its score is."""
    if absent := absent_classes(store, split.train):
        logger.warning(
            "no training case of this split has the %s %s: the model will never predict it",
            "region" if store.plan.regions else "class",
            truncate(absent),
        )


def _write_kept(folder: RunFolder, model: Model, keep: Literal["last", "best"]) -> None:
    """Writes the model folder: the last weights, or those of the best validation."""
    import pickle

    from inflate3d.models.checkpoint import write_model_folder
    from inflate3d.models.torch_file import DAMAGED, check_sums, load_plain

    if keep == "best":
        try:
            check_sums(folder.best)
            state = load_plain(folder.best)["state_dict"]
            own = {name.removeprefix("model."): value for name, value in state.items() if name.startswith("model.")}
            model.load_state_dict(own)
        except (pickle.UnpicklingError, *DAMAGED) as error:
            raise ModelError("invalid checkpoint of the best validation", got=error, file=folder.best) from error
    write_model_folder(folder.model, model.architecture, model.plan, model.state_dict())
