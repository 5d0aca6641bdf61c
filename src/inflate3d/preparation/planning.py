"""Making the plan: each choice from the fingerprint and the memory at hand, or as the user wants it."""

from __future__ import annotations

import math
import re
from typing import Literal

from pydantic import Field

from inflate3d.config import FrozenModel, Proposals
from inflate3d.datasets.case import Dataset
from inflate3d.datasets.classes import choose_classes
from inflate3d.errors import ConfigError
from inflate3d.preparation.doubts import is_ct
from inflate3d.preparation.fingerprint import Fingerprint, merge_intensities
from inflate3d.preparation.memory import Memory
from inflate3d.preparation.plan import IGNORED, Normalisation, Plan, window_span
from inflate3d.volume import DEPTH_AXES, DepthAxis

SIZE_STEP = 32
"""The planned image size is a multiple of this; training moves it to the encoder's own step."""
SMALLEST_SIZE, LARGEST_SIZE = 96, 512
ENLARGEMENT = 2.0
"""Slices smaller than the smallest size are enlarged at least so much: patches of 14 or 16 pixels see little else."""

USUAL_DEPTH = 5
"""Slices in a window; the paper's ablation found 5 best (84.74 %, 1 slice 83.34 %, 11 slices 83.83 % on BCV)."""

USUAL_BATCH = 16
"""Windows to a step, as in the paper."""
WINDOW_BYTES_PER_PIXEL = 8_000
"""Memory of a window in training: 3,900 to 5,700 bytes are saved for the backward pass (float32; ViT-B, Swin-B and
ConvNeXt-B with the default decoder, from 224² to 512²), and as much again is workspace."""
FIXED_BYTES = 2 * 2**30
"""Weights, gradients and optimizer state of a base-sized network, and the libraries."""

PASSES = 10
"""How often the proposed training sees every slice."""
FEWEST_STEPS, MOST_STEPS = 1_000, 25_000
"""The paper trains for 25,000 steps."""

RARE_SHARE = 0.05
"""A class in a smaller part of the slices is rare, and more windows are drawn by class."""

OPPOSITES: dict[DepthAxis, frozenset[str]] = {
    "sagittal": frozenset({"left", "right", "l", "r", "lt", "rt"}),
    "coronal": frozenset({"anterior", "posterior", "ventral", "dorsal"}),
    "axial": frozenset({"superior", "inferior", "upper", "lower", "cranial", "caudal"}),
}
"""Words in class names that a mirror along the axis would make wrong."""


class PlanOptions(FrozenModel):
    """What the user knows better than the plan."""

    depth_axis: DepthAxis | None = None
    """Direction along which slices are stacked; the one of largest spacing if not given."""
    planned_size: tuple[int, int] | None = None
    """In-plane size in pixels (rows, columns) to plan for; from the median slice if not given."""
    spacing: Literal["own", "median"] | tuple[float, float, float] = "own"
    """Millimetres between slices, rows and columns to resample to; own keeps slices and fills the image with each."""
    stride: int | None = Field(default=None, ge=1)
    """Steps from one slice of a window to the next; 1, neighbours, if not given."""
    clip: tuple[float, float] | None = None
    """Voxel values that become 0 and 1 in every case; by modality if not given."""
    flips: bool | None = None
    """Whether windows may be mirrored; from the class names if not given."""
    classes: tuple[str, ...] = ()
    """Classes to learn, by name or value, the others count as background; all if not given."""
    merge: tuple[str, ...] = ()
    """Joins of classes, each like kidneys=2+3 or "kidneys=left kidney+right kidney"."""
    ignore: str | None = None
    """Class or label value of voxels that are neither learned from nor scored."""
    allow_missing_modality: bool = False
    """Let zeros stand in for modalities that a case lacks."""

    def choose_classes(self, dataset: Dataset) -> Dataset:
        """The data set with the classes that these options want.

        Raises:
            ConfigError: A class is not there, or a join has the wrong form.
        """
        return choose_classes(dataset, keep=self.classes, merge=self.merge, ignore=self.ignore)


