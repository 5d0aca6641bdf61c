"""The loss of a whole batch, also if several processes hold parts of it."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Bool, Float, Integer
from monai.losses.focal_loss import FocalLoss
from torch import Tensor, distributed, nn
from torch.nn import functional

from inflate3d.config import TrainingConfig
from inflate3d.datasets.classes import IGNORED

_SMOOTH = 1e-5
"""Added to numerator and denominator of a Dice, as in MONAI."""


class SegmentationLoss(nn.Module):
    """Cross-entropy or focal loss plus Dice, over the voxels of a batch that are not ignored.

    All of it is taken over the batch as a whole, and a batch is what all processes hold together: their sums are
    added up before anything is divided. So the loss does not depend on how a batch is shared out. Dice is of foreground
    classes (Milletari et al. 2016, arXiv:1606.04797, without squares, as MONAI's ``DiceLoss`` with ``batch=True``), and
    the mean is over those that the batch's labels have: Dice says nothing of the others, and they weaken no gradient.
    Where a voxel holds several classes, Dice is the semimetric that is 0 where the probabilities are their fractions,
    and nowhere else (Wang et al. 2023, arXiv:2303.16296).

    Args:
        voxels: What is the mean over voxels.
    """

    def __init__(self, voxels: Literal["ce", "focal"], *, dice: bool) -> None:
        super().__init__()
        self.voxels, self.dice = voxels, dice
        self.focal = FocalLoss(include_background=False, to_onehot_y=True, gamma=2.0, reduction="none")

    def forward(
        self, logits: Float[Tensor, "b k *grid"], labels: Integer[Tensor, "b votes *grid"]
    ) -> Float[Tensor, ""]:
        """The loss; its value is the same in every process.

        Args:
            logits: Of the classes, background first.
            labels: Class numbers, those of several points of a voxel where a label map was shrunk.
        """
        fractions = _class_fractions(labels, logits)
        log_probabilities = logits.log_softmax(1)
        over_voxels = -(fractions * log_probabilities).sum() if self.voxels == "ce" else self._focal_sum(logits, labels)
        sums = [torch.stack([over_voxels, fractions.sum()])]
        if self.dice:
            known = fractions.sum(1, keepdim=True)
            sums.append(_overlap_sums(log_probabilities[:, 1:].exp() * known, fractions[:, 1:]).flatten())
        return _over_batch(torch.cat(sums))

    def _focal_sum(
        self, logits: Float[Tensor, "b k *grid"], labels: Integer[Tensor, "b votes *grid"]
    ) -> Float[Tensor, ""]:
        known = labels != IGNORED
        votes = labels.where(known, 0).split(1, dim=1)
        losses = torch.stack([self.focal(logits, vote).mean(1) for vote in votes], dim=1)
        return (losses * known).sum() / len(votes)


class RegionLoss(nn.Module):
    """The same for regions, which may overlap: binary cross-entropy or focal loss plus Dice, each of its own sigmoid.

    The mean over voxels is over the regions, too, as in nnU-Net. For a single region it is the loss of a class and the
    background whose logits differ by the region's.

    Args:
        voxels: What is the mean over voxels.
        members: Which of the classes 0 to K-1 each region holds.
    """

    table: Tensor

    def __init__(self, voxels: Literal["ce", "focal"], members: Bool[np.ndarray, "regions k"], *, dice: bool) -> None:
        super().__init__()
        self.voxels, self.dice = voxels, dice
        self.focal = FocalLoss(gamma=2.0, reduction="none")
        table = np.zeros((IGNORED + 1, len(members)), np.float32)
        table[: members.shape[1]] = members.T
        self.register_buffer("table", torch.from_numpy(table), persistent=False)

    def forward(
        self, logits: Float[Tensor, "b regions *grid"], labels: Integer[Tensor, "b votes *grid"]
    ) -> Float[Tensor, ""]:
        """The loss; its value is the same in every process.

        Args:
            logits: Of the regions.
            labels: Class numbers, those of several points of a voxel where a label map was shrunk.
        """
        votes = labels.unbind(1)
        held = (self._held(vote) for vote in votes)
        fractions = next(held)
        for each in held:
            fractions = fractions + each
        fractions, known = fractions / len(votes), (labels != IGNORED).to(logits.dtype).mean(1, keepdim=True)
        if self.voxels == "ce":
            over_voxels = (functional.softplus(logits) * known - logits * fractions).sum()
        else:
            losses = (self.focal(logits, self._held(vote)) * (vote != IGNORED)[:, None] for vote in votes)
            over_voxels = sum((each.sum() for each in losses), logits.new_zeros(())) / len(votes)
        sums = [torch.stack([over_voxels, known.sum() * logits.shape[1]])]
        if self.dice:
            sums.append(_overlap_sums(logits.sigmoid() * known, fractions).flatten())
        return _over_batch(torch.cat(sums))

    def _held(self, vote: Integer[Tensor, "b *grid"]) -> Float[Tensor, "b regions *grid"]:
        """Whether each region holds a voxel; an ignored one is in none."""
        return self.table[vote.long()].movedim(-1, 1)


def make_loss(
    config: TrainingConfig, members: Bool[np.ndarray, "regions k"] | None = None
) -> SegmentationLoss | RegionLoss:
    """The loss on logits ``(B, K, S, H, W)`` and class numbers ``(B, V, S, H, W)``, which may be `IGNORED`.

    Args:
        members: Which of the classes each region holds, if the logits are of regions.
    """
    voxels: Literal["ce", "focal"] = "focal" if config.loss == "dice-focal" else "ce"
    if members is not None:
        return RegionLoss(voxels, members, dice=config.loss != "ce")
    return SegmentationLoss(voxels, dice=config.loss != "ce")


def sum_over_processes(values: Float[Tensor, "*n"]) -> Float[Tensor, "*n"]:
    """Sums values over the processes of a training.

    Gradients come back times the number of processes: their mean over the processes, which DDP takes, is then the
    gradient of what was computed from the sums.
    """
    if not (distributed.is_available() and distributed.is_initialized()):
        return values
    return _SumOverProcesses.apply(values)


class _SumOverProcesses(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, values: Tensor) -> Tensor:
        total = values.clone()
        distributed.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        return gradients[0] * distributed.get_world_size()


def _class_fractions(
    labels: Integer[Tensor, "b votes *grid"], logits: Float[Tensor, "b k *grid"]
) -> Float[Tensor, "b k *grid"]:
    """The fraction of each voxel that each class covers; they sum to less than 1 where some of it is ignored."""
    numbers = torch.arange(logits.shape[1], device=labels.device).view(1, -1, *[1] * (labels.ndim - 2))
    votes = labels.split(1, dim=1)
    fractions = (votes[0] == numbers).to(logits.dtype)
    for vote in votes[1:]:
        fractions += vote == numbers
    return fractions / len(votes)


def _overlap_sums(
    probabilities: Float[Tensor, "b n *grid"], fractions: Float[Tensor, "b n *grid"]
) -> Float[Tensor, "3 n"]:
    """For each class or region: intersection, prediction, label.

    Args:
        probabilities: Of the part of each voxel that is not ignored.
        fractions: The fraction of each voxel that is labeled as it.
    """
    both, over = torch.minimum(probabilities, fractions), (0, *range(2, fractions.ndim))
    return torch.stack([each.sum(over) for each in (both, probabilities, fractions)])


def _over_batch(sums: Float[Tensor, " n"]) -> Float[Tensor, ""]:
    """The loss from the sums of a batch: over voxels, their number, and `_overlap_sums` if Dice is part of it."""
    added = sum_over_processes(sums)
    loss = added[0] / added[1].clamp(min=1)
    if len(added) > 2:
        matched, predicted, labeled = added[2:].unflatten(0, (3, -1))
        present = labeled > 0
        distance = 1 - (2 * matched + _SMOOTH) / (predicted + labeled + _SMOOTH)
        loss = loss + (distance * present).sum() / present.sum().clamp(min=1)
    return loss
