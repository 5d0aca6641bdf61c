"""Training for the server: each run in its own process, one at a time."""

from __future__ import annotations

import shutil
import subprocess
import sys
import threading
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from inflate3d.datasets.case import Case
from inflate3d.errors import ConfigError, DataError, Inflate3dError, truncate
from inflate3d.run_folder import RunFolder, TrainingLog
from inflate3d.server.cases import CaseList
from inflate3d.server.faults import BusyError
from inflate3d.server.holding_out import extend_split, read_split, usable
from inflate3d.server.models import ModelShelf
from inflate3d.server.project import Project
from inflate3d.server.tasks import Task, TaskList
from inflate3d.server.training_job import LONGEST_STOP, JobFolder, TrainingJob
from inflate3d.settings import read_json


class Trainer:
    """Starts, watches and stops trainings.

    Args:
        project: What is annotated.
        cases: Its cases, of which those with a final label map are trained on.
        models: Where the trained models go.
        settings: Sections of settings, such as those of a run's ``config.yaml``.
        device: Device for scoring the models.
    """

    def __init__(
        self, project: Project, cases: CaseList, models: ModelShelf, settings: dict[str, Any], device: str | None
    ) -> None:
        self.tasks = TaskList()
        self._project, self._cases, self._models = project, cases, models
        self._settings, self._device = settings or settings_of(project), device
        self._process: subprocess.Popen[bytes] | None = None
        self._folder: JobFolder | None = None
        self._lock = threading.RLock()

    @property
    def options(self) -> dict[str, Any]:
        """What a client may choose, with the defaults."""
        steps = self._settings.get("training", {}).get("steps") or 0
        return {"steps": steps, "warm_start": True, "serve_if_worse": False}

    def start(self, params: dict[str, Any]) -> Task:
        """Starts a training on all cases that have a final label map now, or resumes one that was stopped.

        Args:
            params: Of `options`: ``steps`` (0: as many as the plan says), ``warm_start`` (from the model in service)
                and ``serve_if_worse``.

        Raises:
            BusyError: One is running.
            DataError: Too few cases are labeled.
            ConfigError: An option is unknown or invalid.
        """
        with self._lock:
            if self.tasks.running:
                raise BusyError("a training is running", hint="wait until it has finished, or stop it: DELETE /train/")
            folder, job = self._prepare(self._chosen(params))
            task = self.tasks.add(Task({"model": self._project.name, **params, "version": job.number}))
            with folder.log.open("ab") as log:
                self._process = subprocess.Popen(  # noqa: S603 - our own module
                    [sys.executable, "-m", "inflate3d.server.train_model", str(folder.root)],
                    stdin=subprocess.PIPE,
                    stdout=log,
                    stderr=log,
                )
            self._folder = folder
            threading.Thread(target=self._watch, args=(task, folder, self._process), daemon=True).start()
            return task

    def stop(self) -> Task | None:
        """Stops the running training after a checkpoint; the next start with the same label maps resumes it."""
        with self._lock:
            task, process = self.tasks.running, self._process
            if task is None or process is None or process.stdin is None:
                return None
            task.end("STOPPED", "stopped")
            with suppress(OSError):
                process.stdin.close()
            return task

    def close(self) -> None:
        """Stops the training and waits for its checkpoint."""
        self.stop()
        if self._process is not None:
            try:
                self._process.wait(LONGEST_STOP)
            except subprocess.TimeoutExpired:
                self._process.kill()

    def progress(self) -> dict[str, Any]:
        """Step, loss and validation Dice of the training that is running or was the last one; empty before the first.

        ``curve`` has a row for some of its steps.
        """
        folder = self._folder
        if folder is None:
            return {}
        try:
            rows = TrainingLog.read(folder.run.metrics).rows if folder.run.metrics.exists() else ()
        except DataError:
            rows = ()
        return {"step": int(rows[-1]["step"]) if rows else 0, "steps": self._steps(folder), "curve": list(rows)}

    def _steps(self, folder: JobFolder) -> int:
        from inflate3d.config import RunConfig

        with suppress(Inflate3dError):
            return RunConfig.read(folder.run.config).training.steps or 0
        return 0

    def _chosen(self, params: dict[str, Any]) -> dict[str, Any]:
        known = self.options
        given = {name: value for name, value in params.items() if name != "client_id"}
        if unknown := [name for name in given if name not in known]:
            raise ConfigError("unknown training option", expected=", ".join(known), got=unknown[0])
        if wrong := [name for name, value in given.items() if type(value) is not type(known[name])]:
            wanted = type(known[wrong[0]]).__name__
            raise ConfigError(f"invalid {wrong[0]}", expected=wanted, got=repr(given[wrong[0]])[:80])
        if not 0 <= given.get("steps", 0) <= 10**9:
            raise ConfigError("invalid steps", expected="0 to 1000000000", got=given["steps"])
        return {**known, **given}

    def _prepare(self, chosen: dict[str, Any]) -> tuple[JobFolder, TrainingJob]:
        """The folder of the training: the one that was stopped if it is the same, otherwise a new one."""
        labeled, labels = self._labeled()
        file = self._cases.folder / "split.json"
        split = extend_split(read_split(file, self._project), labeled)
        used = usable(split, labeled)
        split.write(file)
        current = self._models.in_service
        before = None if current is None else self._models.path(current.number).resolve()
        number, stopped = self._next_number()
        job = TrainingJob(
            number=number,
            labels=labels,
            settings=self._settings,
            steps=chosen["steps"] or None,
            start=before if chosen["warm_start"] and self._can_start_warm() else None,
            before=before,
            serve_if_worse=chosen["serve_if_worse"],
            device=self._device,
        )
        folder = JobFolder(self._models.folder / f"{number:04d}")
        with folder.locked(LONGEST_STOP):
            if not (stopped and folder.request.exists() and folder.read_job() == job):
                shutil.rmtree(folder.root, ignore_errors=True)
                folder.write(job, self._cases.dataset, labeled, used)
        return folder, job

    def _labeled(self) -> tuple[list[Case], dict[str, int]]:
        """The cases with a final label map, and the versions of those."""
        versions = {case.id: case.history.newest("final") for case in self._cases}
        cases = []
        for case in self._cases:
            if (version := versions[case.id]) is not None:
                cases.append(replace(case.case, label=case.history.path(version)))
        return cases, {case: version.number for case, version in versions.items() if version is not None}

    def _next_number(self) -> tuple[int, bool]:
        """The number of the next version, and whether a training with it was begun."""
        folders = [path for path in self._models.folder.glob("[0-9]*") if path.name.isdecimal() and path.is_dir()]
        finished = max((int(path.name) for path in folders if JobFolder(path).finished), default=0)
        return finished + 1, any(int(path.name) == finished + 1 for path in folders)

    def _can_start_warm(self) -> bool:
        """3D networks have no encoder that could start from another model."""
        return self._settings.get("model", {}).get("network", "inflated") == "inflated"

    def _watch(self, task: Task, folder: JobFolder, process: subprocess.Popen[bytes]) -> None:
        code = process.wait()
        if code == 0 and folder.finished:
            version = self._models.get(int(folder.root.name))
            current = self._models.in_service
            serving = current is not None and current.number == version.number
            line = f"version {version.number}: Dice {_shown(version.dice)} of the held-out cases"
            if version.before is not None:
                line += f", {_shown(version.before)} before"
            if version.absent:
                line += f"; no case it was trained on has {truncate(version.absent)}, so that it never predicts them"
            result = {**version.model_dump(mode="json"), "in_service": serving}
            task.end("DONE", f"{line}; {'in service' if serving else 'not put in service'}", result)
        elif folder.error.exists():
            error = read_json(folder.error)
            task.end("ERROR", _in_one_line(error), {"error": error})
        else:
            task.end("ERROR", f"the training ended with exit code {code}; see {folder.log.name} in its folder")


