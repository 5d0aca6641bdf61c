"""Train and score several methods under one protocol, each in its own run; finished ones are not run again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from inflate3d.cli.terminal import Terminal
from inflate3d.cli.train import RunOptions, train_run
from inflate3d.comparison.compare import ARM_SETS, compare
from inflate3d.config import RunConfig
from inflate3d.errors import ConfigError
from inflate3d.evaluation.scores import Scores, show
from inflate3d.preparation.store import Store
from inflate3d.run_folder import RunFolder


class Options(RunOptions):
    """Options of ``compare``."""

    arms: str = "paper"
    """The set of methods: depth (ours and its 1-slice twin) or paper (ours, without depth, transfer, both)."""
    out: Path | None = None
    """Folder of the comparison; runs/NAME-OF-THE-DATA-SET-compare if not given."""


def run(options: Options, terminal: Terminal) -> dict[str, Any]:
    """Compares."""
    if options.arms not in ARM_SETS:
        raise ConfigError("no such set of arms", expected=", ".join(ARM_SETS), got=options.arms)
    root = options.out or Path("runs") / f"{options.dataset.resolve().name}-compare"
    config, store = options.open(terminal)
    results = compare_arms(config, store, options.arms, root, terminal)
    show_comparison(results, terminal)
    return {arm: scores.to_dict() for arm, scores in results.items()}


def compare_arms(config: RunConfig, store: Store, arms: str, root: Path, terminal: Terminal) -> dict[str, Scores]:
    """Runs the arms one after another, with progress."""

    def run_arm(arm: RunConfig, folder: RunFolder) -> Scores:
        from inflate3d.inference.held_out import evaluate_run

        terminal.tell(f"arm: {folder.root.name}")
        train_run(arm, folder, store, terminal, resume=True)
        return evaluate_run(folder, progress=terminal.progress)

    return compare(config, ARM_SETS[arms], root, run_arm)


def show_comparison(results: dict[str, Scores], terminal: Terminal) -> None:
    """Shows a row an arm."""
    classes = next(iter(results.values())).classes
    rows = [
        [
            arm,
            *map(show, scores.class_means()),
            show(scores.mean()),
            show(scores.median()),
            show(scores.pooled_mean()),
        ]
        for arm, scores in results.items()
    ]
    columns = ["arm", *classes, "mean", "median", "pooled *"]
    terminal.table("Dice of the held-out cases, native space, mean over cases", columns, rows)
    terminal.say("* the paper's figure, over all slices on the model's grid")
