"""How each kind of network scores the slices of a scan: logits on the network's in-plane grid."""

from __future__ import annotations

from collections.abc import Callable
from copy import copy
from typing import Generic, NamedTuple, TypeVar

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from inflate3d.config import Precision
from inflate3d.inference.flips import UNFLIPPED, Flip, combine_flips, mean_over_flips
from inflate3d.inference.scan import FramedScan
from inflate3d.models.depth_mixing import REACH
from inflate3d.models.segmenter import Segmenter
from inflate3d.models.volumetric import VolumetricSegmenter
from inflate3d.preparation.plan import Plan, window_span
from inflate3d.windows.patches import PlaneGrid, plane_grid
from inflate3d.windows.resample import field_matrices, field_sides, normalize, resample_windows
from inflate3d.windows.sliding import plane_sides, volume_logits
from inflate3d.windows.windows import window_indices

ScoreSlices = Callable[[Int[np.ndarray, " b"]], Float[Tensor, "b k height width"]]
"""Maps indices of slices in model space to their logits."""

Model = TypeVar("Model", Segmenter, VolumetricSegmenter)

_NUMBER_FORMATS: dict[Precision, torch.dtype] = {
    "32": torch.float32,
    "bf16-mixed": torch.bfloat16,
    "16-mixed": torch.float16,
}

WINDOWS_PER_PATCH = 8
"""A patch needs about as much memory as this many windows."""


class LogitGrid(NamedTuple):
    """The in-plane grid of a network's logits; its center is the slice's center.

    Attributes:
        size: Rows and columns.
        sides: Height and width in millimeters.
    """

    size: tuple[int, int]
    sides: tuple[float, float]


class _Scorer(Generic[Model]):
    """What both kinds of networks have in common."""

    def __init__(self, model: Model, plan: Plan, *, flips: bool = False, precision: Precision = "32") -> None:
        self.model, self.plan = model, plan
        self.flips = combine_flips(plan.flips) if flips else UNFLIPPED
        self._number_format = _NUMBER_FORMATS[precision]

    def _autocast(self, device: torch.device) -> torch.autocast:
        mixed = self._number_format is not torch.float32
        return torch.autocast(device.type, self._number_format if mixed else None, enabled=mixed)


class WindowScorer(_Scorer[Segmenter]):
    """Scores slices with an inflated network, which sees a window and predicts its center slice, or sees a slab.

    Args:
        plan: See `make_scorer`.
    """

    @property
    def members(self) -> list[WindowScorer]:
        """A scorer for each single flip."""
        return [self._with_flip(flip) for flip in self.flips]

    @property
    def fewest_slices(self) -> int:
        """The number of slices that a window spans."""
        return window_span(self.model.architecture.depth, self.plan.stride)

    def grid(self, scan: FramedScan) -> LogitGrid:
        """The grid of the network's input."""
        height, width = self._field(scan)[0].tolist()
        return LogitGrid(self.model.architecture.image_size, (height, width))

    def begin(self, scan: FramedScan, batch_size: int) -> ScoreSlices:
        """Prepares to score the slices of a scan; computes nothing yet."""
        del batch_size
        matrices = field_matrices(scan.sides, self._field(scan)).to(scan.device)
        score = self._score if self.model.architecture.depth_mixing == "none" else self._score_slab
        return lambda centers: score(scan, matrices, centers)

    def windows(self, scan: FramedScan, centers: Int[np.ndarray, " b"]) -> Float[Tensor, "b c d height width"]:
        """What the network sees of the slices with these indices."""
        return self._windows(scan, field_matrices(scan.sides, self._field(scan)).to(scan.device), centers)

    @torch.inference_mode()
    def _score(
        self, scan: FramedScan, matrices: Float[Tensor, "1 2 3"], centers: Int[np.ndarray, " b"]
    ) -> Float[Tensor, "b k height width"]:
        windows = self._windows(scan, matrices, centers)
        with self._autocast(scan.device):
            return mean_over_flips(self.model, windows, self.flips)

    @torch.inference_mode()
    def _score_slab(
        self, scan: FramedScan, matrices: Float[Tensor, "1 2 3"], centers: Int[np.ndarray, " b"]
    ) -> Float[Tensor, "b k height width"]:
        """Scores slices of one slab, which has all slices that change their logits: any slab gives the same ones."""
        first, stop = max(0, centers[0] - REACH), min(scan.slices, centers[-1] + REACH + 1)
        slab = self._windows(scan, matrices, np.arange(first, stop))[:, :, 0].movedim(0, 1)[None]
        with self._autocast(scan.device):
            logits = mean_over_flips(self.model, slab, self.flips)
        return logits[0].movedim(1, 0)[torch.from_numpy(centers - first).to(logits.device)]

    def _windows(
        self, scan: FramedScan, matrices: Float[Tensor, "1 2 3"], centers: Int[np.ndarray, " b"]
    ) -> Float[Tensor, "b c d height width"]:
        """Builds windows from slices that are resampled once each, however many windows contain them."""
        architecture = self.model.architecture
        shown = window_indices(centers, architecture.depth, self.plan.stride, scan.slices)
        needed, places = np.unique(shown, return_inverse=True)
        slices = normalize(scan.read(needed)[None], scan.ranges(self.plan.normalization)[None])
        slices = slices[0].movedim(1, 0)[:, :, None]
        # one by one: the grid of sampling points takes more memory than a slice, and many channels at a time more time
        slices = torch.cat([resample_windows(one[None], matrices, architecture.image_size) for one in slices])
        chosen = torch.from_numpy(places.reshape(shown.shape)).to(slices.device)
        return slices[chosen][:, :, :, 0].movedim(2, 1).contiguous()

    def _with_flip(self, flip: Flip) -> WindowScorer:
        alone = copy(self)
        alone.flips = (flip,)
        return alone

    def _field(self, scan: FramedScan) -> Float[Tensor, "1 2"]:
        return field_sides(scan.sides, self.model.architecture.image_size, self.plan.pixel_spacing)


