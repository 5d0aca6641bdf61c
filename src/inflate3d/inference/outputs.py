"""What a network's outputs stand for: exclusive classes, of which a voxel has one, or regions, which may overlap."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod

import numpy as np
import torch
from jaxtyping import Bool, Float, Integer, UInt8
from torch import Tensor

from inflate3d.preparation.plan import Plan


class Outputs(ABC):
    """What logits stand for.

    Attributes:
        count: How many outputs a network has.
        names: Names of the foreground classes or regions.
        classes: Number of the classes that a label map consists of, background included.
        members: Which of these classes each region holds; None if the outputs are classes.
    """

    members: Bool[np.ndarray, "regions k"] | None = None

    def __init__(self, plan: Plan) -> None:
        self.count, self.names, self.classes = plan.outputs, plan.class_names[1:], len(plan.classes)

    @property
    def number_type(self) -> torch.dtype:
        """The smallest type of class numbers."""
        return torch.uint8 if self.classes <= 256 else torch.int32

    @abstractmethod
    def choose(self, logits: Float[Tensor, "n h w"]) -> Integer[Tensor, "h w"]:
        """The class number of each pixel."""

    @abstractmethod
    def probabilities(self, logits: Float[Tensor, "n h w"]) -> Float[Tensor, "n h w"]:
        """The probability of each class or region."""

    @abstractmethod
    def logits(self, probabilities: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
        """Logits of these probabilities; the array that is given may be written to."""

    @abstractmethod
    def are_background(self, logits: Float[Tensor, "b n h w"]) -> bool:
        """Whether all pixels are background; they then are in any mean of such logits."""

    @abstractmethod
    def uncertainty(self, probabilities: Float[Tensor, "n *grid"]) -> UInt8[Tensor, "*grid"]:
        """Percent of the largest entropy: 0 is certain, 100 is no information."""


class ClassOutputs(Outputs):
    """Exclusive classes, background first: a softmax."""

    def choose(self, logits: Float[Tensor, "n h w"]) -> Integer[Tensor, "h w"]:
        """The class with the largest logit; the lowest number among equal ones."""
        return argmax_class(logits)

    def probabilities(self, logits: Float[Tensor, "n h w"]) -> Float[Tensor, "n h w"]:
        return logits.softmax(0)

    def logits(self, probabilities: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
        return probabilities.clamp_(min=torch.finfo(probabilities.dtype).tiny).log_()

    def are_background(self, logits: Float[Tensor, "b n h w"]) -> bool:
        return bool((logits[:, :1] >= logits).all())

    def uncertainty(self, probabilities: Float[Tensor, "n *grid"]) -> UInt8[Tensor, "*grid"]:
        """Entropy of the classes."""
        return entropy_percent(probabilities)


class RegionOutputs(Outputs):
    """Regions, each with a sigmoid of its own: it is predicted where its logit is above 0.

    A label map of exclusive classes is made of them. With an order, as in nnU-Net, the value of each predicted region
    is written over those of the regions before it. Otherwise a pixel gets the class whose regions have the largest sum
    of logits, the background having 0: if regions are independent, that is the most probable of all classes.
    """

    def __init__(self, plan: Plan) -> None:
        super().__init__(plan)
        members, numbers = plan.members, plan.class_numbers
        assert plan.regions is not None and members is not None
        self.members = members
        self._written = [numbers[value] for value in plan.regions.order]
        self._regions_of = [np.flatnonzero(held).tolist() for held in members.T]

    def choose(self, logits: Float[Tensor, "n h w"]) -> Integer[Tensor, "h w"]:
        classes = torch.zeros(logits.shape[1:], dtype=self.number_type, device=logits.device)
        if self._written:
            for region, number in enumerate(self._written):
                classes.masked_fill_(logits[region] > 0, number)
            return classes
        best = torch.zeros_like(logits[0])
        for number, regions in enumerate(self._regions_of):
            if regions:
                together = logits[regions].sum(0) if len(regions) > 1 else logits[regions[0]]
                classes.masked_fill_(together > best, number)
                torch.maximum(best, together, out=best)
        return classes

    def probabilities(self, logits: Float[Tensor, "n h w"]) -> Float[Tensor, "n h w"]:
        return logits.sigmoid()

    def logits(self, probabilities: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
        return probabilities.logit_(eps=torch.finfo(probabilities.dtype).eps)

    def are_background(self, logits: Float[Tensor, "b n h w"]) -> bool:
        return bool((logits <= 0).all())

    def uncertainty(self, probabilities: Float[Tensor, "n *grid"]) -> UInt8[Tensor, "*grid"]:
        """Entropy of the least certain region."""
        nearest = (probabilities - 0.5).abs_().amin(0) + 0.5
        return entropy_percent(torch.stack([nearest, 1 - nearest]))


def outputs_of(plan: Plan) -> Outputs:
    """What the outputs of a network with this plan stand for."""
    return RegionOutputs(plan) if plan.regions else ClassOutputs(plan)


def argmax_class(logits: Float[Tensor, "k h w"]) -> Integer[Tensor, "h w"]:
    """The class with the largest logit at each pixel; the lowest number among equal ones."""
    if logits.device.type != "cpu":
        return logits.argmax(0)
    # torch's argmax over the first axis takes several times as long on a CPU
    best, classes = logits[0].clone(), torch.zeros(logits.shape[1:], dtype=torch.int32)
    for number in range(1, len(logits)):
        classes.masked_fill_(logits[number] > best, number)
        torch.maximum(best, logits[number], out=best)
    return classes


def entropy_percent(probabilities: Float[Tensor, "k *grid"]) -> UInt8[Tensor, "*grid"]:
    """Shannon entropy in percent of its maximum: 0 is certain, 100 is no information."""
    share = torch.special.entr(probabilities).sum(0) / math.log(len(probabilities))
    return share.mul_(100).round_().clamp_(0, 100).to(torch.uint8)
