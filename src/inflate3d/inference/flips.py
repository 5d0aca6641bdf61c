"""Test-time augmentation: mean logits over a scan and its flipped copies."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import combinations

from jaxtyping import Float
from torch import Tensor

from inflate3d.errors import ConfigError
from inflate3d.preparation.plan import Plan

Flip = tuple[int, ...]
"""Axes of a window to reverse, counted from the end: -3 is depth, -2 rows, -1 columns."""

UNFLIPPED: tuple[Flip, ...] = ((),)
"""No augmentation."""


def combine_flips(allowed: tuple[bool, bool, bool]) -> tuple[Flip, ...]:
    """All combinations of axes that may be reversed; the first one flips nothing.

    Args:
        allowed: Whether each axis (depth, row, column) of model space may be flipped, see `Plan`.
    """
    axes = [axis for axis, each in zip((-3, -2, -1), allowed, strict=True) if each]
    return tuple(chosen for count in range(len(axes) + 1) for chosen in combinations(axes, count))


def mean_over_flips(
    network: Callable[[Tensor], Tensor], inputs: Float[Tensor, "b c d h w"], flips: tuple[Flip, ...]
) -> Float[Tensor, "b k *s h w"]:
    """Mean logits over flipped inputs, each flipped back.

    Args:
        network: Maps inputs to logits ``(B, K, H, W)`` of the center slices, or ``(B, K, D, H, W)``.
        inputs: Windows or patches, ``(B, C, D, H, W)``.
        flips: See `combine_flips`.
    """
    total = None
    for axes in flips:
        logits = network(inputs.flip(axes) if axes else inputs).float()
        back = [axis for axis in axes if axis >= 2 - logits.ndim]  # logits of center slices have no depth axis
        logits = logits.flip(back) if back else logits
        total = logits if total is None else total.add_(logits)
    assert total is not None
    return total if len(flips) == 1 else total.div_(len(flips))


def check_flips(plans: Sequence[Plan]) -> None:
    """Checks that the plan of at least one model allows flips."""
    if not any(any(plan.flips) for plan in plans):
        raise ConfigError(
            "test-time flips are disabled for this model",
            expected="a plan that allows flips",
            got=plans[0].reasons.get("flips"),
            hint="predict without --tta",
        )
