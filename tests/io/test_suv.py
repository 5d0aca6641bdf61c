"""SUV by body weight of PET series, against factors that are worked out by hand from the headers."""

import re

import numpy as np
import pytest
from pydicom import Dataset, dcmread

from inflate3d.errors import DataError
from inflate3d.io import read_grid, read_images, read_volume
from inflate3d.units import Unit

FLUORINE = 6588.0  # seconds

TAGS = {
    "SeriesDate": "20240305",
    "SeriesTime": "100000",
    "AcquisitionDate": "20240305",
    "AcquisitionTime": "100000",
    "PatientWeight": "80",
    "Units": "BQML",
    "DecayCorrection": "START",
    "CorrectedImage": ["NORM", "DTIM", "ATTN", "SCAT", "DECY"],
}
INJECTION = {
    "RadiopharmaceuticalStartTime": "081012.00",  # 6588 s before 10:00: one half-life
    "RadionuclideTotalDose": "400000000",
    "RadionuclideHalfLife": str(FLUORINE),
}
BY_HAND = 80 * 1000 / 200e6  # grams over what is left of the dose after one half-life: 0.0004 per Bq/mL


@pytest.fixture
def pet(tmp_path, write_series):
    """Writes a PET series of 3 slices with changes of its header; a change of None removes a tag."""
    counts = np.random.default_rng(0).integers(0, 20000, (3, 4, 5)).astype("int16")

    def write(tags=None, injection=None, own=None, private=None):
        paths = write_series(tmp_path / "pet", counts, modality="PT", rescale=[(1.0, 0.0)] * 3)
        for index, path in enumerate(paths):
            elements = dcmread(path)
            item = _with(Dataset(), {**INJECTION, **(injection or {})})
            _with(elements, {**TAGS, **(tags or {}), **(own(index) if own else {})})
            elements.RadiopharmaceuticalInformationSequence = [item]
            for (group, creator), values in (private or {}).items():
                block = elements.private_block(group, creator, create=True)
                for number, kind, value in values:
                    block.add_new(number, kind, value)
            elements.save_as(path)
        return tmp_path / "pet"

    return write


def _with(elements, tags):
    for keyword, value in tags.items():
        if value is not None:
            setattr(elements, keyword, value)
        elif keyword in elements:
            delattr(elements, keyword)
    return elements


def unit_of(path):
    (unit,) = read_volume(path).units
    assert read_grid(path).units == (unit,)
    return unit


def check(unit, name, factor):
    assert (unit.name, unit.suv_factor, unit.obstacle) == (name, pytest.approx(factor, rel=1e-9), "")


@pytest.mark.parametrize(
    ("tags", "injection", "factor"),
    [
        ({}, {}, BY_HAND),
        ({"DecayCorrection": "ADMIN"}, {}, 80 * 1000 / 400e6),
        ({"DecayCorrection": "ADMIN"}, {"RadiopharmaceuticalStartTime": None}, 80 * 1000 / 400e6),
        # the date and time of the injection win over the time alone: two half-lives
        ({}, {"RadiopharmaceuticalStartDateTime": "20240305062024"}, 80 * 1000 / 100e6),
        # one half-life over midnight, with and without the date of the injection
        ({"SeriesTime": "001000", "AcquisitionTime": "001000"}, {"RadiopharmaceuticalStartTime": "222012"}, BY_HAND),
        (
            {"SeriesTime": "001000", "AcquisitionTime": "001000"},
            {"RadiopharmaceuticalStartDateTime": "20240304222012.000000"},
            BY_HAND,
        ),
        # another zone than the header's times: 07:10:12 at +0000 is 08:10:12 at +0100
        (
            {"TimezoneOffsetFromUTC": "+0100"},
            {"RadiopharmaceuticalStartDateTime": "20240305071012+0000"},
            BY_HAND,
        ),
        # without any date
        ({"SeriesDate": None, "AcquisitionDate": None}, {}, BY_HAND),
        # zirconium, four half-lives after an injection days ago
        (
            {},
            {"RadionuclideHalfLife": "281880", "RadiopharmaceuticalStartDateTime": "20240221084800"},
            80 * 1000 / 25e6,
        ),
    ],
)
def test_factor_is_the_one_worked_out_by_hand(pet, tags, injection, factor):
    check(unit_of(pet(tags, injection)), "Bq/mL", factor)


def test_beds_are_corrected_to_the_start_of_the_series(pet):
    """Slices of later beds are acquired later, but are corrected to the same time."""
    times = ("102000", "101000", "100000")
    assert unit_of(pet(own=lambda index: {"AcquisitionTime": times[index]})).suv_factor == pytest.approx(BY_HAND)


