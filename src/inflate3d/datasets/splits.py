"""Splits: which cases are for training, validation and testing."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Literal

from pydantic import ConfigDict, TypeAdapter, ValidationError, with_config

from inflate3d.atomic import write_text
from inflate3d.config import DataConfig
from inflate3d.documents import DAMAGED_JSON, parse_json, read_text
from inflate3d.errors import ConfigError, DataError, truncate

OWN = "own"
"""Name of the split in a dataset's own description."""


@with_config(ConfigDict(extra="forbid"))
@dataclass(frozen=True)
class Split:
    """The cases that are trained on and those that are held out.

    Attributes:
        train: Ids of the cases to train on, sorted.
        validation: Ids of the cases to validate on during training, sorted.
        test: Ids of the test cases, which no choice depends on, sorted; may be empty.
        source: The origin of the split, in words.
    """

    train: tuple[str, ...]
    validation: tuple[str, ...]
    test: tuple[str, ...] = ()
    source: str = ""

    @property
    def held_out(self) -> tuple[str, ...]:
        """The cases to score: the test cases, or the validation cases if there are none."""
        return self.test or self.validation

    def has_cases_of(self, other: Split) -> bool:
        """Whether both put the same cases into the same parts, regardless of their source."""
        return (self.train, self.validation, self.test) == (other.train, other.validation, other.test)

    def check_keeping(self, keep: Literal["last", "best"]) -> None:
        """Checks that a training may keep these weights: scores on the cases that chose the weights are too high.

        Raises:
            ConfigError: The best weights are requested without test cases.
        """
        if keep == "best" and not self.test:
            raise ConfigError(
                "the best weights can be kept only with test cases",
                expected="a split with test cases, to score the weights chosen on the validation cases",
                got=f"--keep best with {self.source}",
                hint="leave out --keep best, or give a --split with test cases",
            )

    def write(self, path: str | Path) -> None:
        """Writes the split as JSON.

        Raises:
            OutputError: The file can't be written.
        """
        write_text(path, json.dumps(asdict(self), indent=1) + "\n")

    @classmethod
    def read(cls, path: str | Path) -> Split:
        """Reads what `write` wrote, or a file of that form from another hand.

        Raises:
            DataError: The file is missing or is not a split.
        """
        try:
            return TypeAdapter(cls).validate_python(parse_json(read_text(path)))
        except OSError as error:
            raise DataError("the split can't be read", got=error.strerror, file=path) from error
        except (ValidationError, *DAMAGED_JSON) as error:
            raise DataError(
                "invalid split file",
                expected='{"train": ["case", ...], "validation": [...], "test": [...]}',
                got=error,
                file=path,
            ) from error


def choose_split(config: DataConfig, groups: Mapping[str, str | None], named: Mapping[str, tuple[Split, ...]]) -> Split:
    """The split that a configuration asks for.

    Args:
        groups: Group of each case by id; a group is never divided.
    """
    split = _whole_split(config, groups, named)
    if config.training_cases is None:
        return split
    return _with_fewer(split, config.training_cases, config.training_cases_seed)


def choose_folds(
    wanted: Sequence[int] | Literal["all"],
    config: DataConfig,
    groups: Mapping[str, str | None],
    named: Mapping[str, tuple[Split, ...]],
) -> tuple[int, ...]:
    """The folds to hold out, one after another.

    Args:
        wanted: Their numbers, from 0, or all.
        groups: Group of each case by id; a group is never divided.
    """
    name = _resolved(config.split, named)
    count = config.num_folds if name == "folds" else len(named.get(name, ()))
    choose_split(config, groups, named)  # which raises what else is wrong
    given = f"--split {config.split} --folds {' '.join(map(str, wanted)) if wanted != 'all' else wanted}"
    if count < 2:
        raise ConfigError(
            "the split has no folds",
            expected="a split with several folds, such as --split folds",
            got=given,
            hint="leave --folds out",
        )
    chosen = tuple(range(count)) if wanted == "all" else tuple(int(fold) for fold in wanted)
    if not chosen or len(set(chosen)) < len(chosen):
        raise ConfigError("invalid folds", expected="each fold once", got=given)
    if wrong := [fold for fold in chosen if not 0 <= fold < count]:
        raise ConfigError(
            "fold not found",
            expected=f"--folds from 0 to {count - 1}",
            got=f"--folds {wrong[0]}",
            hint=f"--num-folds {wrong[0]} --folds all, for more folds" if name == "folds" else None,
        )
    for fold in chosen:
        choose_split(config.model_copy(update={"fold": fold}), groups, named)
    return chosen


def _with_fewer(split: Split, count: int, seed: int) -> Split:
    """The split with fewer training cases; those of a smaller number are among those of a larger one."""
    import numpy as np

    whole = len(split.train)
    if count > whole:
        raise ConfigError(
            "more training cases requested than available",
            expected=f"at most {whole}",
            got=f"{count} training cases requested",
            hint="request fewer, or omit the option to train on all",
        )
    order = np.random.default_rng(seed).permutation(whole)
    return replace(
        split,
        train=tuple(split.train[index] for index in sorted(order[:count])),
        source=f"{split.source}; {count} of its {whole} training cases, seed {seed}",
    )


