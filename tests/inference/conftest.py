"""Networks that are small and exact: what they answer does not hang on how many windows are asked for at a time."""

import pytest
import torch
from torch import nn

from inflate3d.models.architecture import Architecture
from inflate3d.models.segmenter import Segmenter
from inflate3d.preparation.plan import Normalization, Plan


class Sums(Segmenter):
    """Scores each pixel by fixed weights over its window's slices and its neighbors, without a matrix product."""

    def __init__(self, plan, depth=3, seed=0):
        nn.Module.__init__(self)
        self.plan = plan
        random = torch.Generator().manual_seed(seed)
        weights = torch.randn(plan.outputs, len(plan.modalities), depth, generator=random)
        self.weights = weights - weights.mean((1, 2), keepdim=True)  # so that no class is likeliest everywhere
        self.architecture = Architecture(
            encoder="none",
            depth=depth,
            in_channels=len(plan.modalities),
            image_size=plan.image_size,
            inflation="center",
            levels=None,
            decoder="upernet",
            decoder_channels=8,
            detail_channels=0,
            num_classes=plan.outputs,
            input_mean=0.0,
            input_std=1.0,
        )

    def forward(self, windows):
        neighbors = windows + 0.5 * windows.roll(1, -1) - 0.25 * windows.roll(2, -2)
        logits = torch.zeros(len(windows), len(self.weights), *windows.shape[-2:])
        for (number, modality, slice_), weight in zip(
            torch.cartesian_prod(*map(torch.arange, self.weights.shape)).tolist(),
            self.weights.flatten().tolist(),
            strict=True,
        ):
            logits[:, number] += weight * neighbors[:, modality, slice_]
        return logits


@pytest.fixture(scope="session")
def sums():
    """Makes such networks: of so many classes, with what else the plan says."""
    return _sums


def _sums(classes=3, depth=3, seed=0, modalities=1, **planned):
    values = {
        "dataset": "Toy",
        "modalities": tuple(f"M{number}" for number in range(modalities)),
        "classes": {7 * number: f"class {number}" for number in range(classes)},
        "merged": {},
        "depth_axis": "axial",
        "image_size": (24, 20),
        "normalization": (Normalization(kind="clip", low=-200, high=400),) * modalities,
        "flips": (True, True, True),
        "reasons": {},
    }
    return Sums(Plan(**{**values, **planned}), depth=depth, seed=seed).eval()