def test_time_of_a_series_that_was_made_later_is_not_the_scans(pet):
    """A series reconstructed at 15:00: the first acquisition counts, not that of the first file."""
    times = ("102000", "101000", "100000")
    late = pet({"SeriesTime": "150000"}, own=lambda index: {"AcquisitionTime": times[index]})
    assert unit_of(late).suv_factor == pytest.approx(BY_HAND)


def test_scan_time_of_ge(pet):
    """GE states the start of the scan, 09:00, by itself; the injection is one half-life before it."""
    private = {(0x0009, "GEMS_PETD_01"): [(0x0D, "DT", "20240305090000.00")]}
    path = pet({"SeriesTime": "150000"}, {"RadiopharmaceuticalStartTime": "071012"}, private=private)
    assert unit_of(path).suv_factor == pytest.approx(BY_HAND)


@pytest.mark.parametrize(
    ("values", "factor"), [([(0, "DS", "0.00025")], 0.00025), ([(9, "DS", "3"), (0, "DS", "0")], 3 * BY_HAND)]
)
def test_counts_of_philips(pet, values, factor):
    path = pet({"Units": "CNTS"}, private={(0x7053, "Philips PET Private Group"): values})
    check(unit_of(path), "counts", factor)


def test_values_that_are_suv_already(pet):
    assert unit_of(pet({"Units": "GML", "PatientWeight": None})) == Unit(name="SUVbw", suv_factor=1.0)
    assert unit_of(pet({"Units": "GML", "SUVType": "LBM"})) == Unit(name="SUVlbm", obstacle="its values are SUVlbm")


@pytest.mark.parametrize(
    ("tags", "injection", "obstacle"),
    [
        ({"PatientWeight": None}, {}, r"the patient's weight, \(0010,1030\), is not stated"),
        ({"PatientWeight": "0"}, {}, "weight.* is 0 kg"),
        ({"PatientWeight": "80000"}, {}, "weight.* is 80000 kg"),  # grams
        ({"CorrectedImage": ["DECY"]}, {}, "lacks ATTN"),
        ({"CorrectedImage": "ATTN"}, {}, "lacks DECY"),
        ({"DecayCorrection": "NONE"}, {}, "is NONE, not START or ADMIN"),
        ({"DecayCorrection": None}, {}, "is not stated"),
        ({"AcquisitionTime": None}, {}, r"time of acquisition, \(0008,0032\), is not stated"),
        ({"Units": "CNTS"}, {}, "counts.*without a factor"),
        ({"Units": "PROPCPS"}, {}, "units are PROPCPS"),
        ({"Units": None}, {}, r"no units, \(0054,1001\)"),
        ({}, {"RadionuclideTotalDose": None}, r"the dose, \(0018,1074\), is not stated"),
        ({}, {"RadionuclideTotalDose": "400"}, "the dose.* is 400 Bq"),  # megabecquerels
        ({}, {"RadionuclideHalfLife": None}, r"the half-life, \(0018,1075\), is not stated"),
        ({}, {"RadionuclideHalfLife": "0"}, "half-life.* is 0 s"),
        ({}, {"RadiopharmaceuticalStartTime": None}, "time of the injection.* is not stated"),
        ({}, {"RadiopharmaceuticalStartTime": "100500"}, "13.1 half-lives apart"),  # five minutes after the scan
        ({}, {"RadiopharmaceuticalStartDateTime": "20240306081012"}, "half-lives apart"),  # dates that were shifted
        ({}, {"RadionuclideHalfLife": "281880"}, r"half-life of 78.3 h .* date, \(0018,1078\), is not stated"),
    ],
)
def test_headers_that_leave_something_open_give_no_factor_and_say_why(pet, tags, injection, obstacle):
    unit = unit_of(pet(tags, injection))
    assert unit.suv_factor is None
    assert re.search(obstacle, unit.obstacle), unit.obstacle


def test_slices_in_different_units_are_refused(pet):
    path = pet(own=lambda index: {"Units": "GML" if index else "BQML"})
    with pytest.raises(DataError, match="differ in units") as caught:
        read_volume(path, case="c7")
    assert caught.value.case == "c7"


def test_units_stay_with_their_modalities(pet, tmp_path, write_series):
    write_series(tmp_path / "ct", np.zeros((3, 4, 5), np.int16), modality="CT", rescale=[(1.0, -1000.0)] * 3)
    both = read_images((tmp_path / "ct", None, pet()))
    known, unknown = both.units[2], Unit()
    check(known, "Bq/mL", BY_HAND)
    assert both.units[:2] == (unknown, unknown)
    assert both[1:].units == (unknown, known)
    assert both[2].reorient("RAS").match_geometry(both).units == (known,)
    assert both.with_array(np.zeros(both.array.shape, np.uint8)).units == ()
