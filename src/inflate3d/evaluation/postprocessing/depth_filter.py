"""The choice of the depth filter: the one that raises the mean Dice of held-out cases by more than chance.

A filter smooths the logits of all classes along the depth by a Gaussian (`inflate3d.inference.depth_filter`). It helps
where slices are thin against the structures, and harms where they are thick.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Float

from inflate3d.evaluation.postprocessing.choice import Candidate, best_of, try_out

_IN_SLICES = (0.5, 1.0, 1.5, 2.0)


def depth_filters(slice_spacing: float) -> tuple[float, ...]:
    """The standard deviations to try, in millimeters: 0.5, 1, 1.5 and 2 slices.

    Args:
        slice_spacing: Usual distance of slices in millimeters.
    """
    return tuple(float(f"{slices * slice_spacing:.3g}") for slices in _IN_SLICES)


def choose_depth_filter(
    dice: Mapping[float, Float[np.ndarray, "cases classes"]], groups: Sequence[str]
) -> tuple[float, tuple[Candidate, ...]]:
    """Chooses the standard deviation.

    Args:
        dice: By standard deviation in millimeters; 0 is without a filter.
        groups: The group of each case, such as its patient, which is resampled as a whole.

    Returns:
        The one that is kept, 0 if none is, and all that were tried.
    """
    tried = {
        each: try_out("all classes", f"depth filter {each:g} mm", dice[0.0], after, groups, len(dice) - 1)
        for each, after in dice.items()
        if each
    }
    best = best_of(tuple(tried.values()))
    return next((each for each, candidate in tried.items() if candidate is best), 0.0), tuple(tried.values())
