"""Which cases train and which validate."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from inflate3d.atomic import write_text
from inflate3d.errors import ConfigError, DataError


@dataclass(frozen=True)
class Split:
    """One fold of a cross-validation.

    Attributes:
        train: Ids of the cases to train on, sorted.
        validation: Ids of the cases held out, sorted.
        fold: Which fold this is, from 0.
        folds: How many there are; each case validates in exactly one.
        seed: What the cases were shuffled with.
    """

    train: tuple[str, ...]
    validation: tuple[str, ...]
    fold: int
    folds: int
    seed: int

    def write(self, path: str | Path) -> None:
        """Writes the split as JSON.

        Raises:
            OutputError: The file can't be written.
        """
        write_text(path, json.dumps(asdict(self), indent=1) + "\n")

    @classmethod
    def read(cls, path: str | Path) -> Split:
        """Reads what `write` wrote.

        Raises:
            DataError: The file is missing or doesn't hold a split.
        """
        try:
            return TypeAdapter(cls).validate_json(Path(path).read_text(encoding="utf-8"))
        except OSError as error:
            raise DataError("the split can't be read", got=error.strerror, file=path) from error
        except (ValidationError, UnicodeDecodeError) as error:
            raise DataError("the file holds no split", got=error, file=path) from error


def kfold_split(case_ids: Iterable[str], fold: int = 0, folds: int = 5, seed: int = 12345) -> Split:
    """Splits cases into folds and holds one of them out.

    Equal to nnU-Net's folds for equal ids, with the defaults: scikit-learn's shuffled ``KFold`` over the
    sorted ids (``nnunetv2/utilities/crossval_split.py``).

    Args:
        case_ids: The cases, in any order, each once.
        fold: The fold to hold out, from 0.
        folds: How many folds.
        seed: What the cases are shuffled with.

    Raises:
        ConfigError: There is no such fold.
        DataError: There are fewer cases than folds.
    """
    from sklearn.model_selection import KFold

    ids = sorted(case_ids)
    assert len(ids) == len(set(ids)), "a case that is listed twice could train and validate"
    if folds < 2:
        raise ConfigError("a split needs two folds or more", expected="--folds of at least 2", got=folds)
    if not 0 <= fold < folds:
        raise ConfigError("there is no such fold", expected=f"--fold from 0 to {folds - 1}", got=fold)
    if len(ids) < folds:
        remedy = f"give --folds {len(ids)}" if len(ids) >= 2 else "label more cases; two are the least"
        raise DataError(
            "there are fewer cases than folds",
            expected=f"at least {folds} cases",
            got=f"{len(ids)} cases",
            remedy=remedy,
        )
    train, validation = list(KFold(folds, shuffle=True, random_state=seed).split(ids))[fold]
    return Split(
        train=tuple(ids[index] for index in train),
        validation=tuple(ids[index] for index in validation),
        fold=fold,
        folds=folds,
        seed=seed,
    )
