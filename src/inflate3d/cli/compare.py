"""Train and score several methods under one protocol, and compare each with the first.

Every method is trained with every seed, number of training cases and budget, each in its own run. Repeat the command to
resume: finished runs are not trained again.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import Field

from inflate3d.cli.report import write_page
from inflate3d.cli.run_options import RunOptions
from inflate3d.cli.terminal import Terminal
from inflate3d.comparison.arms import Arm, find_arms
from inflate3d.comparison.budget import check_budget, read_budgets
from inflate3d.comparison.runs import ComparisonRun, plan_runs, read_sizes
from inflate3d.config import InflatedConfig, RunConfig, Seed
from inflate3d.errors import ConfigError, Inflate3dError
from inflate3d.lock import locked
from inflate3d.preparation.plan import Plan
from inflate3d.preparation.store import Store
from inflate3d.stopping import Interrupted


class Options(RunOptions):
    """Options of ``compare``."""

    arms: str = "paper"
    """The methods: depth, paper, inflation, slices, stride, pretraining, decoders, baselines, or your own YAML file."""
    seeds: tuple[Seed, ...] = ()
    """Seeds to train each method with. None: that of --seed."""
    cases: str | None = None
    """Numbers of training cases for low-data curves, such as 5,10,20,all; held-out cases stay the same."""
    budget: str | None = None
    """Duration of each training, such as 1min,3min,1h, instead of --steps; process time on a CPU."""
    threads: int | None = Field(default=None, ge=1)
    """Threads per training on a CPU. None: trainings that run at the same time share all cores."""
    parallel: int | None = Field(default=None, ge=1)
    """Number of trainings at a time, each in its own process. None: one per GPU, otherwise one."""
    out: Path | None = None
    """Folder of the comparison. None: runs/NAME-OF-THE-DATASET-compare."""


def run(options: Options, terminal: Terminal) -> dict[str, Any]:
    arms = find_arms(options.arms)
    _check_one_machine(options)
    base, store = options.open(terminal)
    root = options.out or Path("runs") / f"{options.dataset.resolve().name}-compare"
    configs = {arm.name: arm.applied_to(options).run_config(store) for arm in arms}
    budgets = _find_budgets(options, arms, configs)
    plans = _plan_arms(configs, store)
    sizes = (base.data.training_cases,) if options.cases is None else read_sizes(options.cases, base, store)
    seeds = tuple(dict.fromkeys(options.seeds)) or (base.training.seed,)
    runs = plan_runs(configs, seeds, sizes, root, budgets, {arm.name: arm.command for arm in arms if arm.command})
    _check_plans(runs, plans)
    hint = "wait until it has finished, or choose another folder by --out"
    with locked(root / ".lock", root, doing="running this comparison", hint=hint, remove=True):
        train_all(runs, store, terminal, parallel=options.parallel, threads=options.threads)
        return report_comparison(runs, base, store, root, terminal)


def _check_one_machine(options: Options) -> None:
    """A comparison starts its training processes itself, on this machine."""
    if options.training.devices * options.training.nodes == 1:
        return
    from inflate3d.training.processes import find_processes

    if options.training.nodes > 1 or find_processes(options.training).launcher:
        raise ConfigError(
            "a comparison runs on one machine",
            expected="--nodes 1, and no launcher in front of the command",
            got=f"--nodes {options.training.nodes}" if options.training.nodes > 1 else "a launcher",
            hint="train each method by `inflate3d train`",
        )


def _find_budgets(options: Options, arms: Sequence[Arm], configs: dict[str, RunConfig]) -> tuple[float | None, ...]:
    """The budgets in seconds; (None,) where the number of steps is given."""
    if options.budget is None:
        if program := next((arm.name for arm in arms if arm.command), None):
            raise ConfigError("a program needs a budget", expected="--budget, such as 3min", got=f"arm {program}")
        return (None,)
    by_hand = [arm.name for arm in arms if "steps" in arm.changes.get("training", {})]
    if by_hand or (options.training.steps and options.preset == "auto"):
        got = f"the steps of arm {by_hand[0]}" if by_hand else f"--steps {options.training.steps}"
        raise ConfigError("number of steps given twice", expected="--budget alone", got=f"--budget and {got}")
    for config in configs.values():
        check_budget(config)
    return read_budgets(options.budget)


def _plan_arms(configs: dict[str, RunConfig], store: Store) -> dict[str, Plan]:
    """Each arm's plan; a setting that would stop a later training is reported before the first one starts."""
    from inflate3d.models.backbones import find_backbone
    from inflate3d.training.build import plan_run

    for config in configs.values():
        if isinstance(config.model, InflatedConfig):
            find_backbone(config.model.encoder)
    return {arm: plan_run(config, store) for arm, config in configs.items()}


