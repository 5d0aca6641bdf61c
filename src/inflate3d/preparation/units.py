"""The units of a dataset's modalities: which one the plan requires, and how scans are converted to it.

PET series state their unit. What has been trained in one unit must not be given another one without a word.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

import numpy as np

from inflate3d.datasets.case import Case, Dataset
from inflate3d.errors import DataError
from inflate3d.io import read_grid, suffix_of
from inflate3d.io.formats import is_dicom_image
from inflate3d.units import SUV, Unit
from inflate3d.volume import Volume

UnitsOfCases = Mapping[str, Sequence[Unit | None]]
"""For each case the unit of each modality; None where it is missing, empty where no file states any."""

_HINT = "complete the header, convert the scans to one unit, or leave the case out"


def may_state_unit(case: Case) -> bool:
    """Whether any of a case's images is a DICOM series."""
    return any(image is not None and (not suffix_of(image) or is_dicom_image(image)) for image in case.images)


def read_units(case: Case) -> tuple[Unit | None, ...]:
    """The units of a case's images, None of missing ones, from headers alone.

    Raises:
        DataError: A header can't be read.
    """
    units: list[Unit | None] = []
    for image in case.images:
        if image is None:
            units.append(None)
            continue
        grid = read_grid(image, case=case.id)
        units.extend(grid.units or (Unit(),) * grid.modalities)
    return tuple(units)


def choose_units(dataset: Dataset, cases: UnitsOfCases) -> tuple[tuple[str, ...], str]:
    """The unit in which each modality is stored, and the reason; no units if none is known.

    PET becomes SUV by body weight where all headers allow that. Else it keeps its unit, if all cases have the same.

    Raises:
        DataError: Cases have different units that can't be converted.
    """
    chosen, reasons = [], []
    for index, modality in enumerate(dataset.modalities):
        found = {case: _at(units, index) for case, units in cases.items()}
        name, why = _choose(dataset, modality, {case: unit for case, unit in found.items() if unit is not None})
        chosen.append(name)
        reasons += [why] * bool(why)
    return (tuple(chosen), "; ".join(reasons)) if any(chosen) else ((), "")


def unit_warnings(dataset: Dataset, cases: UnitsOfCases) -> Iterator[DataError]:
    """Warnings about modalities that stay in units which differ from scanner to scanner, or that are partly unknown."""
    for index, modality in enumerate(dataset.modalities):
        found = [(case, unit) for case, units in cases.items() if (unit := _at(units, index)) is not None]
        unknown = [case for case, unit in found if not unit.name]
        lacking = [(case, unit) for case, unit in found if unit.obstacle]
        if 0 < len(unknown) < len(found):
            known = next(unit.name for _, unit in found if unit.name)
            yield DataError(
                "the unit is known for some cases only, so values are used as they are",
                expected=f"{modality} in one unit",
                got=f"{known} in some cases, not stated in others",
                hint="check that all are in the same unit, or give all as DICOM series",
                case=unknown[0],
                file=dataset.root,
            )
        elif lacking:
            case, unit = lacking[0]
            yield DataError(
                f"{modality} can't be brought to {SUV}, so it keeps its unit",
                expected="headers that allow it",
                got=f"{unit.name or 'no known unit'}: {unit.obstacle}",
                hint="complete the header; otherwise, scans to predict must have the same unit",
                case=case,
                file=dataset.root,
            )


def in_units(volume: Volume, wanted: Sequence[str]) -> Volume:
    """The scan with the values of each modality in the unit that a plan asks for.

    What states no unit is taken as it is; so is everything where the plan knows no unit. `scan_unit_warnings` names
    both.

    Raises:
        DataError: A modality is in another unit, which can't be converted.
    """
    if not volume.units or not wanted or len(wanted) != len(volume.units):
        return volume
    factors = [_factor(unit, name) for unit, name in zip(volume.units, wanted, strict=True)]
    if all(factor == 1 for factor in factors):
        return volume
    scale = np.array(factors, np.float32)[:, None, None, None]
    units = tuple(
        Unit(name=name, suv_factor=1.0) if factor != 1 else unit
        for unit, name, factor in zip(volume.units, wanted, factors, strict=True)
    )
    return replace(volume, array=volume.array.astype(np.float32) * scale, units=units)


def scan_unit_warnings(volume: Volume, modalities: Sequence[str], wanted: Sequence[str]) -> list[DataError]:
    """Warnings about a scan to predict whose unit can't be compared with the model's."""
    known = volume.units or (Unit(),) * len(modalities)
    warnings = []
    for number, (modality, unit) in enumerate(zip(modalities, known, strict=False)):
        model = wanted[number] if wanted else ""
        is_missing = len(modalities) > 1 and not volume.array[number].any()
        if is_missing or bool(model) == bool(unit.name):
            continue
        expected = f"{modality} in {model}" if model else f"{modality} in the unit of the training scans, not known"
        warnings.append(
            DataError(
                "the unit of the scan may not be the model's",
                expected=expected,
                got=unit.name or "a file that states no unit",
                hint="make sure that both are the same: values are used as they are",
            )
        )
    return warnings


def _at(units: Sequence[Unit | None], index: int) -> Unit | None:
    return units[index] if index < len(units) else Unit()


def _choose(dataset: Dataset, modality: str, found: Mapping[str, Unit]) -> tuple[str, str]:
    names = {unit.name for unit in found.values()}
    if not found or "" in names:
        return "", ""
    lacking = [(case, unit) for case, unit in found.items() if unit.suv_factor is None]
    if not lacking:
        return SUV, f"{modality} in {SUV}, by the headers"
    case, unit = lacking[0]
    if len(names) == 1:
        return unit.name, f"{modality} in {unit.name}, not {SUV}: in {case} {unit.obstacle}"
    raise DataError(
        "cases are in different units",
        expected=f"{modality} in one unit, or headers that allow {SUV}",
        got=f"{', '.join(sorted(names))}; in {case} {unit.obstacle}",
        hint=_HINT,
        case=case,
        file=dataset.root,
    )


def _factor(unit: Unit, wanted: str) -> float:
    if not wanted or not unit.name or unit.name == wanted:
        return 1.0
    if wanted == SUV and unit.suv_factor is not None:
        return unit.suv_factor
    raise DataError(
        "the scan's unit differs from the model's",
        expected=wanted,
        got=unit.name + (f": {unit.obstacle}" if unit.obstacle else ""),
        hint="complete the header, or convert the scan" if wanted == SUV else "give the scan in the model's unit",
    )
