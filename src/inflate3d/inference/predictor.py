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
from jaxtyping import Float, Integer
from torch import Tensor

from inflate3d.config import Precision
from inflate3d.errors import DataError, ModelError
from inflate3d.inference.accumulate import LogitGrid, OwnPixels, label_type
from inflate3d.inference.assessment import SLABS_MORE, AssessedLabels, Assessment
from inflate3d.inference.batches import SLABS, Batches, Budget
from inflate3d.inference.confidence import Kind
from inflate3d.inference.ensemble import check_agreement, find_models
from inflate3d.inference.mirrors import check_mirrors
from inflate3d.inference.networks import Network, network_of
from inflate3d.inference.scan import FramedScan
from inflate3d.inference.slices import Scores, SliceChoice
from inflate3d.models.segmenter import Segmenter, load_model
from inflate3d.models.volumetric import VolumetricSegmenter
from inflate3d.preparation.plan import Plan
from inflate3d.volume import Volume
from inflate3d.windows.resample import field_matrices, resample_labels

Model = Segmenter | VolumetricSegmenter


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
            check_mirrors([_plan_of(each) for each in models])
        self.batch_size, self.memory, self.every = batch_size, memory, every
        try:
            self.device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
            self.models = tuple(each.eval().to(self.device) for each in models)
        except (RuntimeError, AssertionError) as error:  # torch's, for names and for devices that are not there
            raise ModelError("device can't be used", expected="cpu, cuda, cuda:1, mps", got=device) from error
        self._budget = Budget(self.device, memory)
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
            The dataset's label values on the very grid of the scan, ``(I, J, K)``.

        Raises:
            DataError: Wrong number of modalities, or fewer slices than a window.
            MemoryBudgetError: The memory that was given is too little for this scan.
        """
        scan = self.frame(volume)
        values, labels = self._empty_labels(volume)
        framed = scan.orientation.apply(labels)  # a view
        pixels = self._own_pixels(scan)
        scores = self._own_scores(scan, held=labels.nbytes)
        for index in range(len(framed)):
            # by next, for a loop's variable would hold its batch while the one after it is computed
            framed[index] = values[pixels.likeliest(next(scores)).cpu().numpy()]
        return labels

    def predict_with_confidence(self, volume: Volume, *, with_uncertainty: bool = False) -> AssessedLabels:
        """Segments a scan, and tells how far the result can be trusted.

        The labels are those of `predict`. The confidence is the agreement of the networks where there are several,
        of a single inflated network's mirror images where it has them, and else the soft Dice of its own probabilities;
        see `inflate3d.inference.confidence`. Members are counted slab by slab, and never held as whole arrays.

        Args:
            volume: See `predict`.
            with_uncertainty: Whether to map the entropy, too.

        Raises:
            DataError: Wrong number of modalities, or fewer slices than a window.
            MemoryBudgetError: The memory that was given is too little for this scan.
        """
        scan = self.frame(volume)
        values, labels = self._empty_labels(volume)
        uncertainty = np.empty_like(volume.array[0], dtype=np.uint8) if with_uncertainty else None
        framed = scan.orientation.apply(labels)  # views
        mapped = None if uncertainty is None else scan.orientation.apply(uncertainty)
        kind, members = self._members()
        assessment = self._assessment(scan, kind, members)
        held = labels.nbytes + (0 if uncertainty is None else uncertainty.nbytes)
        scores = self._own_scores(scan, held=held, members=members, assessed=True)
        for index in range(len(framed)):
            classes, percent = assessment.add(next(scores), with_uncertainty=with_uncertainty)
            framed[index] = values[classes.cpu().numpy()]
            if mapped is not None and percent is not None:
                mapped[index] = percent.cpu().numpy()
        return AssessedLabels(labels, assessment.confidence(), uncertainty)

    def assess(self, scan: FramedScan) -> Assessment:
        """Takes what `slice_logits` gives to the scan's own pixels, and gathers the soft Dice of the result."""
        return self._assessment(scan, "soft dice", [])

    def frame(self, volume: Volume) -> FramedScan:
        """Brings a scan into the networks' frame, exactly as the store does for training.

        Raises:
            DataError: Wrong number of modalities, or fewer slices than a window.
        """
        room = self._budget.bytes // 2 if self.device.type == "cuda" else 0
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

    def on_model_grid(self, labels: Integer[Tensor, "b h w"], scan: FramedScan) -> Integer[Tensor, "b height width"]:
        """Class numbers of the scan's own slices, on the grid of the (first) network's logits."""
        grid = self._networks[0].grid(scan)
        matrices = field_matrices(scan.sides, torch.tensor([grid.sides]))
        return resample_labels(labels, matrices.expand(len(labels), -1, -1), grid.size)

    def _members(self) -> tuple[Kind, list[Network]]:
        """What is held against each other, if there are several: networks, or the mirror images of a single one."""
        if len(self._networks) > 1:
            return "networks", self._networks
        members: list[Network] = list(self._networks[0].members)
        return ("mirrors", members) if len(members) > 1 else ("soft dice", [])

    def _assessment(self, scan: FramedScan, kind: Kind, members: Sequence[Network]) -> Assessment:
        sums = self._grids(scan)
        return Assessment(
            self._own_pixels(scan, [*sums, *(member.grid(scan) for member in members)]),
            sums=len(sums),
            networks=len(self._networks),
            class_names=self.plan.class_names,
            members=len(members),
            kind=kind,
        )

    def _empty_labels(self, volume: Volume) -> tuple[Integer[np.ndarray, " classes"], Integer[np.ndarray, "i j k"]]:
        """The label value of each class, and room for those of a scan."""
        values = self.plan.label_values
        values = values.astype(label_type(values))
        return values, np.empty_like(volume.array[0], dtype=values.dtype)  # the file's order is quicker to write

    def _own_pixels(self, scan: FramedScan, grids: Sequence[LogitGrid] | None = None) -> OwnPixels:
        """The scan's pixels, for the grids of its scores if no others are given."""
        _, rows, columns = scan.own_shape
        return OwnPixels(
            (rows, columns),
            scan.sides,
            self._grids(scan) if grids is None else grids,
            device=self.device,
            slab_bytes=self._budget.slab_bytes,
        )

    def _grids(self, scan: FramedScan) -> list[LogitGrid]:
        """The different grids of the networks, in their order."""
        return list(dict.fromkeys(network.grid(scan) for network in self._networks))

    def _own_scores(
        self, scan: FramedScan, *, held: int = 0, members: Sequence[Network] = (), assessed: bool = False
    ) -> Iterator[Scores]:
        """The scores of the scan's own slices, one by one: the sum on each grid, then each member's.

        Args:
            scan: The scan.
            held: Bytes of main memory that the caller holds meanwhile.
            members: Whose logits the sum is of, to have each one's, too; only the networks' sums if not given.
            assessed: Whether the caller needs the memory for more than the likeliest class.
        """
        choice = SliceChoice.of(scan.slices, scan.own_shape[0], self.every)
        batches = Batches(
            members or self._networks,
            scan,
            batch_size=self.batch_size,
            budget=self._budget,
            held=held,
            slabs=SLABS + SLABS_MORE * assessed,
            apart=bool(members),
        )
        return choice.interpolate(batches.scores(choice.centers))


def _plan_of(model: Model) -> Plan:
    if model.plan is None:
        raise ModelError(
            "model has no plan, so scans can't be prepared for it",
            hint="train it with inflate3d, or set model.plan",
        )
    return model.plan
