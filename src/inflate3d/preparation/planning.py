"""Makes the plan: each choice from the fingerprint and the available memory, or as requested."""

from __future__ import annotations

import math
from collections.abc import Sequence

from inflate3d.datasets.case import Dataset
from inflate3d.datasets.classes import IGNORED
from inflate3d.errors import ConfigError, DataError
from inflate3d.orientation import DEPTH_AXES, DepthAxis, frame_axes
from inflate3d.preparation.dataset_warnings import is_ct
from inflate3d.preparation.fingerprint import Fingerprint, Intensities, merge_intensities
from inflate3d.preparation.flips import choose_flips
from inflate3d.preparation.plan import ModelSpace, Normalization, Plan, window_span
from inflate3d.preparation.plan_options import PlanOptions
from inflate3d.preparation.training_defaults import USUAL_DEPTH, USUAL_STRIDE, Memory, propose_training
from inflate3d.preparation.units import UnitsOfCases, choose_units
from inflate3d.units import SUV

SIZE_STEP = 32
"""The planned image size is a multiple of this; training adjusts it to the encoder."""
SMALLEST_SIZE, LARGEST_SIZE = 96, 512
ENLARGEMENT = 2.0
"""Slices below the smallest size are enlarged at least by this: patches of 14 or 16 pixels see little else."""


def make_plan(
    dataset: Dataset,
    fingerprint: Fingerprint,
    memory: Memory,
    options: PlanOptions = PlanOptions(),  # noqa: B008 - frozen
) -> Plan:
    """Decides how scans become windows.

    Args:
        dataset: The dataset with its chosen classes (see `PlanOptions.choose_classes`).
        memory: Memory available for training.
    """
    check_class_count(dataset)
    space, pixel_spacing, reasons = choose_model_space(
        dataset, fingerprint.median_spacing(), fingerprint.units, options
    )
    axis = space.depth_axis
    size, reasons["image_size"] = _image_size(fingerprint, axis, pixel_spacing, options)
    normalization, reasons["normalization"] = _normalization(dataset, fingerprint, space.units, options)
    flips, reasons["flips"] = _flips(dataset, axis, options)
    stride, reasons["stride"] = _stride(options)
    if missing := [case for case in dataset.cases if None in case.images]:
        reasons["allow_missing_modality"] = f"zeros replace the missing modalities of {len(missing)} cases"
    plan = Plan(
        **space.model_dump(),
        pixel_spacing=pixel_spacing,
        image_size=size,
        stride=stride,
        normalization=normalization,
        flips=flips,
        reasons=reasons,
    )
    defaults, why = propose_training(plan, fingerprint, memory)
    return plan.model_copy(update={"defaults": defaults, "reasons": reasons | why})


def plan_warnings(plan: Plan, fingerprint: Fingerprint) -> list[DataError]:
    """Warnings about a valid but unusual plan."""
    if plan.slice_spacing is None:
        return []
    world = DEPTH_AXES.index(plan.depth_axis)
    thinnest = min(fingerprint.cases, key=lambda case: plan.slice_count(case.shape[world], case.spacing[world]))
    slices, spacing = thinnest.shape[world], thinnest.spacing[world]
    left, needed = plan.slice_count(slices, spacing), window_span(USUAL_DEPTH, plan.stride)
    if left >= min(needed, slices):
        return []
    return [
        DataError(
            "few slices after resampling",
            expected=f"at least {needed} slices, for a window of {USUAL_DEPTH}",
            got=f"{left}: {slices} slices of {spacing:.3g} mm, resampled to {plan.slice_spacing:.3g} mm",
            hint=f"use a smaller first length of --spacing; the plan proposes --depth {plan.defaults.depth}",
            case=thinnest.case,
        )
    ]


def check_class_count(dataset: Dataset) -> None:
    """Rejects more classes than a byte can number."""
    if len(dataset.classes) > IGNORED:
        raise ConfigError(
            "too many classes",
            expected=f"at most {IGNORED}",
            got=len(dataset.classes),
            hint="choose some with --classes",
        )


def choose_model_space(
    dataset: Dataset, spacing: tuple[float, float, float] | None, units: UnitsOfCases, options: PlanOptions
) -> tuple[ModelSpace, tuple[float, float] | None, dict[str, str]]:
    """Decides what must be known before a case is stored.

    Args:
        spacing: Median spacing in millimeters along the RAS+ axes; may be None unless
            `PlanOptions.needs_median_spacing`.
        units: Of the cases that could be read.

    Returns:
        Model space, the spacing of its pixels (None for each scan's own), and the reasons.
    """
    axis, why_axis = _depth_axis(spacing, options)
    slice_spacing, pixel_spacing, why_spacing = _spacing(spacing, axis, options)
    chosen_units, why_units = choose_units(dataset, units)
    space = ModelSpace(
        dataset=dataset.name,
        modalities=dataset.modalities,
        classes=dataset.classes,
        merged=dict(dataset.merged),
        ignore=dataset.ignore,
        allow_missing_modality=options.allow_missing_modality,
        depth_axis=axis,
        slice_spacing=slice_spacing,
        structures=dict(dataset.structures),
        codes={
            name: code for name, code in dataset.codes.items() if name in {*dataset.classes.values(), *dataset.targets}
        },
        regions=dataset.regions,
        units=chosen_units,
    )
    reasons = {"depth_axis": why_axis, "spacing": why_spacing} | ({"units": why_units} if chosen_units else {})
    return space, pixel_spacing, reasons


