"""The unit of a PET series, and the factor from its values to SUV by body weight.

The rules are those of the Quantitative Imaging Biomarkers Alliance ("vendor-neutral pseudo-code for SUV calculation",
https://qibawiki.rsna.org/index.php/Standardized_Uptake_Value_(SUV)), and of DICOM PS3.3 C.8.9.1. Where a header leaves
something open, there is no factor: a wrong SUV looks like a right one.
"""

from __future__ import annotations

import math
import re
import warnings
from collections.abc import Sequence
from datetime import datetime, timedelta, timezone

from pydicom import Dataset, dcmread

from inflate3d.errors import DataError, truncate
from inflate3d.io.dicom.header import ImageHeader
from inflate3d.units import SUV, Unit

_NAMES = {"BQML": "Bq/mL", "CNTS": "counts"}

_SUV_TYPES = {
    "BW": SUV,
    "LBM": "SUVlbm",
    "LBMJAMES128": "SUVlbm",
    "LBMJANMA": "SUVlbm",
    "BSA": "SUVbsa",
    "IBW": "SUVibw",
}

_GE_SCAN_TIME = (0x0009, "GEMS_PETD_01", 0x0D)
_PHILIPS_SUV = (0x7053, "Philips PET Private Group", 0x00)
_PHILIPS_ACTIVITY = (0x7053, "Philips PET Private Group", 0x09)

_FEWEST_BECQUEREL = 1e5
"""Of a dose; headers with fewer state it in another unit, such as MBq."""

_HEAVIEST = 700.0
"""Kilograms of a patient; headers with more state grams."""

_MOST_HALF_LIVES = 10
"""From the injection to the scan: nothing is left to see after more."""

_LONG_HALF_LIFE = 3 * 3600.0
"""Seconds; tracers that last longer may be scanned days after the injection, so a time without a date won't do."""

_DATE = re.compile(r"(\d{4})[.-]?(\d\d)[.-]?(\d\d)")
_TIME = re.compile(r"(\d\d):?(\d\d):?(\d\d)(\.\d{1,6})?")
_MOMENT = re.compile(r"(\d{8})(\d{6}(?:\.\d{1,6})?)([+-](?:0\d|1[0-4])[0-5]\d)?")


_ZONE = re.compile(r"[+-](?:0\d|1[0-4])[0-5]\d")


class _ObstacleError(Exception):
    """Why there is no SUV, in words."""


def unit_of(headers: Sequence[ImageHeader]) -> Unit:
    """The unit of a series.

    Args:
        headers: All its images, of all its volumes: the start of the scan is the first one's.

    Raises:
        DataError: Images of a PET series have different units.
    """
    first = headers[0]
    if first.text("modality") != "PT":
        return Unit()
    if first.frame is not None:
        return Unit(obstacle="it is an enhanced multi-frame object, of which the unit is not read")
    units = {header.text("units"): header for header in headers}
    if len(units) > 1:
        raise DataError(
            "the slices of the series differ in units",
            expected="one unit in (0054,1001)",
            got=", ".join(text or "none" for text in units),
            hint="export the series again; move other images into a separate folder",
            file=list(units.values())[1].file,
        )
    stated = first.text("units")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # pydicom's, of values of a wrong form
            return _unit(stated, headers, dcmread(first.file, stop_before_pixels=True, force=True))
    except Exception as error:  # noqa: BLE001 - pydicom has many for values of a wrong type, see `read_elements`
        return Unit(name=_NAMES.get(stated, stated), obstacle=f"its header is damaged ({type(error).__name__})")


def _unit(stated: str, headers: Sequence[ImageHeader], elements: Dataset) -> Unit:
    if not stated:
        return Unit(obstacle="it has no units, (0054,1001)")
    if stated == "GML":
        name = _SUV_TYPES.get(_text(elements, "SUVType") or "BW", "SUV of unknown type")
        return Unit(name=SUV, suv_factor=1.0) if name == SUV else Unit(name=name, obstacle=f"its values are {name}")
    name = _NAMES.get(stated, stated)
    try:
        if stated == "BQML":
            return Unit(name=name, suv_factor=_of_activity(headers, elements))
        if stated == "CNTS":
            return Unit(name=name, suv_factor=_of_counts(headers, elements))
        raise _ObstacleError(f"its units are {stated}, not BQML, CNTS or GML")
    except _ObstacleError as obstacle:
        return Unit(name=name, obstacle=str(obstacle))


def _of_counts(headers: Sequence[ImageHeader], elements: Dataset) -> float:
    """From Philips' counts, by its private factors."""
    _check_corrected(elements)
    if factor := _private_number(elements, _PHILIPS_SUV):
        return factor
    if factor := _private_number(elements, _PHILIPS_ACTIVITY):
        return factor * _of_activity(headers, elements)
    raise _ObstacleError("its units are counts (CNTS), without a factor of Philips in (7053,xx00) or (7053,xx09)")


def _of_activity(headers: Sequence[ImageHeader], elements: Dataset) -> float:
    """From becquerels per milliliter, as if a gram were a milliliter."""
    _check_corrected(elements)
    weight = _number(elements, "PatientWeight")
    if not 0 < weight <= _HEAVIEST:
        raise _ObstacleError(f"the patient's weight, (0010,1030), is {weight:g} kg")
    injections = elements.get("RadiopharmaceuticalInformationSequence") or []
    if len(injections) != 1:
        raise _ObstacleError(f"{len(injections) or 'no'} radiopharmaceuticals are stated in (0054,0016)")
    dose = _number(injections[0], "RadionuclideTotalDose")
    if dose < _FEWEST_BECQUEREL:
        raise _ObstacleError(f"the dose, (0018,1074), is {dose:g} Bq")
    decay = _text(elements, "DecayCorrection")
    if decay == "ADMIN":
        return 1000 * weight / dose
    if decay != "START":
        raise _ObstacleError(f"decay correction, (0054,1102), is {decay or 'not stated'}, not START or ADMIN")
    half_life = _number(injections[0], "RadionuclideHalfLife")
    if half_life <= 0:
        raise _ObstacleError(f"the half-life, (0018,1075), is {half_life:g} s")
    passed = _seconds_to_scan(headers, elements, injections[0], half_life)
    return 1000 * weight / (dose * 2 ** (-passed / half_life))


