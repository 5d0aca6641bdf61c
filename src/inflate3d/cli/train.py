"""Train a segmentation model on a data set; it is prepared first where it is not yet."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tyro.conf import Positional

from inflate3d.cli.prepare import show_plan
from inflate3d.cli.terminal import CommandOptions, Interruption, Terminal
from inflate3d.config import AugmentationConfig, DataConfig, ModelConfig, RunConfig, TrainingConfig
from inflate3d.datasets import read_dataset
from inflate3d.preparation.prepare import prepare
from inflate3d.preparation.store import Store, default_store
from inflate3d.run_folder import RunFolder


class RunOptions(CommandOptions):
    """What `train` and `compare` share."""

    dataset: Positional[Path]
    """The data set's folder."""
    store: Path | None = None
    """Where its prepared cases lie or go; prepared/NAME-OF-THE-FOLDER if not given."""
    data: DataConfig = DataConfig()
    model: ModelConfig = ModelConfig()
    augmentation: AugmentationConfig = AugmentationConfig()
    training: TrainingConfig = TrainingConfig()

    def config(self) -> RunConfig:
        """All that is decided, for the run's folder."""
        return RunConfig(
            dataset=self.dataset.resolve(),
            store=(self.store or default_store(self.dataset)).resolve(),
            data=self.data,
            model=self.model,
            augmentation=self.augmentation,
            training=self.training,
        )


class Options(RunOptions):
    """Options of ``train``."""

    run: Path | None = None
    """The run's folder; runs/NAME-OF-THE-DATA-SET if not given."""
    resume: bool = False
    """Go on with an unfinished run, by the very same options; without one it starts."""


def run(options: Options, terminal: Terminal) -> dict[str, Any]:
    """Trains."""
    config = options.config()
    folder = RunFolder(options.run or Path("runs") / options.dataset.resolve().name)
    store = open_store(config, terminal)
    train_run(config, folder, store, terminal, resume=options.resume)
    terminal.say(f"model: {folder.model}\nnext:  inflate3d evaluate {folder.root}")
    return {"run": str(folder.root), "model": str(folder.model)}


def open_store(config: RunConfig, terminal: Terminal) -> Store:
    """Opens the prepared data set; prepares it where there is none, or where it has other cases."""
    from inflate3d.models.backbones import find_backbone

    dataset = read_dataset(config.dataset)
    find_backbone(config.model.encoder)  # an unknown one is told before the minutes that preparing may take
    if (config.store / "store.json").exists():
        store = Store(config.store)
        store.check_source(dataset)
        return store
    store = prepare(dataset, config.store, progress=terminal.progress)
    show_plan(store, terminal)
    return store


def train_run(config: RunConfig, folder: RunFolder, store: Store, terminal: Terminal, *, resume: bool) -> None:
    """Trains, and says how to go on where the user stops it."""
    from inflate3d.training.callbacks import Interrupted
    from inflate3d.training.run import train

    try:
        train(config, folder, store, resume=resume, console=terminal.status)
    except Interrupted as stop:
        raise Interruption(f"{stop}; go on by the same command with --resume") from stop