def make_plan(
    dataset: Dataset,
    fingerprint: Fingerprint,
    memory: Memory,
    options: PlanOptions = PlanOptions(),  # noqa: B008 - frozen
) -> Plan:
    """Decides how scans become windows.

    Args:
        dataset: Names, modalities and classes, chosen already (see `PlanOptions.choose_classes`).
        fingerprint: What its cases are like.
        memory: What a training has room in.
        options: What the user knows better.

    Raises:
        ConfigError: An option can't be used.
    """
    _check(dataset, options)
    reasons: dict[str, str] = {}
    axis, reasons["depth_axis"] = _depth_axis(fingerprint, options)
    slice_spacing, pixel_spacing, reasons["spacing"] = _spacing(fingerprint, axis, options)
    size, reasons["image_size"] = _image_size(fingerprint, axis, pixel_spacing, options)
    normalisation, reasons["normalisation"] = _normalisation(dataset, fingerprint, options)
    flips, reasons["flips"] = _flips(dataset, axis, options)
    reasons["stride"] = "neighbouring slices, best in the paper's ablation"
    if options.stride is not None:
        reasons["stride"] = f"every {options.stride}. slice, as asked for"
    if missing := [case for case in dataset.cases if None in case.images]:
        reasons["allow_missing_modality"] = f"zeros stand in for what {len(missing)} cases lack"
    plan = Plan(
        dataset=dataset.name,
        modalities=dataset.modalities,
        classes=dataset.classes,
        merged=dict(dataset.merged),
        ignore=dataset.ignore,
        allow_missing_modality=options.allow_missing_modality,
        depth_axis=axis,
        slice_spacing=slice_spacing,
        pixel_spacing=pixel_spacing,
        image_size=size,
        stride=options.stride or 1,
        normalisation=normalisation,
        flips=flips,
        reasons=reasons,
    )
    proposals, why = _proposals(plan, fingerprint, memory)
    return plan.model_copy(update={"proposals": proposals, "reasons": reasons | why})


def _check(dataset: Dataset, options: PlanOptions) -> None:
    if len(dataset.classes) > IGNORED:
        raise ConfigError(
            "too many classes",
            expected=f"at most {IGNORED}",
            got=len(dataset.classes),
            remedy="choose some by --classes",
        )
    if options.clip is not None and not options.clip[0] < options.clip[1]:
        raise ConfigError("clip is not a range", expected="low < high", got=f"{options.clip[0]} {options.clip[1]}")
    if not isinstance(options.spacing, str) and min(options.spacing) <= 0:
        raise ConfigError("spacing is not a length", expected="three numbers above 0, mm", got=options.spacing)


def _depth_axis(fingerprint: Fingerprint, options: PlanOptions) -> tuple[DepthAxis, str]:
    if options.depth_axis is not None:
        return options.depth_axis, f"{options.depth_axis}, as asked for"
    spacing = fingerprint.median_spacing()
    # Ties go to the last, axial; scanners round, so one per cent is a tie.
    axis = DEPTH_AXES[max(axis for axis in range(3) if spacing[axis] >= 0.99 * max(spacing))]
    sides = " × ".join(f"{side:.3g}" for side in spacing)
    return axis, f"{axis}: median spacing is {sides} mm (left-right, back-front, down-up)"


def _frame_axes(axis: DepthAxis) -> list[int]:
    """World axes of the frame's depth, rows and columns."""
    depth = DEPTH_AXES.index(axis)
    return [depth, *(world for world in range(3) if world != depth)]


def _spacing(
    fingerprint: Fingerprint, axis: DepthAxis, options: PlanOptions
) -> tuple[float | None, tuple[float, float] | None, str]:
    if options.spacing == "own":
        return None, None, "the scans' own slices, as in the paper; each slice fills the image"
    if options.spacing == "median":
        median = fingerprint.median_spacing()
        through, rows, columns = (median[world] for world in _frame_axes(axis))
        why = "the median of the cases, as asked for"
    else:
        through, rows, columns = options.spacing
        why = "as asked for"
    return through, (rows, columns), f"{through:.3g} × {rows:.3g} × {columns:.3g} mm (slices, rows, columns), {why}"


def _image_size(
    fingerprint: Fingerprint, axis: DepthAxis, pixel_spacing: tuple[float, float] | None, options: PlanOptions
) -> tuple[tuple[int, int], str]:
    if options.planned_size is not None:
        rows, columns = options.planned_size
        return (rows, columns), f"{rows}×{columns}, as asked for"
    in_plane = _frame_axes(axis)[1:]
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
    return (side, side), f"{side}×{side}: the median slice has {rows:.0f}×{columns:.0f} pixels"


def _round_up(pixels: float) -> int:
    return SIZE_STEP * math.ceil(min(max(pixels, SMALLEST_SIZE), LARGEST_SIZE) / SIZE_STEP - 1e-9)


