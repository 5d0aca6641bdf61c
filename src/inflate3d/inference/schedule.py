"""Which slices of a scan the network sees: all of them, or first every n-th, and those near a structure.

The adaptive schedule predicts every n-th slice. Between two of them that hold background alone, no slice is predicted:
their logits are interpolated, which gives background, too. Between any others, all are predicted. Slices of the first
pass are at most half as far apart as the thinnest structure of the training cases is thick, so that two of them meet
any structure of that thickness.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor

from inflate3d.errors import ConfigError
from inflate3d.inference.scan import FramedScan
from inflate3d.inference.slices import Logits, every_nth
from inflate3d.models.segmenter import Segmenter
from inflate3d.models.volumetric import VolumetricSegmenter
from inflate3d.preparation.plan import Plan

Score = Callable[[Int[np.ndarray, " n"]], Iterator[Logits]]
"""Maps indices of slices to their logits, in batches."""

GROUP = 4
"""Slices of the first pass whose logits are kept while those between them are predicted."""


def check_schedule(models: Sequence[Segmenter | VolumetricSegmenter], slice_step: int) -> None:
    """Makes sure that the adaptive schedule can be followed.

    Raises:
        ConfigError: It can't.
    """
    if slice_step > 1:
        raise ConfigError(
            "the adaptive schedule can't be combined with --slice-step",
            got=f"--slice-step {slice_step}",
            hint="leave out one of them",
        )
    for model in models:
        if isinstance(model, VolumetricSegmenter):
            raise ConfigError(
                "a 3D network predicts patches, not slices",
                got="--schedule adaptive",
                hint="leave out --schedule",
            )
        if model.architecture.depth_mixing != "none":
            raise ConfigError(
                "depth mixing needs adjacent slices",
                got="--schedule adaptive",
                hint="predict with --schedule full",
            )
        if model.plan is None or model.plan.thinnest is None:
            raise ConfigError(
                "the adaptive schedule needs the thickness of structures",
                expected="a model whose training recorded it",
                got=f"a model of the dataset {model.plan.dataset}, which has no such record" if model.plan else None,
                hint="predict with --schedule full, or train again",
            )


def first_pass_step(plan: Plan, scan: FramedScan) -> int:
    """The distance between slices of the first pass."""
    assert plan.thinnest is not None  # see check_schedule
    return max(1, int(plan.thinnest[0] / scan.scan.spacing[0] / 2))


def adaptive_logits(score: Score, slices: int, step: int, are_background: Callable[[Tensor], bool]) -> Iterator[Logits]:
    """The logits of all slices, one by one, in order.

    Args:
        score: Scores slices.
        slices: How many there are.
        step: From one slice of the first pass to the next.
        are_background: Whether all pixels of such logits are background; see `Outputs`.
    """
    first_pass = every_nth(slices, step)
    before: tuple[int, Logits] | None = None
    for start in range(0, len(first_pass), GROUP):
        group = first_pass[start : start + GROUP]
        known = [*([before] if before else []), *zip(group.tolist(), _one_by_one(score(group)), strict=True)]
        are_empty = [all(map(are_background, logits)) for _, logits in known]
        between = [
            (low, high, first and second)
            for (low, high), (first, second) in zip(pairwise(known), pairwise(are_empty), strict=True)
        ]
        wanted = [np.arange(low[0] + 1, high[0]) for low, high, skipped in between if not skipped]
        predicted = _one_by_one(score(np.concatenate([np.empty(0, int), *wanted])))
        if before is None:
            yield known[0][1]
        for low, high, skipped in between:
            for index in range(low[0] + 1, high[0]):
                yield _interpolate(low, high, index) if skipped else next(predicted)
            yield high[1]
        before = known[-1]


def _one_by_one(batches: Iterator[Logits]) -> Iterator[Logits]:
    """Copies, as a view would keep its whole batch in memory."""
    for batch in batches:
        for index in range(len(batch[0])):
            yield [part[index : index + 1].clone() for part in batch]


def _interpolate(low: tuple[int, Logits], high: tuple[int, Logits], index: int) -> Logits:
    share = (index - low[0]) / (high[0] - low[0])
    return [torch.lerp(below, above, share) for below, above in zip(low[1], high[1], strict=True)]
