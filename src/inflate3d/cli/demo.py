"""The whole workflow on generated scans: make, verify, prepare, train, evaluate, predict, and a page with pictures.

Two networks are trained from random weights (nothing is downloaded): one on windows of 5 slices, one on single slices.
The scans contain two structures, vessel and lesion, that look alike in a single slice.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from inflate3d.cli.compare import report_comparison, train_all
from inflate3d.cli.evaluate import show_scores
from inflate3d.cli.run_options import open_store
from inflate3d.cli.terminal import CommandOptions, Terminal
from inflate3d.comparison.arms import ARM_SETS
from inflate3d.comparison.runs import plan_runs
from inflate3d.config import AugmentationConfig, InflatedConfig, RunConfig, TrainingConfig
from inflate3d.datasets import read_dataset
from inflate3d.errors import ConfigError
from inflate3d.evaluation.scores import Scores
from inflate3d.preparation.plan_options import PlanOptions
from inflate3d.run_folder import RunFolder

DEPTH_CLASSES = ("vessel", "lesion")


class Options(CommandOptions):
    """Options of ``demo``."""

    out: Path = Path("demo")
    """Output folder; an interrupted demo is resumed there."""
    cases: int = 20
    """Scans to generate; a fifth is held out."""
    steps: int = 200
    """Training steps of each of the two networks."""
    seed: int = 0
    """Seed of the scans and of the training."""


def run(options: Options, terminal: Terminal) -> dict[str, Any]:
    started = time.monotonic()
    config = _config(options)
    _generate(options, config.dataset, terminal)
    store = open_store(read_dataset(config.dataset), config.store, PlanOptions(), terminal)
    configs = {arm.name: arm.applied_to(config) for arm in ARM_SETS["depth"]}
    runs = plan_runs(configs, (options.seed,), (None,), options.out / "runs")
    train_all(runs, store, terminal)
    ours, twin = (Scores.read(run.folder.evaluation) for run in runs)
    show_scores(ours, terminal)
    report_comparison(runs, config, store, options.out / "runs", terminal)

    dataset = read_dataset(config.dataset)
    scan = next(case for case in dataset.cases if case.id == ours.cases[0]).scan
    folder = runs[0].folder
    predicted = _predict(folder, scan, options.out / "predicted", terminal)

    gains = {
        name: (ours.class_means()[index], twin.class_means()[index])
        for index, name in enumerate(ours.classes)
        if name in DEPTH_CLASSES
    }
    for name, (five, one) in gains.items():
        terminal.print(f"{name}: Dice {five:.3f} with 5 slices, {one:.3f} with 1")
    terminal.print(f"mean foreground Dice with 5 slices: {ours.mean():.3f}")
    terminal.print(f"label map: {predicted}\npictures:  {folder.report}")
    terminal.print(f"{time.monotonic() - started:.0f} s in all")
    return {
        "mean_dice": ours.mean(),
        "mean_dice_1_slice": twin.mean(),
        "depth_classes": {name: {"5 slices": five, "1 slice": one} for name, (five, one) in gains.items()},
        "predicted": str(predicted),
        "report": str(folder.report),
    }


def _config(options: Options) -> RunConfig:
    return RunConfig(
        dataset=(options.out / "Phantoms").resolve(),
        store=(options.out / "prepared").resolve(),
        model=InflatedConfig(
            encoder="resnet10t",
            weights="none",
            depth=5,
            image_size=(96, 96),
            decoder_channels=48,
            detail_channels=16,
        ),
        augmentation=AugmentationConfig(max_zoom=1.15, max_rotation=10.0, max_shift=0.05),
        training=TrainingConfig(
            steps=options.steps,
            batch_size=8,
            learning_rate=3e-3,
            encoder_learning_rate=3e-3,
            foreground_fraction=0.8,
            seed=options.seed,
        ),
    )


def _generate(options: Options, folder: Path, terminal: Terminal) -> None:
    from inflate3d.datasets.phantom import write_phantoms

    if options.cases < 5:
        raise ConfigError("too few scans", expected="at least 5, a fifth is held out", got=options.cases)
    if not (folder / "dataset.json").exists():
        terminal.log(f"making {options.cases} scans in {folder}")
        write_phantoms(folder, options.cases, seed=options.seed)


def _predict(folder: RunFolder, scan: Path, out: Path, terminal: Terminal) -> Path:
    from inflate3d.inference.batch import predict_files
    from inflate3d.inference.predictor import Predictor

    predictor = Predictor.load(folder.model)
    (result,) = predict_files(predictor, scan, out, progress=terminal.progress)
    return Path(str(result.file))
