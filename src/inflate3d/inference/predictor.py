"""Predicts a scan in memory that does not grow with the number of classes or the depth.

Inflated networks are applied slice by slice, without an array of classes x voxels except for averages over planes (see
`inflate3d.inference.planes`). Logits are averaged over flips and networks, as nnU-Net does over its folds
(``nnUNetPredictor.predict_logits_from_preprocessed_data``). Networks with the same in-plane grid are averaged there,
others on the scan's own pixels: resampling is linear, so the result is the same, and the first is cheaper.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TypedDict, Unpack

import numpy as np
from jaxtyping import Integer
from torch import Tensor

from inflate3d.config import Precision, Runtime, Schedule
from inflate3d.errors import DataError
from inflate3d.inference.depth_filter import depth_kernel, filter_depth, slices_in_memory
from inflate3d.inference.ensemble import check_agreement, find_models, plan_of
from inflate3d.inference.flips import check_flips
from inflate3d.inference.memory import Budget
from inflate3d.inference.networks import LogitGrid, SliceScorer, make_scorer
from inflate3d.inference.outputs import outputs_of
from inflate3d.inference.planes import PlaneAverage
from inflate3d.inference.prediction import ModelGridClasses, Prediction
from inflate3d.inference.prediction_arrays import PredictionArrays
from inflate3d.inference.runtime import with_runtime
from inflate3d.inference.scan import FramedScan
from inflate3d.inference.scan_warnings import log_warnings as log_all
from inflate3d.inference.scan_warnings import scan_warnings
from inflate3d.inference.schedule import GROUP, adaptive_logits, check_schedule, first_pass_step
from inflate3d.inference.slices import BANDS, Logits, OwnPixels, SliceBatches, SliceChoice
from inflate3d.inference.uncertainty import ASSESSMENT_BANDS, Assessment, Kind
from inflate3d.models.default_type import float32_by_default
from inflate3d.models.hub import local_model
from inflate3d.models.segmenter import Segmenter, load_model
from inflate3d.models.volumetric import VolumetricSegmenter
from inflate3d.orientation import plane_turns
from inflate3d.preparation.model_space import ModelSpaceScan, to_model_space
from inflate3d.preparation.plan import Plan
from inflate3d.resources import find_device, warn_of_slow_precision
from inflate3d.volume import Volume, check_volume

Model = Segmenter | VolumetricSegmenter


class PredictorSettings(TypedDict, total=False):
    """How to predict: the keyword arguments of `Predictor`."""

    device: str | None
    batch_size: int
    memory: float | None
    flips: bool
    slice_step: int
    schedule: Schedule
    precision: Precision
    runtime: Runtime


class Predictor:
    """Segments scans with a trained network, or with the average of several.

    Args:
        model: A network with its plan, or several that have the same classes, modalities, depth axis, slice spacing and
            planes.
        device: The device, such as ``"cpu"`` or ``"cuda:1"``; by default the GPU if there is one.
        batch_size: Maximum number of windows at a time, fewer if memory is short; for a 3D network, an eighth as many
            patches.
        memory: Memory limit of a prediction in gigabytes, in addition to the weights and the scan; on a GPU, the limit
            of its memory, scan included. Default: 1.5, or less if less is free; on a GPU nine tenths of the free
            memory. Averaging over planes needs another array of classes x voxels. 3D networks have no limit.
        flips: Whether to average over the flips that the plan allows (test-time augmentation).
        slice_step: Predict every n-th slice, and interpolate the logits of the others.
        schedule: ``"full"`` predicts all slices. ``"adaptive"`` first predicts every n-th slice, and then those between
            two of them unless both hold background only; ``n`` depends on the thinnest structure of the training cases.
        precision: Number format of the network; mixed formats are faster if the device supports them, and change some
            labels.
        runtime: Program that computes the networks: ``"torch"``; on a CPU also ``"onnxruntime"`` or ``"openvino"``
            (extra ``export``), for which each network is first exported. ``"auto"`` uses the fastest installed one
            whose logits match torch's.

    Raises:
        ModelError: A network has no plan, the networks do not match, or the runtime's logits differ from torch's.
        ConfigError: The device is invalid or not available, the plan allows no flip, or the runtime is not installed.

    Examples:
        >>> import inflate3d as i3d
        >>> predictor = Predictor.load("runs/Liver", device="cpu")
        >>> prediction = predictor.predict(i3d.read_volume("new_scan.nii.gz"), confidence=True)
        >>> prediction.labels.shape
        (20, 24, 7)
    """

    def __init__(
        self,
        model: Model | Sequence[Model],
        *,
        device: str | None = None,
        batch_size: int = 16,
        memory: float | None = None,
        flips: bool = False,
        slice_step: int = 1,
        schedule: Schedule = "full",
        precision: Precision = "32",
        runtime: Runtime = "torch",
    ) -> None:
        models = list(model) if isinstance(model, Sequence) else [model]
        check_agreement([plan_of(each) for each in models])
        if flips:
            check_flips([plan_of(each) for each in models])
        if schedule == "adaptive":
            check_schedule(models, slice_step)
        self.batch_size, self.memory, self.slice_step, self.schedule = batch_size, memory, slice_step, schedule
        self.device = find_device(device)
        warn_of_slow_precision(precision, self.device)
        models = with_runtime([each.eval() for each in models], runtime, self.device, precision)
        self.models = tuple(each.to(self.device) for each in models)
        self._budget = Budget(self.device, memory)
        planes = zip(*(plan_of(each).plane_plans for each in self.models), strict=True)
        self._planes: list[list[SliceScorer]] = [
            [
                make_scorer(each, plan, flips=flips, precision=precision)
                for each, plan in zip(self.models, plans, strict=True)
            ]
            for plans in planes
        ]
        self._scorers = self._planes[0]
        self._outputs = outputs_of(self.plan)

    @classmethod
    def load(
        cls, folder: str | Path, *, ensemble: Sequence[str | Path] = (), **settings: Unpack[PredictorSettings]
    ) -> Predictor:
        """Loads a run's folder, a model folder, or a folder of these (folds), whose networks are averaged.

        Args:
            folder: The folder, or ``"hf://user/name@revision"`` for a model on the Hugging Face hub.
            ensemble: More folders of models to average with.
            **settings: See `Predictor`.

        Raises:
            ModelError: There is no model, it can't be loaded, or models do not match.
            ConfigError: The device is invalid or not available, or the plan allows no flip.
        """
        folders = [model for each in (folder, *ensemble) for model in find_models(local_model(each))]
        models = [load_model(model) for model in folders]
        check_agreement([plan_of(model) for model in models], folders)
        return cls(models, **settings)

    @property
    def plan(self) -> Plan:
        """The first network's plan; all networks need the same kind of scans."""
        plans = [plan_of(each) for each in self.models]
        missing = all(plan.allow_missing_modality for plan in plans)
        return plans[0].model_copy(update={"allow_missing_modality": missing})

    @float32_by_default()
    def predict(
        self,
        volume: Volume,
        *,
        confidence: bool = False,
        uncertainty: bool = False,
        class_scores: bool = False,
        model_grid: bool = False,
        depth_filter: float = 0.0,
        other_filters: Sequence[float] = (),
        log_warnings: bool = True,
    ) -> Prediction:
        """Segments a scan.

        The confidence is the agreement of the planes if there are several, otherwise of the networks, otherwise of the
        flips of a single inflated network, and otherwise the soft Dice of its probabilities; see
        `inflate3d.inference.uncertainty`.

        Args:
            volume: ``(C, I, J, K)`` in any orientation, with its affine.
            confidence: Whether to compute the confidence of the labels.
            uncertainty: Whether to compute the entropy of each voxel.
            class_scores: Whether to return the mean probabilities of all classes (or regions), an array of classes x
                voxels.
            model_grid: Whether to also return the classes on the grid of the first network's logits.
            depth_filter: Standard deviation in millimeters of a Gaussian filter of the logits along the depth; 0 for
                none. `inflate3d evaluate` chooses it for a model, see `Postprocessing`.
            other_filters: Further depth filters, to get the labels for each.
            log_warnings: Whether to log what is unusual about the scan to ``logging.getLogger("inflate3d")``; it is in
                the prediction's ``warnings`` in any case.

        Returns:
            The prediction, on the grid of the scan.

        Raises:
            DataError: Wrong number of modalities, or fewer slices than a window.
            MemoryBudgetError: The memory budget is too small for this scan, or for a filter of this width.
        """
        check_volume(volume)
        scan = self._to_model_space(volume)
        warnings = tuple(scan_warnings(volume, self.plan))
        if log_warnings:
            log_all(warnings)
        assessed = confidence or uncertainty or class_scores
        arrays = PredictionArrays(volume, scan, self.plan, uncertainty=uncertainty, class_scores=class_scores)
        others = [PredictionArrays(volume, scan, self.plan) for _ in other_filters]
        held = sum(each.nbytes for each in (arrays, *others))
        deviations = (depth_filter, *other_filters)
        kernels = [depth_kernel(each, scan.slice_spacing, scan.own_shape[0]) for each in deviations]
        kind, members = self._members() if assessed else ("soft dice", [])
        average = self._average(scan, held=held, kept=slices_in_memory(kernels), compare=confidence)
        grids = [average.grid] if average else self._grids(scan)
        pixels = self._own_pixels(scan, [*grids, *(member.grid(scan) for member in members)])
        assessment = (
            Assessment(
                pixels,
                sums=len(grids),
                networks=1 if average else len(self.models),
                members=len(members),
                kind=kind,
            )
            if assessed
            else None
        )
        on_grid = np.empty((scan.own_shape[0], *grids[0].size), arrays.labels.dtype) if model_grid else None
        if average:
            slices = average.logits()
        else:
            slices = self._slice_logits(
                scan, held=held, members=members, assessed=assessed, kept=slices_in_memory(kernels)
            )
        filtered = filter_depth(slices, kernels)
        for index in range(scan.own_shape[0]):
            logits, *rest = next(filtered)  # a for loop's variable would keep the batch while the next one is computed
            for each, other in zip(others, rest, strict=True):
                each.add(index, pixels.classes(other[: len(grids)]))
            if on_grid is not None:
                on_grid[index] = self._outputs.choose(logits[0][0]).cpu().numpy()
            if assessment is None:
                arrays.add(index, pixels.classes(logits))
            else:
                arrays.add(index, *assessment.add(logits, uncertainty=uncertainty, probabilities=class_scores))
            del logits, rest
        height, width = scan.sides[0].tolist()
        return Prediction(
            arrays.labels,
            volume.affine,
            confidence=(replace(average.confidence(), soft=assessment.soft()) if average else assessment.confidence())
            if assessment and confidence
            else None,
            uncertainty=arrays.uncertainty,
            class_scores=arrays.class_scores,
            model_grid=None
            if on_grid is None
            else ModelGridClasses(on_grid, scan.orientation, grids[0], (height, width)),
            other_labels=tuple(each.labels for each in others),
            segments=self.plan.segments,
            targets=self.plan.targets,
            warnings=warnings,
        )

    def classes(self, scan: ModelSpaceScan) -> Iterator[Integer[Tensor, "h w"]]:
        """Yields the class numbers of a model-space scan, slice by slice; the same as those of `predict`.

        Args:
            scan: A scan from `to_model_space` or from a store.

        Raises:
            DataError: Fewer slices than a window.
            MemoryBudgetError: The memory budget is too small for this scan.
        """
        framed = self._frame(scan)
        average = self._average(framed)
        pixels = self._own_pixels(framed, [average.grid] if average else self._grids(framed))
        return (pixels.classes(logits) for logits in (average.logits() if average else self._slice_logits(framed)))

    def _to_model_space(self, volume: Volume) -> FramedScan:
        return self._frame(to_model_space(volume, self.plan))

    def _frame(self, own: ModelSpaceScan) -> FramedScan:
        room = self._budget.bytes // 2 if self.device.type == "cuda" else 0
        scan = FramedScan.of(own, self.device, room=room)
        needed = max(scorer.fewest_slices for scorer in self._scorers)
        lengths = (scan.slices, *scan.own_shape[1:])
        for slices, plan in zip(lengths, self.plan.plane_plans, strict=False):
            if slices < needed:
                raise DataError(
                    "scan has fewer slices than the model's window",
                    expected=f"at least {needed} slices along the {plan.depth_axis} direction",
                    got=f"{slices} slices",
                )
        return scan

    def _members(self) -> tuple[Kind, list[SliceScorer]]:
        """The members whose agreement is the confidence: networks, or the flips of a single one, but not planes."""
        if len(self._planes) > 1:
            return "planes", []
        if len(self._scorers) > 1:
            return "networks", self._scorers
        members: list[SliceScorer] = list(self._scorers[0].members)
        return ("flips", members) if len(members) > 1 else ("soft dice", [])

    def _own_pixels(self, scan: FramedScan, grids: Sequence[LogitGrid]) -> OwnPixels:
        _, rows, columns = scan.own_shape
        band_bytes = self._budget.band_bytes
        return OwnPixels((rows, columns), scan.sides, grids, self._outputs, device=self.device, band_bytes=band_bytes)

    def _average(self, scan: FramedScan, *, held: int = 0, kept: int = 0, compare: bool = False) -> PlaneAverage | None:
        """The scan's probabilities averaged over planes; None if there is only one plane.

        Args:
            scan: The scan.
            held: Bytes of main memory that the caller uses at the same time.
            kept: Number of slices whose logits the caller keeps.
            compare: Whether the planes' agreement is wanted.
        """
        if len(self._planes) == 1:
            return None
        slices, rows, columns = scan.own_shape
        budget = self._budget.reserve(4 * self._outputs.count * (slices + kept) * rows * columns)
        average = PlaneAverage(scan, self._outputs, compare=compare)
        held += len(self._planes) * math.prod(scan.own_shape) * compare
        for scorers, turn in zip(self._planes, plane_turns(self.plan.depth_axis), strict=True):
            turned = scan.along(turn)
            copied = turned.scan.voxels.nbytes * scan.scan.is_resampled
            slices = self._slice_logits(turned, scorers=scorers, held=held + copied, assessed=True, budget=budget)
            average.add(slices, self._own_pixels(turned, self._grids(turned, scorers)), turn, len(scorers))
        return average

    def _grids(self, scan: FramedScan, scorers: Sequence[SliceScorer] = ()) -> list[LogitGrid]:
        """The distinct grids of the networks, in order."""
        return list(dict.fromkeys(scorer.grid(scan) for scorer in scorers or self._scorers))

    def _slice_logits(
        self,
        scan: FramedScan,
        *,
        scorers: Sequence[SliceScorer] = (),
        held: int = 0,
        members: Sequence[SliceScorer] = (),
        assessed: bool = False,
        kept: int = 0,
        budget: Budget | None = None,
    ) -> Iterator[Logits]:
        """The logits of the scan's own slices, one by one: the sum on each grid, then each member's.

        Args:
            scan: The scan.
            scorers: The networks along a plane; without, along the plan's depth axis.
            held: Bytes of main memory that the caller uses at the same time.
            members: The scorers whose logits the sum is of, to get each one's, too; without, the networks' sums alone.
            assessed: Whether the caller needs memory for more than the most likely class.
            kept: Number of slices whose logits the caller keeps.
            budget: What the prediction may take, if less than the predictor's.
        """
        choice = SliceChoice.of(scan.slices, scan.own_shape[0], self.slice_step)
        batches = SliceBatches(
            members or scorers or self._scorers,
            scan,
            batch_size=self.batch_size,
            budget=budget or self._budget,
            held=held,
            bands=BANDS + ASSESSMENT_BANDS * assessed,
            kept=kept + 2 * GROUP * (self.schedule == "adaptive"),
            separate=bool(members),
        )
        if self.schedule == "full":
            return choice.interpolate(batches.logits(choice.centers))
        step = min(first_pass_step(each.plan, scan) for each in scorers or self._scorers)
        return choice.interpolate(adaptive_logits(batches.logits, scan.slices, step, self._outputs.are_background))