def _check_plans(runs: Sequence[ComparisonRun], plans: dict[str, Plan]) -> None:
    """Existing runs must have been trained with the plan that the others will use."""
    from inflate3d.training.resuming import check_plan

    for run in runs:
        check_plan(run.folder, plans[run.arm])


def train_all(
    runs: Sequence[ComparisonRun],
    store: Store,
    terminal: Terminal,
    *,
    parallel: int | None = None,
    threads: int | None = None,
) -> None:
    """Trains and scores all unfinished runs, here or in several processes; a failure does not stop the others."""
    import torch

    from inflate3d.comparison.scheduler import find_slots, run_in_parallel
    from inflate3d.comparison.worker import train_and_score

    training = runs[0].config.training
    waiting = [run for run in runs if not run.finished]
    terminal.log(f"{len(runs)} trainings, {len(runs) - len(waiting)} of them finished")
    slots = find_slots(training, parallel, threads)
    # A training on several devices starts its own command anew for each, which must not be the whole comparison.
    if training.devices > 1 or (len(slots) > 1 and len(waiting) > 1):
        run_in_parallel(waiting, slots, terminal.log)
        return
    if threads:
        torch.set_num_threads(threads)
    failures = []
    for run in waiting:
        terminal.log(f"training: {run.name}")
        try:
            train_and_score(run, store, console=terminal.status, progress=terminal.progress)
        except Interrupted as stop:
            raise stop.with_hint(f"repeat the command to resume ({run.name})") from stop
        except Inflate3dError as error:
            terminal.log(f"{run.name}: failed: {error.what}")
            failures.append(error)
    if failures:
        raise failures[0]


def report_comparison(
    runs: Sequence[ComparisonRun], base: RunConfig, store: Store, root: Path, terminal: Terminal
) -> dict[str, Any]:
    """Writes the tables, plots and pages of the comparison, and prints the tables."""
    from inflate3d.comparison.figures import write_plots
    from inflate3d.comparison.results import read_scores, score_table, summarize_runs
    from inflate3d.comparison.tables import cost_cells, notes, short_table, write_tables
    from inflate3d.datasets.splits import choose_split
    from inflate3d.report.comparison import write_comparison_page

    whole = len(choose_split(base.data.model_copy(update={"training_cases": None}), store.groups, store.splits).train)
    comparison = summarize_runs(base.dataset.name, runs, whole)
    write_tables(comparison, score_table(runs, read_scores(runs)), root)
    write_plots(comparison, root)
    title = f"{comparison.dataset}: {len(comparison.held_out)} held-out cases, differences from {comparison.arms[0]}"
    terminal.table(title, *short_table(comparison))
    columns, rows = cost_cells(comparison)
    terminal.table("What each needs", columns, [[cell.text for cell in row] for row in rows])
    for line in notes(comparison):
        terminal.print(f"* {line}")
    terminal.print(
        f"tables: {root / 'comparison.json'}, {root / 'scores.csv'}\nplots:  {root / 'comparison.png'}, .svg"
    )
    _write_pages(runs, terminal)
    terminal.print(f"report: {write_comparison_page(comparison, root)}")
    return comparison.to_dict()


def _write_pages(runs: Sequence[ComparisonRun], terminal: Terminal) -> None:
    """Writes a page for each arm's largest run with the first seed, unless it has one: drawing takes time."""
    own = [run for run in runs if run.budget == runs[-1].budget and not run.command]
    largest = [run for run in own if run.cases is None] or own
    folders = list({run.arm: run.folder for run in reversed(largest)}.values())
    missing = [folder for folder in reversed(folders) if not folder.report.exists()]
    for folder in terminal.progress(missing, len(missing), "drawing pages") if missing else ():
        write_page(folder)
