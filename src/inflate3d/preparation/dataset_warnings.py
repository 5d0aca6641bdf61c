"""Warnings about a dataset: what is valid but unusual and should be looked at."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise

import numpy as np
from jaxtyping import Float

from inflate3d.datasets.case import Case, Dataset
from inflate3d.datasets.modality_guess import AIR
from inflate3d.datasets.splits import Split
from inflate3d.errors import DataError, truncate
from inflate3d.preparation.fingerprint import CaseFingerprint, Fingerprint
from inflate3d.preparation.plan import Plan
from inflate3d.preparation.units import scan_unit_warnings, unit_warnings
from inflate3d.volume import Volume

AXES = ("left-right", "back-front", "down-up")
"""Names of the RAS+ axes."""

FAR_SPACING = 3.0
"""A case is reported if its spacing differs from the median by more than this factor."""
FAR_EXTENT = 5.0
"""The same for its length in millimeters, which varies more between normal scans."""
FEWEST_FOR_MEDIAN = 3
"""With fewer cases, none is reported as unusual."""

PADDING = (-3024, -2048, -2000)
"""Values that scanners write outside their field of view; a CT's minimum is one of these or lies in `AIR`."""
NARROW_RANGE = 20
"""A CT whose values span no more than this was rescaled: Hounsfield units span hundreds."""
LARGEST_HOUNSFIELD = 2**16
"""The largest value that CT scanners can store: a larger one is not in Hounsfield units."""

_CT_WORDS = frozenset({"ct", "cta", "ctpa", "ncct", "nect", "cect", "cbct", "hrct", "ldct"})
"""Words for computed tomography: plain, of vessels, with and without contrast, cone beam, of the lungs."""
_EMISSION_WORDS = frozenset({"pet", "spect", "emission"})
"""Words for other scans made together with a CT, such as PET/CT."""


def is_ct(modality: str) -> bool:
    """Whether a modality's name says that its values are Hounsfield units."""
    words = re.findall(r"[^\W_]+", modality.lower())
    named = not _CT_WORDS.isdisjoint(words) or ("computed", "tomography") in pairwise(words)
    return named and _EMISSION_WORDS.isdisjoint(words)


def case_warnings(dataset: Dataset, fingerprint: Fingerprint) -> list[DataError]:
    """Warnings about single cases, and about cases that differ from the others."""
    cases = {case.id: case for case in dataset.cases}
    pairs = [(cases[measured.case], measured) for measured in fingerprint.cases]
    return [
        *_unlisted(dataset),
        *_missing_modalities(dataset, fingerprint),
        *unit_warnings(dataset, fingerprint.units),
        *(warning for case, measured in pairs for warning in _case_warnings(dataset, case, measured)),
        *_far_off(pairs, "spacing", FAR_SPACING, lambda measured: measured.spacing),
        *_far_off(pairs, "length", FAR_EXTENT, _lengths),
        *_orientations(dataset, fingerprint),
        *_repeated_scans(dataset, pairs),
        *_repeated_labels(pairs),
    ]


def value_warnings(volume: Volume, plan: Plan) -> list[DataError]:
    """Warnings about a scan to predict whose values can't be what the model was trained on.

    Args:
        volume: The scan, with zeros for missing modalities.
        plan: The model's.
    """
    warnings = scan_unit_warnings(volume, plan.modalities, plan.units)
    may_lack = plan.allow_missing_modality and len(plan.modalities) > 1
    for modality, channel, rule in zip(plan.modalities, volume.array, plan.normalization, strict=True):
        low, high = float(channel.min()), float(channel.max())
        if may_lack and low == high == 0:
            continue
        found = _value_warning(modality, low, high)
        trained_on_hounsfield = rule.kind == "clip" and rule.low is not None and rule.low < 0
        if found and (low == high or not is_ct(modality) or trained_on_hounsfield):
            what, expected, _ = found
            hint = "the model was trained on other values: check the scan, and its modality"
            got = f"{modality}: {low:g} to {high:g}"
            warnings.append(DataError(what, expected=expected, got=got, hint=hint))
    return warnings


def class_warnings(dataset: Dataset, fingerprint: Fingerprint) -> list[DataError]:
    """Warnings about classes that can't be both trained on and scored."""
    hint = "label more cases: one case is not enough for both training and scoring"
    if len(fingerprint.cases) == 1:
        only = fingerprint.cases[0].case
        return [DataError("the dataset has only one case", hint=hint, case=only, file=dataset.root)]
    warnings = []
    kind = "region" if dataset.regions else "class"
    for name, held in dataset.targets.items():
        holders = [measured.case for measured in fingerprint.cases if not measured.class_slices.keys().isdisjoint(held)]
        if len(holders) == 1:
            got = f"{', '.join(map(str, held))} ({name})"
            warnings.append(DataError(f"a {kind} occurs in only one case", got=got, hint=hint, case=holders[0]))
    return warnings


def _unlisted(dataset: Dataset) -> Iterator[DataError]:
    """Cases that were forgotten or lost: the description claims another number of them."""
    if dataset.announced not in (None, len(dataset.cases)):
        yield DataError(
            "the number of cases differs from the one in dataset.json",
            expected=f"{dataset.announced} (numTraining)",
            got=len(dataset.cases),
            hint="check that no case is missing, then correct numTraining",
            file=dataset.root,
        )


def _missing_modalities(dataset: Dataset, fingerprint: Fingerprint) -> Iterator[DataError]:
    for index, modality in enumerate(dataset.modalities):
        lacking = [measured.case for measured in fingerprint.cases if index in measured.missing]
        if lacking:
            yield DataError(
                "a modality is missing in some cases",
                expected=f"{modality} in each of {len(fingerprint.cases)} cases",
                got=f"none in {truncate(lacking)}",
                hint="zeros replace it; scans to predict may lack it, too",
                file=dataset.root,
            )


