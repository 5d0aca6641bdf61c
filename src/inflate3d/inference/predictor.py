"""From a scan to its label map, in a memory that grows neither with the number of classes nor with the depth.

An inflated network goes slice by slice: no array of classes × voxels is ever made. Logits are averaged: over mirror
images and over networks, as nnU-Net does with its folds (``nnUNetPredictor.predict_logits_from_preprocessed_data``).
Networks that share a grid in plane are averaged there, others on the scan's own pixels: resampling is linear, so both
give the same, and the first costs less.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Int, Integer
from torch import Tensor

from inflate3d.config import Precision
from inflate3d.errors import ConfigError, DataError, ModelError
from inflate3d.inference.accumulate import LogitGrid, OwnPixels, label_type
from inflate3d.inference.ensemble import check_agreement, find_models
from inflate3d.inference.memory import GIGABYTE, LiveTensors, usual_budget
from inflate3d.inference.networks import Network, Score, network_of
from inflate3d.inference.scan import FramedScan
from inflate3d.inference.slices import Scores, SliceChoice
from inflate3d.models.segmenter import Segmenter, load_model
from inflate3d.models.volumetric import VolumetricSegmenter
from inflate3d.preparation.plan import Plan
from inflate3d.volume import Volume
from inflate3d.windows.resample import field_matrices, resample_labels

Model = Segmenter | VolumetricSegmenter

_SLAB_BYTES = {"cpu": 2**24}
"""What the logits of a slab take: on a CPU little enough to stay in its caches."""

_SLAB_BYTES_ELSEWHERE = 2**28

_SLABS_AT_ONCE = 4
"""A slab of a network, of the sum, of the largest values, and what resampling takes."""


class Predictor:
    """Segments scans with a trained network, or with several.

    Args:
        model: A network with its plan, or several that agree in all that makes their logits comparable.
        device: Where to compute; the GPU if there is one.
        batch_size: The most windows predicted at a time, fewer where memory demands it; of a 3D network an eighth as
            many patches.
        memory: Gigabytes that a prediction may take, above the weights and the scan; on a GPU of its memory, the
            scan counted. If not given 1.5, less where less is free, or nine tenths of what is free on the GPU. A
            3D network's array of classes × voxels is not bounded.
        mirror: Whether to average over the mirror images that the plan allows.
        every: Predict every n-th slice, and interpolate the logits of those between.
        precision: Number format of the network's arithmetic; mixed ones are faster where the device has them, and
            change some labels.

    Raises:
        ModelError: A network has no plan, networks don't agree, or there is no such device.
        ConfigError: The plan allows no mirror.
    """

    def __init__(
        self,
        model: Model | Sequence[Model],
        *,
        device: str | None = None,
        batch_size: int = 16,
        memory: float | None = None,
        mirror: bool = False,
        every: int = 1,
        precision: Precision = "32",
    ) -> None:
        models = list(model) if isinstance(model, Sequence) else [model]
        check_agreement([_plan_of(each) for each in models])
        if mirror:
            _check_mirrors(models)
        self.batch_size, self.memory, self.every = batch_size, memory, every
        try:
            self.device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
            self.models = tuple(each.eval().to(self.device) for each in models)
        except (RuntimeError, AssertionError) as error:  # torch's, for names and for devices that are not there
            raise ModelError("device can't be used", expected="cpu, cuda, cuda:1, mps", got=device) from error
        self._networks: list[Network] = [network_of(each, mirror=mirror, precision=precision) for each in self.models]

    @classmethod
    def load(
        cls,
        folder: str | Path,
        *,
        also: Sequence[str | Path] = (),
        device: str | None = None,
        batch_size: int = 16,
        memory: float | None = None,
        mirror: bool = False,
        every: int = 1,
        precision: Precision = "32",
    ) -> Predictor:
        """Loads a run's folder, a model folder, or a folder of such, whose networks are averaged.

        Args:
            folder: The folder.
            also: More of them.
            device: See `Predictor`, as all that follows.
            batch_size: The most windows at a time.
            memory: Gigabytes.
            mirror: Whether to average over mirror images.
            every: Steps from slice to slice.
            precision: Number format.

        Raises:
            ModelError: There is no model, it can't be used, or models don't agree.
            ConfigError: The plan allows no mirror.
        """
        folders = [model for place in (folder, *also) for model in find_models(Path(place))]
        models = [load_model(model) for model in folders]
        check_agreement([_plan_of(model) for model in models], folders)
        return cls(
            models,
            device=device,
            batch_size=batch_size,
            memory=memory,
            mirror=mirror,
            every=every,
            precision=precision,
        )

    @property
    def plan(self) -> Plan:
        """How scans become the first network's windows; what networks have to agree in is all of theirs."""
        plans = [network.plan for network in self._networks]
        missing = all(plan.allow_missing_modality for plan in plans)
        return plans[0].model_copy(update={"allow_missing_modality": missing})

    def predict(self, volume: Volume) -> Integer[np.ndarray, "i j k"]:
        """Segments a scan.

        Args:
            volume: ``(C, I, J, K)`` in any orientation, with its affine.

        Returns:
            The data set's label values on the very grid of the scan, ``(I, J, K)``.

        Raises:
            DataError: Wrong number of modalities, or fewer slices than a window.
            ConfigError: The memory that was given is too little.
        """
        scan = self.frame(volume)
        values = self.plan.label_values
        values = values.astype(label_type(values))
        labels = np.empty_like(volume.array[0], dtype=values.dtype)  # in the file's order, which is quicker to write
        framed = scan.orientation.apply(labels)  # a view
        pixels = self._own_pixels(scan)
        scores = self._own_scores(scan, held=labels.nbytes)
        for index in range(len(framed)):
            # by next, for a loop's variable would hold its batch while the one after it is computed
            framed[index] = values[pixels.likeliest(next(scores)).cpu().numpy()]
        return labels

    def frame(self, volume: Volume) -> FramedScan:
        """Brings a scan into the networks' frame, exactly as the store does for training.

        Raises:
            DataError: Wrong number of modalities, or fewer slices than a window.
        """
        room = self._budget() // 2 if self.device.type == "cuda" else 0
        scan = FramedScan.of(volume, self.plan, self.device, room=room)
        needed = max(network.fewest_slices for network in self._networks)
        if scan.slices < needed:
            raise DataError(
                "scan is thinner than the window",
                expected=f"at least {needed} slices along the {self.plan.depth_axis} direction",
                got=f"{scan.slices} slices",
            )
        return scan

    def slice_logits(self, scan: FramedScan) -> Iterator[tuple[int, Float[Tensor, "1 k height width"]]]:
        """Scores all of the scan's own slices in order.

        Only for networks that share a grid in plane, such as a single one; several networks' logits are summed.

        Yields:
            The slice's index, and its logits ``(1, K, H, W)`` at the network's input size.
        """
        for index, scores in enumerate(self._own_scores(scan)):
            (logits,) = scores
            yield index, logits

    def on_own_grid(self, logits: Float[Tensor, "b k height width"], scan: FramedScan) -> Integer[Tensor, "b h w"]:
        """The likeliest class of each pixel of the scan's own slices, ``(B, H, W)``."""
        pixels = self._own_pixels(scan)
        return torch.stack([pixels.likeliest([one[None]]) for one in logits])

    def on_model_grid(self, labels: Integer[Tensor, "b h w"], scan: FramedScan) -> Integer[Tensor, "b height width"]:
        """Class numbers of the scan's own slices, on the grid of the (first) network's logits."""
        grid = self._networks[0].grid(scan)
        matrices = field_matrices(scan.sides, torch.tensor([grid.sides]))
        return resample_labels(labels, matrices.expand(len(labels), -1, -1), grid.size)

    def _own_pixels(self, scan: FramedScan) -> OwnPixels:
        _, rows, columns = scan.own_shape
        grids = self._grids(scan)
        return OwnPixels((rows, columns), scan.sides, grids, device=self.device, slab_bytes=self._slab_bytes())

    def _grids(self, scan: FramedScan) -> list[LogitGrid]:
        """The different grids of the networks, in their order."""
        return list(dict.fromkeys(network.grid(scan) for network in self._networks))

    def _own_scores(self, scan: FramedScan, held: int = 0) -> Iterator[Scores]:
        """The scores of the scan's own slices, one by one.

        Args:
            scan: The scan.
            held: Bytes of main memory that the caller holds meanwhile.
        """
        choice = SliceChoice.of(scan.slices, scan.own_shape[0], self.every)
        return choice.interpolate(self._batches(scan, choice.centres, held))

    def _batches(self, scan: FramedScan, centres: Int[np.ndarray, " n"], held: int) -> Iterator[Scores]:
        """The networks' scores, batch by batch; the first window tells by the memory it takes how many may follow."""
        ready = [(network.grid(scan), network.begin(scan, self.batch_size)) for network in self._networks]
        with LiveTensors() as live:
            first = self._sum(ready, centres[:1])
        size = self._batch_size(scan, first, live.most_needed, held)
        yield first
        del first
        for start in range(1, len(centres), size):
            yield self._sum(ready, centres[start : start + size])

    @staticmethod
    def _sum(ready: Sequence[tuple[LogitGrid, Score]], centres: Int[np.ndarray, " b"]) -> Scores:
        """The sum of the networks' logits on each grid."""
        sums: dict[LogitGrid, Tensor] = {}
        for grid, score in ready:
            logits = score(centres)
            sums[grid] = sums[grid] + logits if grid in sums else logits
        return list(sums.values())

    def _batch_size(self, scan: FramedScan, scores: Scores, needed: int, held: int) -> int:
        """How many windows the memory allows at a time.

        Args:
            scan: The scan.
            scores: Of one slice.
            needed: Bytes that predicting a window takes.
            held: Bytes of main memory that are held besides.

        Raises:
            ConfigError: The memory that was given is too little for a single one.
        """
        moved = 0 if scan.moved is None else scan.moved.nbytes
        # the slice before the batch and one interpolated
        fixed = 2 * sum(part.nbytes for part in scores) + _SLABS_AT_ONCE * self._slab_bytes()
        fixed += held if self.device.type == "cpu" else moved
        budget = self._budget() + (moved if self.memory is None else 0)  # what was free before the scan was moved
        if self.memory is not None and fixed + needed > budget:
            raise ConfigError(
                "the memory is too little to predict with",
                expected=f"at least {(fixed + needed) / GIGABYTE:.2f} gigabytes for this scan",
                got=self.memory,
                remedy="give more, or leave it to the predictor",
            )
        return min(max((budget - fixed) // max(needed, 1), 1), self.batch_size)

    def _budget(self) -> int:
        return usual_budget(self.device) if self.memory is None else int(self.memory * GIGABYTE)

    def _slab_bytes(self) -> int:
        usual = _SLAB_BYTES.get(self.device.type, _SLAB_BYTES_ELSEWHERE)
        return usual if self.memory is None else min(usual, int(self.memory * GIGABYTE) // 16)


def _plan_of(model: Model) -> Plan:
    if model.plan is None:
        raise ModelError(
            "model has no plan, so scans can't be prepared for it",
            remedy="train it with inflate3d, or set model.plan",
        )
    return model.plan


def _check_mirrors(models: Sequence[Model]) -> None:
    if not any(any(_plan_of(model).flips) for model in models):
        raise ConfigError(
            "no mirror leaves the classes right, so there is nothing to average over",
            expected="a plan that allows mirrors",
            got=_plan_of(models[0]).reasons.get("flips"),
            remedy="predict without --tta",
        )
