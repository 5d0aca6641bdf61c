"""The loss of a batch as a whole, also where several processes hold parts of it."""

from __future__ import annotations

from typing import Any, Literal

import torch
from jaxtyping import Bool, Float, Integer
from monai.losses.focal_loss import FocalLoss
from torch import Tensor, distributed, nn
from torch.nn import functional

from inflate3d.config import TrainingConfig
from inflate3d.datasets.classes import IGNORED

_SMOOTH = 1e-5
"""Added to both parts of a Dice, as MONAI does."""


class SegmentationLoss(nn.Module):
    """Cross-entropy or focal loss, and Dice, of the voxels of a batch that aren't ignored.

    All of it is taken over the batch as a whole, and a batch is what all processes hold together: their sums are
    added up before anything is divided. So the loss does not depend on how a batch is shared out. Dice is of foreground
    classes (Milletari et al. 2016, arXiv:1606.04797, without squares, as MONAI's ``DiceLoss`` with ``batch=True``), and
    the mean is over those that the batch's labels have: Dice says nothing of the others, and they weaken no gradient.

    Args:
        voxels: What is the mean over voxels.
        dice: Whether Dice is added.
        ignore: Whether labels may be `IGNORED`; looking for them takes time.
    """

    def __init__(self, voxels: Literal["ce", "focal"], *, dice: bool, ignore: bool) -> None:
        super().__init__()
        self.voxels, self.dice, self.ignore = voxels, dice, ignore
        self.focal = FocalLoss(include_background=False, to_onehot_y=True, gamma=2.0, reduction="none")

    def forward(self, logits: Float[Tensor, "b k *grid"], labels: Integer[Tensor, "b 1 *grid"]) -> Float[Tensor, ""]:
        """The loss; on each process its value is that of all.

        Args:
            logits: Of the classes, background first.
            labels: Class numbers.
        """
        known = labels != IGNORED if self.ignore else None
        log_probabilities = logits.log_softmax(1)
        counted = logits.new_tensor(labels.numel()) if known is None else known.sum().to(logits.dtype)
        sums = [torch.stack([self._sum_over_voxels(logits, log_probabilities, labels, known), counted])]
        if self.dice:
            sums.append(_region_sums(log_probabilities, labels, known).flatten())
        added = sum_over_processes(torch.cat(sums))
        loss = added[0] / added[1].clamp(min=1)
        if self.dice:
            matched, predicted, labeled = added[2:].unflatten(0, (3, -1))
            present = labeled > 0
            distance = 1 - (2 * matched + _SMOOTH) / (predicted + labeled + _SMOOTH)
            loss = loss + (distance * present).sum() / present.sum().clamp(min=1)
        return loss

    def _sum_over_voxels(
        self,
        logits: Float[Tensor, "b k *grid"],
        log_probabilities: Float[Tensor, "b k *grid"],
        labels: Integer[Tensor, "b 1 *grid"],
        known: Bool[Tensor, "b 1 *grid"] | None,
    ) -> Float[Tensor, ""]:
        if self.voxels == "ce":
            if torch.are_deterministic_algorithms_enabled():  # CUDA adds up voxels in no fixed order otherwise
                losses = functional.nll_loss(log_probabilities, labels[:, 0], ignore_index=IGNORED, reduction="none")
                return losses.sum()
            return functional.nll_loss(log_probabilities, labels[:, 0], ignore_index=IGNORED, reduction="sum")
        if known is None:
            return self.focal(logits, labels).mean(1).sum()
        return (self.focal(logits, labels.where(known, 0)).mean(1, keepdim=True) * known).sum()


def make_loss(config: TrainingConfig, *, ignore: bool = False) -> SegmentationLoss:
    """The loss on logits ``(B, K, S, H, W)`` and class numbers ``(B, 1, S, H, W)``.

    Args:
        config: Which.
        ignore: Whether class numbers may be `IGNORED`.
    """
    if config.loss == "dice-focal":
        return SegmentationLoss("focal", dice=True, ignore=ignore)
    return SegmentationLoss("ce", dice=config.loss == "dice-ce", ignore=ignore)


def sum_over_processes(values: Float[Tensor, "*n"]) -> Float[Tensor, "*n"]:
    """Adds up values over the processes of a training; a training of one keeps its own.

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


def _region_sums(
    log_probabilities: Float[Tensor, "b k *grid"],
    labels: Integer[Tensor, "b 1 *grid"],
    known: Bool[Tensor, "b 1 *grid"] | None,
) -> Float[Tensor, "3 foreground"]:
    """For each foreground class: what both hold, what the prediction holds, what the label holds."""
    probabilities = log_probabilities[:, 1:].exp()
    if known is not None:
        probabilities = probabilities * known
    classes = torch.arange(1, log_probabilities.shape[1], device=labels.device)
    inside = labels == classes.view(1, -1, *[1] * (labels.ndim - 2))
    over = (0, *range(2, labels.ndim))
    return torch.stack([(probabilities * inside).sum(over), probabilities.sum(over), inside.sum(over).float()])