def _case_warnings(dataset: Dataset, case: Case, measured: CaseFingerprint) -> Iterator[DataError]:
    if not measured.class_slices:
        yield DataError(
            "label map contains only background",
            hint="if the scan does show a class, label it, or leave the case out",
            case=case.id,
            file=case.label,
        )
    for index, (modality, (low, high)) in enumerate(zip(dataset.modalities, measured.ranges, strict=True)):
        warning = None if index in measured.missing else _value_warning(modality, low, high)
        if warning:
            what, expected, hint = warning
            got = f"{low:g} to {high:g}" if low < high else f"{low:g} everywhere"
            file = case.images[index] if len(case.images) == len(dataset.modalities) else case.scan
            yield DataError(what, expected=expected, got=f"{modality}: {got}", hint=hint, case=case.id, file=file)


def _value_warning(modality: str, low: float, high: float) -> tuple[str, str, str] | None:
    """The warning about a modality's smallest and largest value: what, expected, hint."""
    if low == high:
        return "all voxels have the same value", "different voxel values", "export it again, or leave the case out"
    if is_ct(modality):
        if low >= 0 or high - low <= NARROW_RANGE or max(-low, high) > LARGEST_HOUNSFIELD:
            return (
                "the modality is CT, but the values are not Hounsfield units",
                "air at about -1000, water at 0",
                "export it in Hounsfield units, or give the modality another name than CT: the values of CT "
                "are clipped to one range for all cases",
            )
    elif high > 0 and low == round(low) and (AIR[0] <= low <= AIR[1] or low in PADDING):
        return (
            "the values look like CT",
            f"values of {modality}",
            "if it is CT, name the modality CT: its values are then clipped to the same range in all cases",
        )
    return None


def _lengths(measured: CaseFingerprint) -> tuple[float, float, float]:
    x, y, z = (size * side for size, side in zip(measured.shape, measured.spacing, strict=True))
    return x, y, z


def _far_off(
    pairs: Sequence[tuple[Case, CaseFingerprint]],
    name: str,
    factor: float,
    sides_of: Callable[[CaseFingerprint], tuple[float, float, float]],
) -> Iterator[DataError]:
    """Cases with a side length far from the median case's."""
    if len(pairs) < FEWEST_FOR_MEDIAN:
        return
    median = np.median([sides_of(measured) for _, measured in pairs], axis=0)
    for case, measured in pairs:
        sides = np.array(sides_of(measured))
        far = np.flatnonzero((sides > factor * median) | (sides * factor < median))
        if len(far):
            yield DataError(
                f"the scan's {name} differs greatly from the other cases'",
                expected=f"about {_sides(median)} mm ({', '.join(AXES)}), the median",
                got=f"{_sides(sides)} mm",
                hint="check the spacing in the header, and that the scan belongs to this dataset",
                case=case.id,
                file=case.scan,
            )


def _orientations(dataset: Dataset, fingerprint: Fingerprint) -> Iterator[DataError]:
    counts = Counter(measured.orientation for measured in fingerprint.cases)
    if len(counts) > 1:
        yield DataError(
            "cases have different orientations",
            got=", ".join(f"{codes} in {count}" for codes, count in counts.most_common()),
            hint="no action needed: all cases are brought to the same orientation, and predictions back",
            file=dataset.root,
        )


def _repeated_scans(dataset: Dataset, pairs: Sequence[tuple[Case, CaseFingerprint]]) -> Iterator[DataError]:
    by_hash: dict[str, list[Case]] = defaultdict(list)
    for case, measured in pairs:
        by_hash[measured.image_hash].append(case)
    for copies in by_hash.values():
        if len(copies) > 1:
            leaks = _leaks(dataset, copies)
            yield DataError(
                "duplicate scans" + (", which can leak from training to test cases" if leaks else ""),
                got="; ".join([f"same voxels as {truncate([case.id for case in copies[1:]])}", *leaks]),
                hint="keep only one of them" + (", or put them into one group" if leaks else ""),
                case=copies[0].id,
                file=copies[0].scan,
            )


def _leaks(dataset: Dataset, copies: Sequence[Case]) -> list[str]:
    """Descriptions of the splits that put copies of a scan on both sides."""
    names = {case.id for case in copies}
    leaks = [
        f"split {name} has them on both sides"
        for name, folds in dataset.splits.items()
        if any(_parts(split, names) > 1 for split in folds)
    ]
    if len({case.group or case.id for case in copies}) > 1:
        leaks.append("folds can have them on both sides, since their groups differ")
    return leaks


def _parts(split: Split, names: set[str]) -> int:
    """The number of parts of a split that contain one of the cases."""
    return sum(not names.isdisjoint(part) for part in (split.train, split.validation, split.test))


def _repeated_labels(pairs: Sequence[tuple[Case, CaseFingerprint]]) -> Iterator[DataError]:
    by_hash: dict[str, list[tuple[Case, CaseFingerprint]]] = defaultdict(list)
    for case, measured in pairs:
        if measured.class_slices:
            by_hash[measured.label_hash].append((case, measured))
    for copies in by_hash.values():
        if len({measured.image_hash for _, measured in copies}) > 1:
            first = copies[0][0]
            yield DataError(
                "different scans have the same label map",
                got=f"equal to that of {truncate([case.id for case, _ in copies[1:]])}",
                hint="check for a file copied by mistake; scans of one patient that share labels belong in one group",
                case=first.id,
                file=first.label,
            )


def _sides(lengths: Float[np.ndarray, "3"]) -> str:
    return " × ".join(f"{length:.3g}" for length in lengths)