class PatchScorer(_Scorer[VolumetricSegmenter]):
    """Scores slices with a 3D network, whose overlapping patches are blended in one array of classes x voxels.

    Args:
        plan: See `make_scorer`.
    """

    @property
    def members(self) -> list[PatchScorer]:
        """Only itself: with each flip separate, every one of them would need an array of classes x voxels."""
        return [self]

    @property
    def fewest_slices(self) -> int:
        """A patch may be larger than the scan."""
        return 1

    def grid(self, scan: FramedScan) -> LogitGrid:
        """The grid of the patches."""
        plane = self._plane(scan)
        height, width = plane_sides(plane)[0].tolist()
        return LogitGrid(plane.size, (height, width))

    def begin(self, scan: FramedScan, batch_size: int) -> ScoreSlices:
        """Scores the whole scan, in batches of patches that need as much memory as ``batch_size`` windows."""
        with self._autocast(scan.device):
            logits = volume_logits(
                lambda patches: mean_over_flips(self.model, patches, self.flips),
                scan.read(np.arange(scan.slices)),
                scan.ranges(self.plan.normalization),
                scan.sides,
                self._plane(scan),
                patch_size=self.model.architecture.patch_size,
                device=scan.device,
                batch_size=max(1, batch_size // WINDOWS_PER_PATCH),
            )
        return lambda centers: logits[:, torch.from_numpy(centers)].movedim(1, 0).to(scan.device)

    def _plane(self, scan: FramedScan) -> PlaneGrid:
        _, rows, columns = scan.own_shape
        return plane_grid((rows, columns), scan.pixel_spacing, self.plan.pixel_spacing)


SliceScorer = WindowScorer | PatchScorer
"""``begin`` prepares for a scan, ``grid`` is where in plane its logits lie, and ``members`` are the scorers whose
logits it averages."""


def make_scorer(
    model: Segmenter | VolumetricSegmenter, plan: Plan, *, flips: bool, precision: Precision
) -> SliceScorer:
    """The scorer for a model.

    Args:
        plan: The model's plan, or one of its `plane_plans`.
        flips: Whether to average over the flips that the plan allows.
    """
    if isinstance(model, VolumetricSegmenter):
        return PatchScorer(model, plan, flips=flips, precision=precision)
    return WindowScorer(model, plan, flips=flips, precision=precision)
