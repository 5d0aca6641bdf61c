"""From scores to classes on the scan's own grid, as ever, and on the way how far they can be trusted."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Integer, UInt8
from torch import Tensor

from inflate3d.inference.accumulate import OwnPixels, likeliest_class
from inflate3d.inference.confidence import AgreementCounter, Confidence, Kind, SoftDiceCounter

SLABS_MORE = 4
"""Slabs that are held beside those of a plain prediction: a member's logits, its probabilities, their sum, their
entropy."""


@dataclass(frozen=True)
class AssessedLabels:
    """A label map, and how far it can be trusted.

    Attributes:
        labels: The dataset's label values on the scan's own grid.
        confidence: A number that ranks scans by their expected Dice.
        uncertainty: The entropy of the mean probabilities at each voxel of the same grid, in percent of that of a toss
            between all classes; none if it was not asked for.
    """

    labels: Integer[np.ndarray, "i j k"]
    confidence: Confidence
    uncertainty: UInt8[np.ndarray, "i j k"] | None = None


class Assessment:
    """Takes a scan's slices to classes one by one, and gathers how far they can be trusted.

    Args:
        pixels: The scan's, for the grids of the sums, then of each member.
        sums: How many of these grids are those of sums.
        networks: How many networks a sum is of.
        class_names: All, background first.
        members: How many members there are; none for the soft Dice of the sum.
        kind: What the confidence will be.
    """

    def __init__(
        self,
        pixels: OwnPixels,
        *,
        sums: int,
        networks: int,
        class_names: Sequence[str],
        members: int,
        kind: Kind,
    ) -> None:
        self._pixels, self._sums, self._networks = pixels, sums, networks
        self._class_names = tuple(class_names)
        self._kind: Kind = kind
        self._soft = SoftDiceCounter(len(class_names))
        self._agreement = AgreementCounter(members, len(class_names)) if members else None

    def add(
        self, scores: Sequence[Float[Tensor, "1 k _ _"]], *, with_uncertainty: bool = False
    ) -> tuple[Integer[Tensor, "h w"], UInt8[Tensor, "h w"] | None]:
        """Takes a slice.

        Args:
            scores: The sums, then each member's, if there are members.
            with_uncertainty: Whether to tell the entropy.

        Returns:
            The likeliest class of each pixel, as `OwnPixels.likeliest` has it, and the entropy of the mean
            probabilities in percent of the largest there can be.
        """
        chosen = self._pixels.empty(scores)
        percent = torch.empty(self._pixels.shape, dtype=torch.uint8, device=chosen.device) if with_uncertainty else None
        for rows in self._pixels.slabs(scores):
            total = self._pixels.total(scores[: self._sums], rows)
            chosen[rows] = likeliest_class(total)
            if self._agreement:
                del total
                probabilities = self._ask_members(self._agreement, scores, rows, wanted=with_uncertainty)
            else:
                probabilities = total.div(self._networks).softmax(0)
                self._soft.add(chosen[rows], probabilities)
            if percent is not None and probabilities is not None:
                percent[rows] = entropy_percent(probabilities)
        return chosen, percent

    def confidence(self) -> Confidence:
        """What was gathered."""
        values = (self._agreement or self._soft).values()
        return Confidence(self._kind, dict(zip(self._class_names[1:], values.tolist(), strict=True)))

    def _ask_members(
        self, agreement: AgreementCounter, scores: Sequence[Float[Tensor, "1 k _ _"]], rows: slice, *, wanted: bool
    ) -> Float[Tensor, "k rows w"] | None:
        """Counts where the members agree in a slab; gives the mean of their probabilities, if wanted."""
        maps, total, places = [], None, range(self._sums, len(scores))
        for place in places:
            logits = self._pixels.logits(scores, place, rows)
            maps.append(likeliest_class(logits).cpu().numpy())
            if wanted:
                probabilities = logits.softmax(0)
                total = probabilities if total is None else total.add_(probabilities)
        agreement.add(np.stack(maps))
        return None if total is None else total.div_(len(places))


def entropy_percent(probabilities: Float[Tensor, "k *grid"]) -> UInt8[Tensor, "*grid"]:
    """Shannon's entropy in percent of that of a toss between all classes: 0 is certain, 100 is anybody's guess."""
    share = torch.special.entr(probabilities).sum(0) / math.log(len(probabilities))
    return share.mul_(100).round_().clamp_(0, 100).to(torch.uint8)
