"""Test-time augmentation: the mean of what a network says of a scan and of its mirror images."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import combinations

from jaxtyping import Float
from torch import Tensor

from inflate3d.errors import ConfigError
from inflate3d.preparation.plan import Plan

Mirror = tuple[int, ...]
"""Axes of a window to be reversed, counted from the end: -3 is depth, -2 rows, -1 columns."""

UNMIRRORED: tuple[Mirror, ...] = ((),)
"""No augmentation."""


def mirrors_of(flips: tuple[bool, bool, bool]) -> tuple[Mirror, ...]:
    """All mirrors that some axes allow, one by one and together; none comes first.

    Args:
        flips: For the frame's (depth, row, column) whether it may be reversed, see `Plan`.
    """
    axes = [axis for axis, allowed in zip((-3, -2, -1), flips, strict=True) if allowed]
    return tuple(chosen for count in range(len(axes) + 1) for chosen in combinations(axes, count))


def mean_over_mirrors(
    network: Callable[[Tensor], Tensor], inputs: Float[Tensor, "b c d h w"], mirrors: tuple[Mirror, ...]
) -> Float[Tensor, "b k *s h w"]:
    """The mean logits over mirror images, each mirrored back.

    Args:
        network: Gives logits ``(B, K, H, W)`` of the center slices, or ``(B, K, D, H, W)``.
        inputs: Windows or patches, ``(B, C, D, H, W)``.
        mirrors: See `mirrors_of`.
    """
    total = None
    for axes in mirrors:
        logits = network(inputs.flip(axes) if axes else inputs).float()
        back = [axis for axis in axes if axis >= 2 - logits.ndim]  # center slices alone have no depth to reverse
        logits = logits.flip(back) if back else logits
        total = logits if total is None else total.add_(logits)
    assert total is not None
    return total if len(mirrors) == 1 else total.div_(len(mirrors))


def check_mirrors(plans: Sequence[Plan]) -> None:
    """Makes sure that at least one of several networks has a mirror image to average over.

    Raises:
        ConfigError: None of their plans allows one.
    """
    if not any(any(plan.flips) for plan in plans):
        raise ConfigError(
            "no mirror leaves the classes right, so there is nothing to average over",
            expected="a plan that allows mirrors",
            got=plans[0].reasons.get("flips"),
            hint="predict without --tta",
        )
