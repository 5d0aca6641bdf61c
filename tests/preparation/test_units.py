"""A dataset of PET series: stored in SUV where all headers allow it, and nothing is predicted in another unit."""

from dataclasses import replace

import numpy as np
import pytest
from pydicom import Dataset as Elements
from pydicom import dcmread

from inflate3d.datasets.case import Case, Dataset
from inflate3d.errors import DataError
from inflate3d.io import read_volume, write_labels, write_volume
from inflate3d.preparation.dataset_warnings import value_warnings
from inflate3d.preparation.model_space import to_model_space
from inflate3d.preparation.plan import Normalization, Plan
from inflate3d.preparation.prepare import prepare
from inflate3d.preparation.units import choose_units, in_units, read_units, unit_warnings
from inflate3d.units import SUV, Unit
from inflate3d.volume import Volume

BECQUEREL = Unit(name="Bq/mL", suv_factor=0.0004)
WEIGHTLESS = Unit(name="Bq/mL", obstacle="the patient's weight, (0010,1030), is not stated")
GRAMS, UNKNOWN = Unit(name=SUV, suv_factor=1.0), Unit()


def dataset_of(tmp_path, cases=()):
    return Dataset("Lesions", tmp_path, ("CT", "PET"), {0: "background", 1: "lesion"}, tuple(cases))


def chosen(tmp_path, *pets):
    cases = {f"c{number}": (UNKNOWN, pet) for number, pet in enumerate(pets)}
    dataset = dataset_of(tmp_path)
    return *choose_units(dataset, cases), [str(warning.case) for warning in unit_warnings(dataset, cases)]


def test_unit_is_suv_where_all_headers_allow_it(tmp_path):
    assert chosen(tmp_path, BECQUEREL, None, GRAMS) == (("", SUV), "PET in SUVbw, by the headers", [])
    assert chosen(tmp_path, UNKNOWN, UNKNOWN) == ((), "", [])
    units, reason, warned = chosen(tmp_path, BECQUEREL, WEIGHTLESS)
    assert (units, warned) == (("", "Bq/mL"), ["c1"])
    assert reason == f"PET in Bq/mL, not SUVbw: in c1 {WEIGHTLESS.obstacle}"
    assert chosen(tmp_path, BECQUEREL, UNKNOWN) == ((), "", ["c1"])  # a DICOM series and a NIfTI file
    with pytest.raises(DataError, match="cases are in different units") as caught:
        chosen(tmp_path, GRAMS, WEIGHTLESS)
    assert caught.value.case == "c1"


def pet(*units):
    return Volume(np.full((len(units), 2, 3, 4), 5000, np.int16), np.eye(4), units=units)


def test_scans_are_brought_to_the_unit_of_the_plan_or_refused():
    converted = in_units(pet(UNKNOWN, BECQUEREL), ("", SUV))
    assert converted.array.dtype == np.float32
    assert (converted.array[0] == 5000).all()
    assert converted.array[1] == pytest.approx(np.full((2, 3, 4), 2.0))
    assert in_units(converted, ("", SUV)) is converted  # not a second time
    for scan, wanted in (
        (pet(BECQUEREL), ("Bq/mL",)),
        (pet(BECQUEREL), ()),  # a plan of NIfTI files
        (pet(UNKNOWN), (SUV,)),
        (replace(pet(UNKNOWN), units=()), (SUV,)),
    ):
        assert in_units(scan, wanted) is scan
    for unit, wanted in ((WEIGHTLESS, SUV), (GRAMS, "Bq/mL"), (BECQUEREL, "counts")):
        with pytest.raises(DataError, match="the scan's unit differs from the model's") as caught:
            in_units(pet(unit), (wanted,))
        assert (caught.value.expected, str(caught.value.got).split(":")[0]) == (wanted, unit.name)


@pytest.mark.parametrize(
    ("unit", "model", "warned"),
    [(BECQUEREL, SUV, False), (BECQUEREL, "", True), (UNKNOWN, SUV, True), (UNKNOWN, "", False)],
)
def test_units_that_can_not_be_compared_are_named(unit, model, warned):
    plan = plan_of(units=(model,) if model else ())
    scan = replace(pet(unit), array=np.arange(24, dtype=np.int16).reshape(1, 2, 3, 4))
    assert [warning.what for warning in value_warnings(scan, plan)] == (
        ["the unit of the scan may not be the model's"] * warned
    )


def plan_of(**values):
    return Plan(
        dataset="Lesions",
        modalities=("PET",),
        classes={0: "background", 1: "lesion"},
        merged={},
        depth_axis="axial",
        image_size=(96, 96),
        normalization=(Normalization(kind="case"),),
        flips=(False, False, False),
        reasons={},
        **values,
    )


@pytest.fixture
def lesions(tmp_path, write_series):
    """Two cases of CT as NIfTI and PET as DICOM: the one in Bq/mL, the other in SUV already."""
    random, cases = np.random.default_rng(0), []
    for number, slope in enumerate((100.0, 0.04)):
        folder = tmp_path / f"p{number}"
        counts = random.integers(0, 200, (4, 20, 20)).astype(np.float64) * slope
        for path in write_series(folder / "pet", counts, modality="PT", rescale=[(slope, 0.0)] * 4):
            elements = dcmread(path)
            elements.SeriesTime = elements.AcquisitionTime = "100000"
            elements.PatientWeight, elements.CorrectedImage = "80", ["ATTN", "DECY"]
            elements.Units, elements.DecayCorrection = ("GML" if number else "BQML"), "ADMIN"
            item = Elements()
            item.RadionuclideTotalDose = "200000000"  # 80 kg and 200 MBq: 0.0004 SUV for 1 Bq/mL
            elements.RadiopharmaceuticalInformationSequence = [item]
            elements.save_as(path)
        scan = read_volume(folder / "pet")
        write_volume(folder / "ct.nii.gz", Volume(np.full((1, 20, 20, 4), -1000, np.int16), scan.affine))
        write_labels(folder / "labels.nii.gz", scan.array[0] > np.percentile(scan.array, 90), like=scan)
        images = (folder / "ct.nii.gz", folder / "pet")
        cases.append(Case(f"p{number}", images, folder / "labels.nii.gz"))
    return dataset_of(tmp_path, cases)


def test_store_of_pet_is_in_suv(lesions, tmp_path):
    assert [unit and unit.name for unit in read_units(lesions.cases[0])] == ["", "Bq/mL"]
    store = prepare(lesions, tmp_path / "store", workers=1)
    plan = store.plan
    assert plan.units == ("", SUV)
    assert plan.reasons["units"] == "PET in SUVbw, by the headers"
    assert plan.normalization[1].kind == "clip"
    assert (plan.normalization[1].low, round(plan.normalization[1].high or 0)) == (0, 8)
    factors = (0.0004, 1.0)
    for case, factor in zip(lesions.cases, factors, strict=True):
        raw = read_volume(case.images[1]).array.astype(np.float32) * np.float32(factor)
        stored = store.scan(case.id).voxels[1]
        assert np.sort(stored.ravel()) == pytest.approx(np.sort(raw.ravel()), rel=1e-6)
    # a scan to predict takes the same way
    both = read_volume(lesions.cases[0].images[1])
    scan = Volume(np.concatenate([both.array, both.array]), both.affine, units=(Unit(), *both.units))
    assert to_model_space(scan, plan).voxels[1].max() == pytest.approx(both.array.max() * 0.0004, rel=1e-6)