def thickest_axis(spacing: tuple[float, float, float]) -> DepthAxis:
    """The axis with the largest spacing; the last of equal ones, axial.

    Args:
        spacing: Millimeters along the RAS+ axes.
    """
    # scanners round, so one per cent is a tie
    return DEPTH_AXES[max(axis for axis in range(3) if spacing[axis] >= 0.99 * max(spacing))]


def _depth_axis(spacing: tuple[float, float, float] | None, options: PlanOptions) -> tuple[DepthAxis, str]:
    if options.depth_axis is not None:
        return options.depth_axis, f"{options.depth_axis}, as requested"
    assert spacing is not None
    axis = thickest_axis(spacing)
    sides = " × ".join(f"{side:.3g}" for side in spacing)
    return axis, f"{axis}: median spacing is {sides} mm (left-right, back-front, down-up)"


def _spacing(
    median: tuple[float, float, float] | None, axis: DepthAxis, options: PlanOptions
) -> tuple[float | None, tuple[float, float] | None, str]:
    if options.spacing == "own":
        return None, None, "the scans' own slices, as in the paper; each is stretched to fill the image"
    if options.spacing == "median":
        assert median is not None
        through, rows, columns = (median[world] for world in frame_axes(axis))
        why = "the median of the cases, as requested"
    else:
        through, rows, columns = options.spacing
        why = "as requested"
    return through, (rows, columns), f"{through:.3g} × {rows:.3g} × {columns:.3g} mm (slices, rows, columns), {why}"


def _stride(options: PlanOptions) -> tuple[int, str]:
    if options.stride is None:
        return USUAL_STRIDE, "neighboring slices, which did best in the paper's ablation"
    if options.stride == 1:
        return 1, "neighboring slices, as requested"
    return options.stride, f"every {_ordinal(options.stride)} slice, as requested"


def _ordinal(number: int) -> str:
    if number == 2:
        return "second"
    ending = "th" if number % 100 in (11, 12, 13) else {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th")
    return f"{number}{ending}"


def _image_size(
    fingerprint: Fingerprint, axis: DepthAxis, pixel_spacing: tuple[float, float] | None, options: PlanOptions
) -> tuple[tuple[int, int], str]:
    if options.planned_size is not None:
        rows, columns = options.planned_size
        return (rows, columns), f"{rows}×{columns}, as requested"
    in_plane = frame_axes(axis)[1:]
    if pixel_spacing is not None:
        needed = max(
            case.shape[world] * case.spacing[world] / side
            for case in fingerprint.cases
            for world, side in zip(in_plane, pixel_spacing, strict=True)
        )
        side = _round_up(needed)
        why = "holds the largest slice" if needed <= LARGEST_SIZE else "the most; larger slices are scaled down"
        return (side, side), f"{side}×{side} pixels of {pixel_spacing[0]:.3g}×{pixel_spacing[1]:.3g} mm: {why}"
    shape = fingerprint.median_shape()
    rows, columns = (shape[world] for world in in_plane)
    longest = max(rows, columns)
    side = _round_up(longest if longest >= SMALLEST_SIZE else longest * ENLARGEMENT)
    why = f"the median slice has {rows:.0f}×{columns:.0f} pixels"
    return (side, side), f"{side}×{side}: {why}" + ("" if rows == columns else ", and is stretched to a square")


def _round_up(pixels: float) -> int:
    return SIZE_STEP * math.ceil(min(max(pixels, SMALLEST_SIZE), LARGEST_SIZE) / SIZE_STEP - 1e-9)


def _normalization(
    dataset: Dataset, fingerprint: Fingerprint, units: Sequence[str], options: PlanOptions
) -> tuple[tuple[Normalization, ...], str]:
    if options.clip is not None:
        low, high = options.clip
        rule = Normalization(kind="clip", low=low, high=high)
        return (rule,) * len(dataset.modalities), f"{low:g} to {high:g}, as requested"
    chosen, why = [], []
    for index, modality in enumerate(dataset.modalities):
        inside = [case.foreground[index] for case in fingerprint.cases if case.foreground and index not in case.missing]
        if is_ct(modality) and inside:
            low, high = _range_of(merge_intensities(inside))
            chosen.append(Normalization(kind="clip", low=low, high=high))
            why.append(
                f"{modality} in Hounsfield units: {low:g} to {high:g}, the 0.5th to 99.5th percentile of labeled voxels"
            )
        elif units and units[index] == SUV and inside and (high := _range_of(merge_intensities(inside))[1]) > 0:
            chosen.append(Normalization(kind="clip", low=0.0, high=high))
            why.append(f"{modality} in {SUV}: 0 to {high:g}, the 99.5th percentile of labeled voxels")
        else:
            chosen.append(Normalization(kind="case"))
            units = "shows no labeled voxels" if is_ct(modality) else "has units of its own"
            why.append(f"{modality} {units}: each case by its 0.5th to 99.5th percentile")
    return tuple(chosen), "; ".join(why)


def _range_of(tissue: Intensities) -> tuple[float, float]:
    """The labeled tissue's range of values, as nnU-Net clips CT: a wider range would reduce its contrast."""
    low, high = tissue.percentile_00_5, tissue.percentile_99_5
    width = high - low
    if width <= 0:
        return low - 1.0, high + 1.0
    digits = max(1, 2 - math.floor(math.log10(width)))  # of Hounsfield units one; more where a CT has been scaled
    return round(low, digits), round(high, digits)


def _flips(dataset: Dataset, axis: DepthAxis, options: PlanOptions) -> tuple[tuple[bool, bool, bool], str]:
    if options.flips is not None:
        wanted = options.flips
        return (wanted, wanted, wanted), f"{'allowed' if wanted else 'forbidden'}, as requested"
    return choose_flips(list(dataset.targets), [DEPTH_AXES[world] for world in frame_axes(axis)])
