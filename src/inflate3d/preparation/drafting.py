"""One case from its files into the store, read once: stored as it lies, before the plan of all cases is known.

A draft keeps the case's own slices, along its own thickest axis. The plan mostly wants just that; where it doesn't,
the case is brought from the draft, which has every voxel, into the plan's frame.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from inflate3d.datasets.case import Case, Dataset
from inflate3d.datasets.classes import IGNORED
from inflate3d.errors import DatasetProblems, OutputError
from inflate3d.preparation.arrays import StoredSlices
from inflate3d.preparation.axes import frame_affine, thickest_axis
from inflate3d.preparation.examine import Outcome, read_case, tell_notes
from inflate3d.preparation.fingerprint import CaseFingerprint
from inflate3d.preparation.plan import Normalization, Plan
from inflate3d.preparation.plan_options import LEAST_SIZE, PlanOptions
from inflate3d.preparation.store import ARRAY_KINDS, ArrayKind, StoredCase, case_file, write_case
from inflate3d.settings import FrozenModel
from inflate3d.volume import DEPTH_AXES, DepthAxis, Volume


class DraftedCase(FrozenModel):
    """A case that was read, checked, measured, and stored in a frame of its own.

    Attributes:
        measured: What it is like.
        scan_notes: What the scan's reader found odd.
        label_notes: What the label map's reader found odd.
        depth_axis: The direction along which its slices are stacked in the store.
        stored: What is known of it without opening its arrays; its ranges are its own percentiles.
        written: Bytes and time of change, in nanoseconds, of each of its files.
    """

    measured: CaseFingerprint
    scan_notes: tuple[str, ...]
    label_notes: tuple[str, ...]
    depth_axis: DepthAxis
    stored: StoredCase
    written: dict[ArrayKind, tuple[int, int]]

    def outcome(self, case: Case) -> Outcome:
        """What was found out about the case."""
        return Outcome(self.measured, notes=tell_notes(case, self.scan_notes, self.label_notes))

    def fits(self, plan: Plan) -> bool:
        """Whether it is stored as the plan wants it."""
        world = DEPTH_AXES.index(plan.depth_axis)
        slices, spacing = self.measured.shape[world], self.measured.spacing[world]
        return self.depth_axis == plan.depth_axis and plan.slice_count(slices, spacing) == slices

    def finish(self, plan: Plan, group: str | None) -> StoredCase:
        """What the store's index says of it, if it fits the plan.

        Args:
            plan: The plan of all cases.
            group: What the case must stay together with in a split.
        """
        blank = [values == (0, 0) for values in self.measured.ranges]
        ranges = tuple(
            rule.own_or_fixed(own, blank=empty)
            for rule, own, empty in zip(plan.normalization, self.stored.ranges, blank, strict=True)
        )
        return self.stored.model_copy(update={"ranges": ranges, "group": group})


def draft_case(dataset: Dataset, options: PlanOptions, folder: Path, case: Case) -> DraftedCase | Outcome | OutputError:
    """Reads, checks, measures and stores one case.

    Args:
        dataset: The dataset that it belongs to, its classes chosen; its cases are not looked at.
        options: Choices that the plan must take over.
        folder: Where its file pair goes.
        case: The case.

    Returns:
        The draft, or what is wrong with the case, or why it can't be written; processes hand errors over as values.
    """
    try:
        read = read_case(dataset, case, allow_missing_modality=options.allow_missing_modality)
        plan = _draft_plan(dataset, read.measured.spacing, options)
        stored = write_case(folder, case, read.volume, read.labels, plan)
    except DatasetProblems as error:
        return Outcome(None, problems=tuple(error.problems))
    except OutputError as error:
        return error
    return DraftedCase(
        measured=read.measured,
        scan_notes=read.volume.notes,
        label_notes=read.labels.notes,
        depth_axis=plan.depth_axis,
        stored=stored,
        written={kind: file_state(case_file(folder, case.id, kind)) for kind in ARRAY_KINDS},
    )


def redraft_case(drafts: Path, plan: Plan, folder: Path, drafted: DraftedCase, case: Case) -> StoredCase | OutputError:
    """Brings a draft into the plan's frame, as if it came from the case's files.

    Args:
        drafts: Where the draft's file pair lies.
        plan: The plan of all cases.
        folder: Where the new pair goes.
        drafted: The draft.
        case: The case.
    """
    last = drafted.stored.shape[0] - 1
    image, numbers = (StoredSlices(case_file(drafts, case.id, kind)).read(0, last) for kind in ARRAY_KINDS)
    affine = frame_affine(drafted.depth_axis, drafted.measured.spacing)
    values = np.zeros(IGNORED + 1, np.min_scalar_type(max(plan.class_numbers)))
    values[: len(plan.classes)] = plan.label_values
    values[IGNORED] = plan.ignore or 0
    try:
        return write_case(folder, case, Volume(image, affine), Volume(values[numbers][np.newaxis], affine), plan)
    except OutputError as error:
        return error


def _draft_plan(dataset: Dataset, spacing: tuple[float, float, float], options: PlanOptions) -> Plan:
    """A plan for one case that can be followed before the others are known.

    The case keeps its own slices, so that it can be brought into any other plan's frame without its files.

    Args:
        dataset: The dataset, its classes chosen.
        spacing: The case's millimeters along the RAS+ axes.
        options: What the user knows better.
    """
    return Plan(
        dataset=dataset.name,
        modalities=dataset.modalities,
        classes=dataset.classes,
        merged=dict(dataset.merged),
        ignore=dataset.ignore,
        allow_missing_modality=options.allow_missing_modality,
        depth_axis=options.depth_axis or thickest_axis(spacing),
        image_size=(LEAST_SIZE, LEAST_SIZE),
        normalization=(Normalization(kind="case"),) * len(dataset.modalities),
        flips=(False, False, False),
        reasons={},
    )


def file_state(path: Path) -> tuple[int, int]:
    """Bytes of a file, and when it was changed, in nanoseconds."""
    state = path.stat()
    return state.st_size, state.st_mtime_ns