def settings_of(project: Project) -> dict[str, Any]:
    """The settings of the run that trained the project's model, and the options of its plan."""
    from inflate3d.config import RunConfig
    from inflate3d.preparation.store import Store

    if project.run is None:
        return {}
    config = RunConfig.read(RunFolder(project.run).config)
    settings = config.model_dump(mode="json", exclude={"dataset", "store"})
    with suppress(Inflate3dError):  # its store may be gone, and then the plan is made anew
        settings["plan"] = Store(config.store).options.model_dump(mode="json", exclude_defaults=True)
    return settings


def read_settings(file: Path) -> dict[str, Any]:
    """Sections of settings in a file, as `inflate3d train --config` takes them."""
    from inflate3d.presets.preset import Preset
    from inflate3d.settings import parse_settings, read_yaml

    values = read_yaml(file)
    if isinstance(values, dict):
        values = {name: section for name, section in values.items() if name not in ("dataset", "store", "description")}
        parse_settings(Preset, {"description": "", **values}, file=file)
        return values
    raise ConfigError(
        "invalid settings file", expected="sections such as model and training", got=type(values).__name__, file=file
    )


def _shown(dice: float | None) -> str:
    return "unknown" if dice is None else f"{dice:.3f}"


def _in_one_line(error: dict[str, Any]) -> str:
    """An error without the lines of several problems, and without folders."""
    return "; ".join(str(error[part]) for part in ("what", "got", "expected", "hint") if part in error)[:500]
