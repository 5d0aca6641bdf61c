"""Check, measure and plan a dataset, and write its store."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import tyro
from tyro.conf import Positional

from inflate3d.cli.engine_options import EngineOptions
from inflate3d.cli.parsing import values_of
from inflate3d.cli.terminal import CommandOptions, Terminal
from inflate3d.cli.verify import show_warnings
from inflate3d.datasets import Dataset, read_dataset
from inflate3d.distributed.ray_cluster import Engine
from inflate3d.distributed.remote import is_remote
from inflate3d.distributed.shard import Shard
from inflate3d.errors import ConfigError, DataError
from inflate3d.preparation.plan_options import PlanOptions
from inflate3d.preparation.prepare import prepare, prepare_shard
from inflate3d.preparation.store import Store, default_store
from inflate3d.presets import read_preset


class Options(CommandOptions):
    """Options of ``prepare``."""

    dataset: Positional[str]
    """The dataset's folder."""
    preset: str = "auto"
    """Predefined configuration; explicit options take precedence. See `inflate3d train --help`."""
    store: Path | None = None
    """Where the prepared cases go; by default prepared/FOLDER-NAME."""
    plan: PlanOptions = PlanOptions()
    jobs: int | None = None
    """Number of processes; by default one per core. With a local Ray cluster, its cores."""
    distributed: EngineOptions = EngineOptions()

    @classmethod
    def with_defaults(cls, words: Sequence[str]) -> Options:
        """Options with the defaults of the ``--preset`` on the command line."""
        name = values_of(words, "--preset").preset or cls.model_fields["preset"].default
        return cls.model_construct(None, dataset=tyro.MISSING, preset=name, plan=read_preset(name).plan)


def run(options: Options, terminal: Terminal) -> dict[str, Any]:
    """Prepares the dataset, or one shard of it."""
    shard = options.distributed.chosen_shard()
    _check_local(options.dataset)
    given = Path(options.dataset)
    folder = options.store or default_store(given)
    if shard:
        return _prepare_shard(read_dataset(given), folder, shard, options, terminal)
    if options.distributed.engine != "local":
        given, folder = given.absolute(), folder.absolute()  # other machines work in folders of their own
    dataset = read_dataset(given)
    with options.distributed.open(cores=options.jobs) as engine:
        store = prepare_shown(dataset, folder, options.plan, terminal, jobs=options.jobs, engine=engine)
    return {"store": str(store.folder), "cases": len(store.cases), "plan": store.plan.model_dump(mode="json")}


def _prepare_shard(
    dataset: Dataset, folder: Path, shard: Shard, options: Options, terminal: Terminal
) -> dict[str, Any]:
    warnings: list[DataError] = []
    cases = prepare_shard(
        dataset,
        folder,
        shard,
        options=options.plan,
        workers=options.jobs,
        progress=terminal.progress,
        warn=warnings.append,
    )
    show_warnings(warnings, terminal)
    terminal.print(f"shard {shard}: {len(cases)} of {len(dataset.cases)} cases prepared")
    terminal.print("when all shards are done, run the same command without --shard to complete the store")
    return {"store": str(folder), "shard": str(shard), "cases": len(cases)}


def _check_local(dataset: str) -> None:
    if is_remote(dataset):
        raise ConfigError(
            "a remote dataset can't be prepared",
            got=dataset,
            hint="copy it to a local disk first, for example with `aws s3 sync` or `gcloud storage rsync`; "
            "only `predict` reads remote scans",
        )


def prepare_shown(
    dataset: Dataset,
    folder: Path,
    options: PlanOptions,
    terminal: Terminal,
    *,
    jobs: int | None = None,
    engine: Engine | None = None,
) -> Store:
    """Prepares the dataset; prints warnings and the plan with its reasons."""
    warnings: list[DataError] = []
    store = prepare(
        dataset,
        folder,
        options=options,
        workers=jobs,
        engine=engine,
        progress=terminal.progress,
        warn=warnings.append,
    )
    show_warnings(warnings, terminal)
    terminal.print(f"{len(store.cases)} cases of {store.plan.dataset} are in {store.folder}")
    for choice, reason in store.plan.reasons.items():
        terminal.print(f"  {choice}: {reason}")
    return store