def _check_corrected(elements: Dataset) -> None:
    lacking = {"ATTN", "DECY"} - {*_texts(elements, "CorrectedImage")}
    if lacking:
        raise _ObstacleError(f"corrected image, (0028,0051), lacks {' and '.join(sorted(lacking))}")


def _seconds_to_scan(headers: Sequence[ImageHeader], elements: Dataset, injection: Dataset, half_life: float) -> float:
    """Seconds from the injection to the time to which values are decay-corrected."""
    scan = _scan_start(headers, elements)
    injected = _moment(_text(injection, "RadiopharmaceuticalStartDateTime"), _text(elements, "TimezoneOffsetFromUTC"))
    if injected is None:
        time = _text(injection, "RadiopharmaceuticalStartTime")
        if half_life > _LONG_HALF_LIFE:
            raise _ObstacleError(
                f"a tracer with a half-life of {half_life / 3600:.3g} h may be injected days before the scan, and the "
                "date, (0018,1078), is not stated"
            )
        injected = _joined(f"{scan:%Y%m%d}", time)
        if injected is None:
            raise _ObstacleError("the time of the injection, (0018,1078) or (0018,1072), is not stated")
        if injected > scan:  # before midnight
            injected -= timedelta(days=1)
    passed = (scan - injected).total_seconds()
    if not 0 <= passed <= _MOST_HALF_LIVES * half_life:
        raise _ObstacleError(
            f"the injection at {injected:%Y-%m-%d %H:%M:%S} and the scan at {scan:%Y-%m-%d %H:%M:%S} are "
            f"{passed / half_life:.3g} half-lives apart"
        )
    return passed


def _scan_start(headers: Sequence[ImageHeader], elements: Dataset) -> datetime:
    """The time to which values of the kind START are corrected.

    It is the series' time, unless that is later than the first image's: then the series was made by a later
    reconstruction or export, and the first acquisition time of all images counts; GE states the scan's time by itself.
    """
    usual = next((header.text("series date") for header in headers if header.text("series date")), "")
    found = [_joined(each.text("acquisition date") or usual, each.text("acquisition time")) for each in headers]
    acquired = min((each for each in found if each is not None), default=None)
    if acquired is None:
        raise _ObstacleError("the time of acquisition, (0008,0032), is not stated")
    series = _joined(usual or f"{acquired:%Y%m%d}", headers[0].text("series time"))
    if series is not None and series <= acquired:
        return series
    own = _moment(_private_text(elements, _GE_SCAN_TIME), _text(elements, "TimezoneOffsetFromUTC"))
    return own or acquired


def _joined(date: str, time: str) -> datetime | None:
    """A date and a time of day; without a date, on a day that is the same for all."""
    parts, clock = _DATE.fullmatch(date or "20000101"), _TIME.fullmatch(time)
    if parts is None or clock is None:
        return None
    try:
        moment = datetime(*map(int, parts.groups()), *map(int, clock.groups()[:3]))  # type: ignore[arg-type]
    except ValueError:
        return None
    return moment + timedelta(seconds=float(clock[4] or 0))


def _moment(text: str, zone: str) -> datetime | None:
    """A date with its time, brought to the zone of the header's times if both state one."""
    match = _MOMENT.fullmatch(text)
    moment = match and _joined(match[1], match[2])
    if not match or moment is None or not (match[3] and _ZONE.fullmatch(zone)):
        return moment
    own, wanted = (_offset(each) for each in (match[3], zone))
    return moment.replace(tzinfo=own).astimezone(wanted).replace(tzinfo=None)


def _offset(text: str) -> timezone:
    minutes = int(text[1:3]) * 60 + int(text[3:5])
    return timezone(timedelta(minutes=-minutes if text[0] == "-" else minutes))


def _text(elements: Dataset, keyword: str) -> str:
    value = elements.get(keyword)
    return "" if value is None else str(value).strip()


def _texts(elements: Dataset, keyword: str) -> list[str]:
    value = elements.get(keyword)
    return [value] if isinstance(value, str) else [str(each) for each in value or []]


def _number(elements: Dataset, keyword: str) -> float:
    """A number, which has to be there."""
    text = _text(elements, keyword)
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise _ObstacleError(f"{_LABELS[keyword]} is {truncate([text]) if text else 'not stated'}")
    return number


_LABELS = {
    "PatientWeight": "the patient's weight, (0010,1030),",
    "RadionuclideTotalDose": "the dose, (0018,1074),",
    "RadionuclideHalfLife": "the half-life, (0018,1075),",
}


def _private_text(elements: Dataset, place: tuple[int, str, int]) -> str:
    group, creator, number = place
    try:
        value = elements.private_block(group, creator)[number].value
    except KeyError:
        return ""
    return (value.decode("ascii", "replace") if isinstance(value, bytes) else str(value)).strip(" \0")


def _private_number(elements: Dataset, place: tuple[int, str, int]) -> float:
    """A factor above 0; else 0."""
    try:
        number = float(_private_text(elements, place))
    except ValueError:
        return 0.0
    return number if 0 < number < math.inf else 0.0
