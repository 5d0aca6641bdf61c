"""The run that shows what depth gives: the same in all but the number of slices, of which it sees one."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from inflate3d.config import InflatedConfig, RunConfig
from inflate3d.errors import DataError, Inflate3dError, truncate
from inflate3d.evaluation.scores import Scores
from inflate3d.report.pages import method_name, plural
from inflate3d.run_folder import RunFolder, ScoredFolder, open_folder


@dataclass(frozen=True)
class Method:
    """A run on the page, or several folds: the page's own, or its twin.

    Attributes:
        name: Distinguishes it from the other, such as ``"5 slices"``.
        scores: Its scores of the held-out cases.
        folder: Its folder.
    """

    name: str
    scores: Scores
    folder: ScoredFolder

    def case_mean(self, case: str, measure: str = "dice") -> float:
        """Mean of a measure over the classes of a case."""
        return self.scores.case_means(measure)[self.scores.cases.index(case)]


def find_twin(folder: RunFolder) -> Method | None:
    """The run beside this one, in the same folder, that differs in nothing but that it sees one slice.

    Such runs lie beside each other after `inflate3d compare`. Runs that can't be read, are not scored or were scored
    on other cases are passed over.

    Args:
        folder: A scored run.
    """
    config, scores = RunConfig.read(folder.config), Scores.read(folder.evaluation)
    if not isinstance(config.model, InflatedConfig) or config.model.depth == 1:
        return None
    flat = config.model_copy(update={"model": config.model.model_copy(update={"depth": 1})})
    for root in sorted(folder.root.resolve().parent.iterdir()):
        beside = RunFolder(root)
        if beside.config.exists() and (beside.evaluation / "scores.json").exists() and _config(beside) == flat:
            method = read_method(root)
            return method if _are_alike(method.scores, scores) else None
    return None


def read_method(root: Path) -> Method:
    """A scored run, to stand beside another.

    Raises:
        ConfigError: Its configuration can't be read.
        DataError: It has no scores.
    """
    folder = open_folder(root)
    return Method(method_name(RunConfig.read(folder.runs[0].config).model), Scores.read(folder.evaluation), folder)


def side_by_side(own: Method, other: Method) -> list[Method]:
    """A run and another for one page; where they have one name, each has that of its folder.

    Raises:
        DataError: The other was scored on other cases or classes.
    """
    if not _are_alike(own.scores, other.scores):
        raise DataError(
            "the run beside was scored on other cases or classes",
            expected=f"{plural(len(own.scores.cases), 'case')} with {', '.join(own.scores.classes)}",
            got=_other_than(own.scores, other.scores),
            hint="name a run on the same split",
            file=other.folder.root,
        )
    if own.name != other.name:
        return [own, other]
    roots = [method.folder.root.resolve() for method in (own, other)]
    apart = 1 if roots[0].name != roots[1].name else 2
    return [
        replace(method, name="/".join(root.parts[-apart:])) for method, root in zip((own, other), roots, strict=True)
    ]


def _are_alike(own: Scores, other: Scores) -> bool:
    return (own.cases, own.classes) == (other.cases, other.classes)


def _other_than(own: Scores, other: Scores) -> str:
    if own.classes != other.classes:
        return ", ".join(other.classes)
    only = sorted({*own.cases} ^ {*other.cases})
    return f"{plural(len(other.cases), 'case')}; one of the two alone has {truncate(only)}"


def _config(folder: RunFolder) -> RunConfig | None:
    try:
        return RunConfig.read(folder.config)
    except Inflate3dError:
        return None  # a folder of another program or version, which is no twin
