"""What is annotated: the classes, the scans, labeled or not, and the model to begin with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from inflate3d.datasets import read_dataset
from inflate3d.datasets.case import Case, Dataset, check_id
from inflate3d.errors import ConfigError, DataError
from inflate3d.preparation.plan import Plan
from inflate3d.run_folder import RunFolder, open_folder


@dataclass(frozen=True)
class Project:
    """What is annotated.

    Attributes:
        dataset: Its classes and modalities, and all cases; ``label`` is None where a case has no label map yet.
        model: Folder of the model to begin with; None if the first one is yet to be trained.
        run: Folder of the run that trained it, whose settings further trainings take; None if unknown.
    """

    dataset: Dataset
    model: Path | None = None
    run: Path | None = None

    @property
    def name(self) -> str:
        return self.dataset.name


def open_project(source: Path, scans: Path | None = None, classes: Sequence[str] = ()) -> Project:
    """Finds the classes, the scans and the model.

    Args:
        source: A run's folder, a model folder or a folder of folds; or a dataset's folder; or with ``classes`` a folder
            of scans without labels.
        scans: More scans, without labels (see `inflate3d.inference.scans.find_scans`).
        classes: Names of the classes to label, without the background, where nothing has been labeled yet.

    Raises:
        DataError: There is neither a model nor a dataset, or names of scans are duplicate or can't be file names.
    """
    if classes:
        project = Project(_new_dataset(source, classes))
        scans = scans or source
    elif plan := _plan_of(source):
        project = _of_model(source, plan)
    else:
        project = Project(read_dataset(source))
    return project if scans is None else _with_scans(project, scans)


def _new_dataset(folder: Path, classes: Sequence[str]) -> Dataset:
    names = [name.strip() for name in classes]
    if "" in names or len({name.lower() for name in (*names, "background")}) <= len(names):
        raise ConfigError(
            "invalid --classes", expected="different names, without background", got=", ".join(map(repr, classes))
        )
    values = {0: "background", **dict(enumerate(names, start=1))}
    return Dataset(folder.resolve().name, folder, ("image",), values, ())


def _plan_of(folder: Path) -> Plan | None:
    """The plan of the models in a folder; None if there are none."""
    from inflate3d.inference.ensemble import find_models
    from inflate3d.models.checkpoint import find_model_folder, read_description

    if not folder.is_dir():
        return None
    first = find_models(folder)[0]
    model = find_model_folder(first) or (first / "model" if RunFolder(first).config.exists() else None)
    if model is None:
        return None
    plan = read_description(model)[1]
    if plan is None:
        raise DataError("model has no plan", hint="give a run that inflate3d trained", file=first)
    return plan


def _of_model(source: Path, plan: Plan) -> Project:
    """The model's classes, and the dataset of its run if that is still there."""
    from inflate3d.config import RunConfig

    runs = [run for run in open_folder(source).runs if run.config.exists()]
    run = runs[0] if runs else None
    dataset = Dataset(
        plan.dataset, source, plan.modalities, plan.classes, (), structures=plan.structures, codes=plan.codes
    )
    if run is not None:
        folder = RunConfig.read(run.config).dataset
        if folder.is_dir():
            dataset = read_dataset(folder)
    return Project(plan.apply_to(dataset), source, None if run is None else run.root)


def _with_scans(project: Project, scans: Path) -> Project:
    """The project with all scans below a folder that are not its own yet."""
    from inflate3d.inference.scans import find_scans

    dataset = project.dataset
    files = {path.resolve() for case in dataset.cases for path in (*case.images, case.label) if path}
    names = {case.id.casefold() for case in dataset.cases}
    added: list[Case] = []
    for case in find_scans(scans, dataset).cases:
        if any(path.resolve() in files for path in case.images if path):
            continue
        _check_name(case, names)
        names.add(case.id.casefold())
        added.append(case)
    return replace(project, dataset=replace(dataset, cases=(*dataset.cases, *added)))


def _check_name(case: Case, taken: set[str]) -> None:
    try:
        check_id(case.id)
    except ValueError as error:
        raise DataError("invalid case name", got=repr(case.id[:200]), hint="rename the file", file=case.scan) from error
    if case.id.casefold() in taken:
        raise DataError(
            "duplicate case name",
            got="a scan with the name of another case",
            hint="rename the file",
            case=case.id,
            file=case.scan,
        )