def _normalisation(
    dataset: Dataset, fingerprint: Fingerprint, options: PlanOptions
) -> tuple[tuple[Normalisation, ...], str]:
    if options.clip is not None:
        low, high = options.clip
        rule = Normalisation(kind="clip", low=low, high=high)
        return (rule,) * len(dataset.modalities), f"{low:g} to {high:g}, as asked for"
    chosen, why = [], []
    for index, modality in enumerate(dataset.modalities):
        inside = [case.foreground[index] for case in fingerprint.cases if case.foreground and index not in case.missing]
        if is_ct(modality) and inside:
            typical = merge_intensities(inside)
            # The labelled tissue, and as much again on both sides, so that its surroundings stay visible.
            margin = 0.5 * (typical.percentile_99_5 - typical.percentile_00_5)
            low, high = round(typical.percentile_00_5 - margin, 1), round(typical.percentile_99_5 + margin, 1)
            chosen.append(Normalisation(kind="clip", low=low, high=high))
            why.append(f"{modality} is CT: {low:g} to {high:g} HU, round the labelled voxels' values")
        else:
            chosen.append(Normalisation(kind="case"))
            why.append(f"{modality} is not CT: each case by its own 0.5th to 99.5th percentile")
    return tuple(chosen), "; ".join(why)


def _flips(dataset: Dataset, axis: DepthAxis, options: PlanOptions) -> tuple[tuple[bool, bool, bool], str]:
    if options.flips is not None:
        wanted = options.flips
        return (wanted, wanted, wanted), f"{'allowed' if wanted else 'forbidden'}, as asked for"
    words = {word for name in dataset.classes.values() for word in re.findall(r"[a-z]+", name.lower())}
    named = {direction: sorted(words & opposites) for direction, opposites in OPPOSITES.items()}
    if named["sagittal"]:
        # A mirror along any axis turns left into right, however the patient then lies.
        return (False, False, False), f"none: a class name says {' and '.join(named['sagittal'])}"
    frame = [DEPTH_AXES[world] for world in _frame_axes(axis)]
    first, second, third = (not named[direction] for direction in frame)
    forbidden = [f"not {d} (a class name says {' and '.join(named[d])})" for d in frame if named[d]]
    return (first, second, third), "; ".join(["along axes whose ends no class name tells apart", *forbidden])


def _proposals(plan: Plan, fingerprint: Fingerprint, memory: Memory) -> tuple[Proposals, dict[str, str]]:
    world = DEPTH_AXES.index(plan.depth_axis)
    slices = [plan.slice_count(case.shape[world], case.spacing[world]) for case in fingerprint.cases]
    why: dict[str, str] = {}
    depth, why["depth"] = _depth(min(slices), plan.stride)
    batch, accumulate, why["batch_size"] = _batch_size(plan.image_size, memory)
    fraction, why["foreground_fraction"] = _foreground_fraction(fingerprint, plan, world)
    steps, why["steps"] = _steps(sum(slices), batch * accumulate)
    proposals = Proposals(
        depth=depth, batch_size=batch, accumulate=accumulate, foreground_fraction=fraction, steps=steps
    )
    return proposals, why


def _depth(thinnest: int, stride: int) -> tuple[int, str]:
    depth = USUAL_DEPTH
    while depth > 1 and window_span(depth, stride) > thinnest:
        depth -= 2
    why = "as in the paper" if depth == USUAL_DEPTH else f"the thinnest scan has {thinnest}"
    return depth, f"{depth} slices, {why}"


def _batch_size(size: tuple[int, int], memory: Memory) -> tuple[int, int, str]:
    window = WINDOW_BYTES_PER_PIXEL * size[0] * size[1]
    room = max(2, int((memory.usable - FIXED_BYTES) / window))
    batch = min(USUAL_BATCH, 2 ** int(math.log2(room)))
    accumulate = USUAL_BATCH // batch
    told = f"{batch} windows: {memory.usable / 2**30:.0f} GiB of {memory.where}, about {window / 2**30:.1f} a window"
    return batch, accumulate, told + (f"; gradients of {accumulate} batches are added up" if accumulate > 1 else "")


def _foreground_fraction(fingerprint: Fingerprint, plan: Plan, world: int) -> tuple[float, str]:
    shares = fingerprint.slice_share(world)
    rarest = min((value for value in plan.classes if value), key=lambda value: shares.get(value, 0.0))
    share = shares.get(rarest, 0.0)
    fraction, part = (0.5, "half") if share >= RARE_SHARE else (0.67, "two thirds")
    return fraction, (
        f"{part} of the windows are drawn by class, each class alike: "
        f"the rarest, {plan.classes[rarest]}, is in {share:.0%} of the slices"
    )


def _steps(slices: int, windows: int) -> tuple[int, str]:
    wanted = 100 * round(PASSES * slices / windows / 100)
    steps = min(max(wanted, FEWEST_STEPS), MOST_STEPS)
    why = f"{PASSES} passes over {slices} slices"
    if steps != wanted:
        why += f" would be {wanted}, the {'least' if steps > wanted else 'most'} is {steps}"
    return steps, f"{steps}: {why}"
