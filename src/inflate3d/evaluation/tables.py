"""Scores as tables in CSV: a row for each case and class, for each class and measure, for each group."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence

import numpy as np
from jaxtyping import Float

from inflate3d.evaluation.statistics import Estimate
from inflate3d.evaluation.summaries import Summary

NOT_DEFINED = "n/a"
"""How a score is shown where there is none, such as where a class is in neither map."""

ALL_CLASSES = "mean of classes"
"""Stands for a class in the row of the figure over all of them."""


def show(value: float, digits: int = 4) -> str:
    """A score in so many digits behind the point, or that it is not defined."""
    return NOT_DEFINED if math.isnan(value) else f"{value:.{digits}f}"


def to_csv(rows: Iterable[Sequence[str]]) -> str:
    """The text of a CSV file."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue()


def score_rows(
    cases: Sequence[str],
    classes: Sequence[str],
    measured: Mapping[str, Float[np.ndarray, "cases classes"]],
    groups: Mapping[str, Sequence[str]],
) -> Iterator[list[str]]:
    """The columns' names, then a row for each case and class: its groups and all measures."""
    yield ["case", *groups, "class", *measured]
    for place, case in enumerate(cases):
        for column, name in enumerate(classes):
            scores = [show(values[place, column]) for values in measured.values()]
            yield [case, *(each[place] for each in groups.values()), name, *scores]


def summary_rows(classes: Sequence[str], summaries: Mapping[str, Summary]) -> Iterator[list[str]]:
    """The columns' names, then a row for each measure and class, and one over the classes."""
    yield [
        *("measure", "class", "cases"),
        *("mean", "mean_low", "mean_high"),
        *("median", "median_low", "median_high"),
    ]
    for measure, summary in summaries.items():
        for name, cases, mean, median in zip(classes, summary.cases, summary.means, summary.medians, strict=True):
            yield [measure, name, str(cases), *_estimate(mean), *_estimate(median)]
        yield [measure, ALL_CLASSES, "", *_estimate(summary.mean), *_estimate(summary.median)]


def _estimate(estimate: Estimate) -> list[str]:
    return [show(estimate.value), show(estimate.low), show(estimate.high)]
