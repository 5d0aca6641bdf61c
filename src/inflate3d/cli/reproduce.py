"""Train a run again from its own record, and check that the same model comes out.

The data and the 2D weights are compared with the run's `provenance.json` before the training starts. Exit code 0: the
models are identical; 1: they differ. On the same CPU with the same versions they are identical.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from tyro.conf import Positional

from inflate3d.cli.terminal import CommandOptions, Terminal
from inflate3d.config import InflatedConfig, RunConfig
from inflate3d.datasets import read_dataset
from inflate3d.datasets.splits import choose_split
from inflate3d.errors import ConfigError, ModelError
from inflate3d.preparation.store import Store
from inflate3d.run_folder import RunFolder, open_folder
from inflate3d.stopping import Interrupted

if TYPE_CHECKING:
    from inflate3d.provenance import Provenance

DIFFERENT = 1
"""Exit code where another model comes out."""


class Options(CommandOptions):
    """Options of ``reproduce``."""

    run: Positional[Path]
    """The run's folder."""
    out: Path | None = None
    """Folder of the new run; by default reproduced/ in the run's folder. An interrupted run is resumed."""
    dataset: Path | None = None
    """Prepare this dataset again and compare it with the run's, instead of using the run's store."""
    weights: Path | None = None
    """The file of 2D weights, if it has moved."""


def run(options: Options, terminal: Terminal) -> dict[str, Any] | None:
    """Trains the run again and compares the two models."""
    from inflate3d.provenance import Provenance
    from inflate3d.training.run import train

    folder = _finished_run(options.run)
    again = RunFolder(options.out or folder.root / "reproduced")
    before = Provenance.read(folder)
    config = _here(RunConfig.read(folder.config), options)
    store = _store(config, options, again, terminal)
    config = config.model_copy(update={"store": store.folder.resolve()})
    _check_inputs(folder, before, config, store)
    _use_threads_of(before)
    try:
        for stage in _stages(config, folder, again):
            if not train(stage, again, store, resume=True, console=terminal.status):
                return None
    except Interrupted as stop:
        raise stop.with_hint("repeat the command to resume") from stop
    now = Provenance.read(again)
    identical = now.model_sha256 == before.model_sha256
    last = now.sessions[-1].environment
    environment = list(
        dict.fromkeys(each for session in before.sessions for each in session.environment.differences(last))
    )
    terminal.print(
        f"checksum of the model before: {before.model_sha256}\nchecksum of the model now: {now.model_sha256}"
    )
    for each in environment:
        terminal.print(f"environment differs: {each}")
    terminal.print(f"the models {'are identical' if identical else 'differ'}")
    terminal.exit_code = 0 if identical else DIFFERENT
    return {
        "run": str(folder.root),
        "reproduced": str(again.root),
        "identical": identical,
        "model_sha256": [before.model_sha256, now.model_sha256],
        "environment_differences": environment,
    }


def _finished_run(root: Path) -> RunFolder:
    folder = open_folder(root)
    if not isinstance(folder, RunFolder):
        hint = f"name one of them, such as {folder.runs[0].root}"
        raise ConfigError("this folder holds several runs", expected="a run's folder", hint=hint, file=root)
    if not folder.finished:
        hint = "resume it by `inflate3d train ... --resume`"
        raise ConfigError("the run is not finished", hint=hint, file=folder.root)
    return folder


def _here(config: RunConfig, options: Options) -> RunConfig:
    """The run's settings with this machine's paths, and without its logger, which others may be watching."""
    model = config.model
    if options.weights is not None and isinstance(model, InflatedConfig):
        model = model.model_copy(update={"weights": str(options.weights.resolve())})
    training = config.training.model_copy(update={"logger": "none"})
    dataset = (options.dataset or config.dataset).resolve()
    return config.model_copy(update={"dataset": dataset, "model": model, "training": training})


def _stages(config: RunConfig, folder: RunFolder, again: RunFolder) -> list[RunConfig]:
    """The settings of each training that is still to do: before it was extended, a run had a schedule of its own."""
    ends = sorted(int(path.name.split("-")[1]) for path in folder.root.glob("after-*-steps"))
    done = RunConfig.read(again.config).training.steps or 0 if again.config.exists() else 0
    return [
        config.model_copy(update={"training": config.training.model_copy(update={"steps": end, "extended_from": 0})})
        for end in (*ends, config.training.steps or 0)
        if end >= done
    ]


def _store(config: RunConfig, options: Options, again: RunFolder, terminal: Terminal) -> Store:
    """The run's store, or a new one made from ``--dataset``."""
    if options.dataset is None:
        return Store(config.store)
    from inflate3d.preparation.plan_options import PlanOptions
    from inflate3d.preparation.prepare import prepare

    chosen = Store(config.store).options if (config.store / "store.json").exists() else PlanOptions()
    target = again.root.with_name(f"{again.root.name}-store")
    return prepare(read_dataset(options.dataset), target, options=chosen, progress=terminal.progress)


def _check_inputs(folder: RunFolder, record: Provenance, config: RunConfig, store: Store) -> None:
    """Checks that the run's model and everything it was made from are unchanged."""
    from inflate3d.models.weights_origin import weights_origin
    from inflate3d.provenance import data_origin, file_sha256
    from inflate3d.training.build import plan_run
    from inflate3d.training.resuming import check_plan, check_split

    weights = folder.model / "model.safetensors"
    if (checksum := file_sha256(weights)) != record.model_sha256:
        raise ModelError(
            "the model has changed since its training",
            expected=f"the SHA-256 checksum {record.model_sha256}",
            got=checksum,
            hint="restore the file",
            file=weights,
        )
    check_plan(folder, plan_run(config, store))
    record.data.check_same(
        data_origin(store, [name for name in record.data.cases if name in store.cases]), file=store.folder
    )
    check_split(folder, choose_split(config.data, store.groups, store.splits))
    if record.weights is not None:
        record.weights.check_same(weights_origin(config.model))


def _use_threads_of(record: Provenance) -> None:
    """On a CPU, a different number of threads rounds sums differently."""
    import torch

    environment = record.sessions[-1].environment
    if environment.device == "cpu":
        torch.set_num_threads(environment.threads)
