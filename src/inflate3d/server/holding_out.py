"""Which cases are held out to score models: once held out, a case is never trained on, so that versions compare."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from inflate3d.datasets.case import Case
from inflate3d.datasets.splits import OWN, Split
from inflate3d.errors import DataError
from inflate3d.run_folder import RunFolder
from inflate3d.server.project import Project

SHARE = 0.2
"""Share of the labeled cases that is held out; at least one."""

_SEED = 12345


def first_split(project: Project) -> Split:
    """The split of the project's run, or the dataset's own; empty if there is none."""
    if project.run is not None and RunFolder(project.run).split.exists():
        split = Split.read(RunFolder(project.run).split)
    else:
        folds = project.dataset.splits.get(OWN, ())
        split = folds[0] if len(folds) == 1 else Split((), ())
    return Split(split.train, tuple(sorted({*split.validation, *split.test})), source="the annotations")


def extend_split(split: Split, labeled: Sequence[Case]) -> Split:
    """The split with all labeled cases in it; cases that are in it already stay where they are.

    The cases of a group, such as a patient's, stay together.
    """
    train, held_out = list(split.train), list(split.validation)
    known = {*train, *held_out}
    group_of = {case.id: case.group or case.id for case in labeled}
    side = {group_of[case]: case in held_out for case in known if case in group_of}
    groups: dict[str, list[str]] = {}
    for case in sorted(group_of):
        if case not in known:
            groups.setdefault(group_of[case], []).append(case)
    names = sorted(groups)
    for place in np.random.default_rng(_SEED).permutation(len(names)):
        group = names[place]
        wanted = max(1, round(SHARE * (len(train) + len(held_out) + len(groups[group]))))
        is_held_out = side.get(group, bool(train) and len(held_out) < wanted)
        (held_out if is_held_out else train).extend(groups[group])
    return replace(split, train=tuple(sorted(train)), validation=tuple(sorted(held_out)))


def usable(split: Split, labeled: Sequence[Case]) -> Split:
    """The split of the cases that have a finished label map now.

    Raises:
        DataError: There are too few to train on some and to hold out others.
    """
    names = {case.id for case in labeled}
    train = tuple(case for case in split.train if case in names)
    held_out = tuple(case for case in split.validation if case in names)
    if not train or not held_out:
        raise DataError(
            "too few labeled cases to train",
            expected="at least two, of different patients: one to train on, one to score the model",
            got=f"{len(names)} with a final label map",
            hint="label more cases, and save them as final",
        )
    return replace(split, train=train, validation=held_out)


def read_split(file: Path, project: Project) -> Split:
    """The split so far, see `extend_split`."""
    return Split.read(file) if file.exists() else first_split(project)
