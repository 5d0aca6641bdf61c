"""Train a segmentation model on a dataset; it is prepared first where it is not yet."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from tyro.conf import Positional

from inflate3d.cli.network_options import check_options
from inflate3d.cli.prepare import prepare_shown
from inflate3d.cli.report import write_page
from inflate3d.cli.terminal import CommandOptions, Terminal
from inflate3d.config import AugmentationConfig, DataConfig, ModelOptions, RunConfig, TrainingOptions
from inflate3d.datasets import Dataset, read_dataset
from inflate3d.datasets.splits import choose_folds, choose_split
from inflate3d.errors import ConfigError
from inflate3d.preparation.plan_options import PlanOptions
from inflate3d.preparation.source import check_source
from inflate3d.preparation.store import Store, default_store
from inflate3d.run_folder import FoldsFolder, RunFolder
from inflate3d.stopping import Interrupted


class RunOptions(CommandOptions):
    """What `train` and `compare` share."""

    dataset: Positional[Path]
    """The dataset's folder."""
    preset: str = "auto"
    """Choices made beforehand; other options override them: auto (the plan's), bcv, acdc, msd-task09, ... or a file."""
    store: Path | None = None
    """Where its prepared cases lie or go; prepared/NAME-OF-THE-FOLDER if not given."""
    plan: PlanOptions = PlanOptions()
    data: DataConfig = DataConfig()
    model: ModelOptions = ModelOptions()
    augmentation: AugmentationConfig = AugmentationConfig()
    training: TrainingOptions = TrainingOptions()

    def open(self, terminal: Terminal) -> tuple[RunConfig, Store]:
        """Opens the prepared dataset, and decides by its plan what the user leaves open."""
        from inflate3d.models.backbones import find_backbone

        # What is not there is told before the minutes that preparing may take.
        if self.training.devices * self.training.nodes > 1:
            self._check_prepared()
        if self.model.network == "inflated":
            find_backbone(self.model.encoder)
        described = read_dataset(self.dataset)
        self.check_split(described)
        store = open_store(described, self.store or default_store(self.dataset), self.plan, terminal)
        return self.decided(store), store

    def check_split(self, dataset: Dataset) -> None:
        """Makes sure that the split is there and fits the cases."""
        choose_split(self.data, {case.id: case.group for case in dataset.cases}, dataset.splits)

    def _check_prepared(self) -> None:
        """Processes that a launcher starts all at once can't prepare the dataset, each in the others' way."""
        from inflate3d.training.processes import find_processes

        launcher = find_processes(self.training).launcher
        folder = self.store or default_store(self.dataset)
        if launcher and not (folder / "store.json").exists():
            raise ConfigError(
                "the dataset is not prepared",
                expected=f"a prepared one where {launcher} starts several processes",
                hint=f"`inflate3d prepare {self.dataset}` before, with the same --store if you give one",
                file=folder,
            )

    def decided(self, store: Store) -> RunConfig:
        """The run's configuration, with the plan's choice where the user does not say."""
        proposals = store.plan.proposals.for_network(self.model.network)
        model = self.model.decided(proposals).model_copy(update={"stride": self.plan.stride})
        return RunConfig(
            dataset=self.dataset.resolve(),
            store=store.folder.resolve(),
            data=self.data,
            model=model,
            augmentation=self.augmentation,
            training=self.training.decided(proposals, model),
        )


class Options(RunOptions):
    """Options of ``train``."""

    run: Path | None = None
    """The run's folder; runs/NAME-OF-THE-DATA-SET if not given."""
    folds: tuple[int, ...] | Literal["all"] | None = None
    """Cross-validate: train several folds, or all, one after another, each in a folder of the run's, fold-0, ..."""
    resume: bool = False
    """Go on with an unfinished run, by the very same options; without one it starts."""

    @property
    def root(self) -> Path:
        """The run's folder."""
        return self.run or Path("runs") / self.dataset.resolve().name

    def check_split(self, dataset: Dataset) -> None:
        """Likewise for each of several folds."""
        if self.folds is None:
            super().check_split(dataset)
        else:
            choose_folds(self.folds, self.data, {case.id: case.group for case in dataset.cases}, dataset.splits)


def run(options: Options, terminal: Terminal) -> dict[str, Any] | None:
    """Trains; of several processes only the first has something to say."""
    check_options(options)
    if options.folds is not None:
        return _train_folds(options, terminal)
    config, store = options.open(terminal)
    folder = RunFolder(options.root)
    if not train_run(config, folder, store, terminal, resume=options.resume):
        return None
    page = write_page(folder)
    terminal.print(f"model: {folder.model}\nreport: {page}\nnext:  inflate3d evaluate {folder.root}")
    return {"run": str(folder.root), "model": str(folder.model)}


def _train_folds(options: Options, terminal: Terminal) -> dict[str, Any]:
    """Trains several folds one after another; what is finished stays as it is."""
    from inflate3d.training.folds import check_alone, plan_folds

    assert options.folds is not None
    check_alone(options.training, options.data, options.root)
    config, store = options.open(terminal)
    numbers = choose_folds(options.folds, config.data, store.groups, store.splits)
    folder = FoldsFolder(options.root)
    folds = plan_folds(config, numbers, folder, resume=options.resume)
    for place, (settings, fold) in enumerate(folds, start=1):
        terminal.log(f"fold {settings.data.fold} ({place} of {len(folds)}): {fold.root}")
        finished = fold.finished
        train_run(settings, fold, store, terminal, resume=options.resume)  # which checks one that is finished, too
        if finished:
            terminal.log("it is finished already")
        else:
            write_page(fold)
    terminal.print(f"folds: {folder.root}\nnext:  inflate3d evaluate {folder.root}")
    runs = [{"fold": settings.data.fold, "run": str(fold.root), "model": str(fold.model)} for settings, fold in folds]
    return {"run": str(folder.root), "folds": runs}


def open_store(dataset: Dataset, folder: Path, options: PlanOptions, terminal: Terminal) -> Store:
    """Opens the prepared dataset, with the splits that it has now; prepares it where there is none."""
    if not (folder / "store.json").exists():
        return prepare_shown(dataset, folder, options, terminal)
    store = Store(folder)
    check_source(store, dataset, options)
    store.take_splits(dataset)
    return store


def train_run(config: RunConfig, folder: RunFolder, store: Store, terminal: Terminal, *, resume: bool) -> bool:
    """Trains, and says how to go on where the user stops it.

    Returns:
        Whether this process is the first of those that train.
    """
    from inflate3d.training.run import train

    try:
        return train(config, folder, store, resume=resume, console=terminal.status)
    except Interrupted as stop:
        raise stop.with_hint("resume with the same command and --resume") from stop
