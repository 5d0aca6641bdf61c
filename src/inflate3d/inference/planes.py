"""Averaging over planes: predicts slices along each axis of a scan, and averages each voxel's probabilities.

Logits of different planes can only be combined on the scan's own voxels, which needs a float32 array of classes x
voxels on the device. Probabilities are averaged, not logits, so that no plane outweighs the others.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from jaxtyping import Integer
from torch import Tensor

from inflate3d.inference.networks import LogitGrid
from inflate3d.inference.outputs import Outputs
from inflate3d.inference.scan import FramedScan
from inflate3d.inference.slices import Logits, OwnPixels
from inflate3d.inference.uncertainty import AgreementCounter, Confidence
from inflate3d.orientation import Turn


class PlaneAverage:
    """Adds up the probabilities of several planes on the voxels of a scan.

    Args:
        scan: The scan, with slices along the plan's depth axis.
        outputs: What logits stand for.
        compare: Whether to keep each plane's label map, for the confidence.
    """

    def __init__(self, scan: FramedScan, outputs: Outputs, *, compare: bool) -> None:
        self._outputs = outputs
        self._sum = torch.zeros(outputs.count, *scan.own_shape, device=scan.device)
        self._planes = 0
        self._compare = compare
        self._maps: list[Integer[Tensor, "d h w"]] = []
        height, width = scan.sides[0].tolist()
        self.grid = LogitGrid(scan.own_shape[1:], (height, width))

    @torch.inference_mode()
    def add(self, slices: Iterator[Logits], pixels: OwnPixels, turn: Turn, networks: int) -> None:
        """Adds a plane.

        Args:
            slices: Logits of the plane's slices, one by one: the sum of the networks' on each of their grids.
            turn: Conversion from the scan's axes to the plane's, see `plane_turns`.
        """
        total = self._sum.permute(0, *(1 + axis for axis in turn))
        kind = self._outputs.number_type
        chosen = torch.empty(self._sum.shape[1:] if self._compare else (0, 0, 0), dtype=kind).permute(turn)
        for index in range(total.shape[1]):
            logits = next(slices)  # the variable of a for loop would keep the batch while the next one is computed
            for rows in pixels.bands(logits):
                own = pixels.total(logits, rows)
                total[:, index, rows] += self._outputs.probabilities(own.div(networks))
                if self._compare:
                    chosen[index, rows] = self._outputs.choose(own).to("cpu", kind)
            del logits
        self._planes += 1
        if self._compare:
            self._maps.append(chosen.permute(*(turn.index(axis) for axis in range(3))))

    def logits(self) -> Iterator[Logits]:
        """Logarithms of the mean probabilities, slice by slice along the scan's depth: logits on its own pixels."""
        for index in range(self._sum.shape[1]):
            yield [self._outputs.logits(self._sum[None, :, index].div(self._planes))]

    def confidence(self) -> Confidence:
        """How far the planes agree."""
        agreement = AgreementCounter(self._planes, self._outputs.classes, self._outputs.members)
        for index in range(self._sum.shape[1]):
            agreement.add(np.stack([chosen[index].numpy() for chosen in self._maps]))
        return Confidence("planes", dict(zip(self._outputs.names, agreement.values().tolist(), strict=True)))