def _whole_split(config: DataConfig, groups: Mapping[str, str | None], named: Mapping[str, tuple[Split, ...]]) -> Split:
    name = _resolved(config.split, named)
    if name == "folds":
        return kfold_split(groups, config.fold, config.num_folds, config.split_seed)
    if name in named:
        return _fold_of(named[name], name, config.fold)
    path = Path(name)
    if not path.suffix:
        raise ConfigError(
            "unknown split",
            expected=", ".join(["auto", "folds", *sorted(named), "or a JSON file"]),
            got=f"--split {name}",
            hint="the paper's splits are known for BCV, ACDC and Decathlon tasks with all of their published cases"
            if name.startswith("paper")
            else None,
        )
    split = Split.read(path)
    check_split(split, groups, file=path)
    return split if split.source else replace(split, source=f"the file {path.name}")


def _resolved(name: str, named: Mapping[str, tuple[Split, ...]]) -> str:
    """The split's name if the user did not choose one."""
    if name == "auto":
        return OWN if OWN in named else "folds"
    return name


def check_split(split: Split, cases: Mapping[str, str | None] | Sequence[str], *, file: Path) -> None:
    """Checks that a split fits the cases.

    Args:
        cases: All cases, with or without their groups.
    """
    listed = [*split.train, *split.validation, *split.test]
    unknown = sorted(set(listed) - set(cases))
    twice = sorted(case for case, count in Counter(listed).items() if count > 1)
    wrong = None
    if unknown:
        wrong = f"unknown cases: {truncate(unknown)}"
    elif twice:
        wrong = f"duplicate cases: {truncate(twice)}"
    elif not split.train or not split.validation:
        wrong = "no case to train on" if not split.train else "no case to validate on"
    elif isinstance(cases, Mapping) and (torn := _torn_groups(split, cases)):
        wrong = f"separated groups, such as patients: {truncate(torn)}"
    if wrong:
        raise DataError("the split does not fit the dataset", got=wrong, hint="correct the split", file=file)


def _torn_groups(split: Split, group_of: Mapping[str, str | None]) -> list[str]:
    """Groups with cases in more than one part of the split, sorted."""
    parts = [{group_of[case] for case in part} - {None} for part in (split.train, split.validation, split.test)]
    groups = sorted({group for group in group_of.values() if group is not None})
    return [group for group in groups if sum(group in part for part in parts) > 1]


def kfold_split(
    case_ids: Mapping[str, str | None] | Sequence[str], fold: int = 0, folds: int = 5, seed: int = 12345
) -> Split:
    """Splits cases into folds and holds one of them out; the cases of a group stay together.

    With the defaults and without groups, these are nnU-Net's folds for the same ids: scikit-learn's shuffled ``KFold``
    over the sorted ids (``nnunetv2/utilities/crossval_split.py``).

    Args:
        case_ids: The unique cases in any order, with or without their groups.
        fold: The fold to hold out, from 0.
    """
    import numpy as np

    ids = sorted(case_ids)
    assert len(ids) == len(set(ids)), "a case that is listed twice could train and validate"
    group_of = {case: (case_ids[case] if isinstance(case_ids, Mapping) else None) or case for case in ids}
    groups = sorted(set(group_of.values()))
    if folds < 2:
        raise ConfigError("too few folds", expected="--num-folds of at least 2", got=folds)
    if not 0 <= fold < folds:
        raise ConfigError("fold not found", expected=f"--fold from 0 to {folds - 1}", got=fold)
    what = "cases" if len(groups) == len(ids) else "groups of cases"
    if len(groups) < folds:
        hint = f"give --num-folds {len(groups)}" if len(groups) >= 2 else "label more cases; at least two are needed"
        raise DataError(
            f"there are fewer {what} than folds",
            expected=f"at least {folds} {what}",
            got=f"{len(groups)} {what}",
            hint=hint,
        )
    order = np.random.RandomState(seed).permutation(len(groups))
    chosen = np.array_split(order, folds)[fold]
    held_out = {groups[index] for index in chosen}
    return Split(
        train=tuple(case for case in ids if group_of[case] not in held_out),
        validation=tuple(case for case in ids if group_of[case] in held_out),
        source=f"fold {fold} of {folds}, seed {seed}",
    )


def _fold_of(folds: tuple[Split, ...], name: str, fold: int) -> Split:
    if fold >= len(folds):
        raise ConfigError(
            "fold not found",
            expected=f"--fold from 0 to {len(folds) - 1}" if len(folds) > 1 else "--fold 0, the split has no folds",
            got=f"--split {name} --fold {fold}",
        )
    return folds[fold]
