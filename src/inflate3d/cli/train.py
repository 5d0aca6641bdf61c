"""Train a segmentation model on a dataset, which is prepared first if necessary.

`--help` shows the common options, `--help-all` all of them. `--config runs/x/config.yaml` trains a run again.
"""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal

from inflate3d.cli.report import write_page
from inflate3d.cli.run_options import RunOptions
from inflate3d.cli.terminal import Terminal
from inflate3d.cli.verify import show_warnings
from inflate3d.config import RunConfig
from inflate3d.datasets import Dataset, read_dataset
from inflate3d.datasets.splits import choose_folds
from inflate3d.errors import ConfigError, Inflate3dError
from inflate3d.preparation.store import Store
from inflate3d.run_folder import FoldsFolder, RunFolder
from inflate3d.stopping import Interrupted


class Options(RunOptions):
    """Options of ``train``."""

    run: Path | None = None
    """The run's folder. None: runs/NAME-OF-THE-DATASET."""
    folds: tuple[int, ...] | Literal["all"] | None = None
    """Cross-validate: train several folds, or all, one after another, each in its own folder: fold-0, ..."""
    resume: bool = False
    """Resume an interrupted run, or start a new one if none exists; larger --steps extend a finished one."""
    unlabeled: Path | None = None
    """With --folds all: train the folds again, also on unlabeled scans in this folder, where all folds agree on them;
    reports whether the Dice of the held-out cases rose."""

    @property
    def root(self) -> Path:
        return self.run or Path("runs") / self.dataset.resolve().name

    def check_split(self, dataset: Dataset) -> None:
        """Checks the split of each fold, and that there are unlabeled scans if they are requested."""
        if self.unlabeled is not None:
            from inflate3d.annotation.pseudo_labels import find_unlabeled

            find_unlabeled(self.unlabeled, dataset)
        if self.folds is None:
            super().check_split(dataset)
        else:
            choose_folds(self.folds, self.data, {case.id: case.group for case in dataset.cases}, dataset.splits)


def run(options: Options, terminal: Terminal) -> dict[str, Any] | None:
    """Trains; with several processes, only the first prints anything."""
    if options.unlabeled is not None and options.folds != "all":
        raise ConfigError(
            "--unlabeled requires all folds",
            expected="--folds all",
            got="no --folds" if options.folds is None else f"--folds {' '.join(map(str, options.folds))}",
        )
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
    """Trains several folds one after another; finished ones are left alone."""
    from inflate3d.training.folds import check_alone, plan_folds

    assert options.folds is not None
    check_alone(options.training, options.data, options.root)
    config, store = options.open(terminal)
    numbers = choose_folds(options.folds, config.data, store.groups, store.splits)
    folder = FoldsFolder(options.root)
    folds = plan_folds(config, numbers, folder, resume=options.resume)
    for place, (settings, fold) in enumerate(folds, start=1):
        terminal.log(f"fold {settings.data.fold} ({place} of {len(folds)}): {fold.root}")
        train_run(settings, fold, store, terminal, resume=options.resume)  # which checks one that is finished, too
        if _has_page(fold):
            terminal.log("already finished")
        else:
            write_page(fold)
    runs = [{"fold": settings.data.fold, "run": str(fold.root), "model": str(fold.model)} for settings, fold in folds]
    document = {"run": str(folder.root), "folds": runs}
    if options.unlabeled is not None:
        return {**document, **_add_unlabeled(folder, options.unlabeled, config, terminal)}
    terminal.print(f"folds: {folder.root}\nnext:  inflate3d evaluate {folder.root}")
    return document


def _add_unlabeled(folder: FoldsFolder, scans: Path, config: RunConfig, terminal: Terminal) -> dict[str, Any]:
    """Trains the folds again with unlabeled scans, and says which are better."""
    from inflate3d.annotation.pseudo_labels import UnlabeledFolder, find_unlabeled, learn_from_unlabeled
    from inflate3d.evaluation.tables import show, show_estimate

    def train_again(settings: RunConfig, run: RunFolder, store: Store) -> None:
        terminal.log(f"with unlabeled scans: {run.root}")
        train_run(settings, run, store, terminal, resume=True)

    warnings: list[Inflate3dError] = []
    gain = learn_from_unlabeled(
        folder,
        find_unlabeled(scans, read_dataset(config.dataset)),
        train_again,
        progress=terminal.progress,
        warn=warnings.append,
        device="cpu" if config.training.accelerator == "cpu" else None,
    )
    show_warnings(warnings, terminal)
    found = UnlabeledFolder.of(folder)
    chosen = found.folds.root if gain.kept else folder.root
    difference = show_estimate(gain.difference.value, gain.difference.low, gain.difference.high, sign="+")
    terminal.print(
        f"{gain.scans} unlabeled scans; held-out Dice {show(gain.before)} without them, {show(gain.after)} with them: "
        f"{difference}, p = {gain.p:.3f} ({gain.patients} patients)"
    )
    verdict = "they help" if gain.kept else "they don't help by more than chance"
    terminal.print(f"{verdict}; better: {chosen}\nnext:  inflate3d predict {chosen} SCANS FOLDER")
    return {"better": str(chosen), "unlabeled": {**asdict(gain), "kept": gain.kept, "run": str(found.folds.root)}}


def _has_page(fold: RunFolder) -> bool:
    """Whether a page was written after the training ended: after a kill in between there is none, or an old one."""
    ended = (fold.model / "README.md").stat().st_mtime_ns
    return fold.report.exists() and fold.report.stat().st_mtime_ns >= ended


def train_run(config: RunConfig, folder: RunFolder, store: Store, terminal: Terminal, *, resume: bool) -> bool:
    """Trains; if the user stops it, the message says how to resume.

    Returns:
        Whether this is the first process of the training.
    """
    from inflate3d.training.run import train

    try:
        return train(config, folder, store, resume=resume, console=terminal.status)
    except Interrupted as stop:
        raise stop.with_hint("resume with the same command and --resume") from stop
