"""Whether a store is up to date: made from the dataset as it is now, with the same options."""

from __future__ import annotations

from inflate3d.datasets.case import Dataset
from inflate3d.errors import ConfigError, DataError
from inflate3d.preparation.plan_options import PlanOptions
from inflate3d.preparation.store import Store

_AGAIN = "run `inflate3d prepare` again, or choose another --store"


def check_source(store: Store, dataset: Dataset, options: PlanOptions) -> None:
    """Makes sure that a store was made from the dataset as it is now, with the same options.

    Splits and groups may differ, see `Store.take_splits`.

    Args:
        store: The prepared dataset.
        dataset: The dataset.
        options: What is asked of the plan; without a wish any plan is right. A stride is no matter of the store.

    Raises:
        DataError: It was prepared from another folder, from other cases, or from files, modalities or classes that
            have changed since.
        ConfigError: It was prepared with other choices.
    """
    _check_cases(store, dataset)
    _check_description(store, dataset)
    _check_options(store, options)


def _check_cases(store: Store, dataset: Dataset) -> None:
    cases = {case.id for case in dataset.cases}
    if store.source != dataset.root.resolve() or set(store.cases) != cases:
        raise DataError(
            "the store was prepared from another dataset, or from other cases of it",
            expected=f"{len(cases)} cases of {dataset.root.resolve()}",
            got=f"{len(store.cases)} cases of {store.source}",
            hint=_AGAIN,
            file=store.folder,
        )
    if changed := store.fingerprint.changed_files(dataset):
        raise DataError(
            "files have changed since the dataset was prepared",
            got=f"{len(changed)}, such as {changed[0]}",
            hint=_AGAIN,
            file=store.folder,
        )


def _check_description(store: Store, dataset: Dataset) -> None:
    what = "the dataset's description has changed since it was prepared"
    try:
        chosen = store.options.choose_classes(dataset)
    except ConfigError as error:  # a class that the store's options name is there no more
        raise DataError(what, expected=error.expected, got=error.got, hint=_AGAIN, file=store.folder) from error
    plan = store.plan
    pairs = {
        "modalities": (list(plan.modalities), list(chosen.modalities)),
        "classes": (plan.classes, chosen.classes),
        "merge": (plan.merged, dict(chosen.merged)),
        "ignore": (plan.ignore, chosen.ignore),
    }
    changed = {name: pair for name, pair in pairs.items() if pair[0] != pair[1]}
    if changed:
        raise DataError(
            what,
            expected=", ".join(f"{name} {before}" for name, (before, _) in changed.items()),
            got=", ".join(f"{name} {now}" for name, (_, now) in changed.items()),
            hint=_AGAIN,
            file=store.folder,
        )


def _check_options(store: Store, options: PlanOptions) -> None:
    wishes = options.model_dump(exclude_defaults=True, exclude={"stride"})
    others = [name for name, wish in wishes.items() if wish != getattr(store.options, name)]
    if others:
        raise ConfigError(
            "the dataset was prepared with other options",
            expected=options.as_flags(others),
            got=store.options.as_flags(others),
            hint=_AGAIN,
            file=store.folder,
        )
