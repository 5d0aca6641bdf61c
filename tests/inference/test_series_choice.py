"""Which DICOM series are predicted: of all patients' studies the one that matches, and one volume of it."""

import numpy as np
import pytest

from inflate3d.errors import ConfigError, DataError, DatasetProblems
from inflate3d.inference.scans import find_scans
from inflate3d.io import read_volume
from inflate3d.preparation.plan import Normalization, Plan


@pytest.fixture
def plan():
    return Plan(
        dataset="Toys",
        modalities=("MRI",),
        classes={0: "background", 1: "liver"},
        merged={},
        depth_axis="axial",
        image_size=(32, 32),
        normalization=(Normalization(kind="case"),),
        flips=(True, True, True),
        reasons={},
    )


@pytest.fixture
def patients(tmp_path, write_series):
    """Two patients with two series each; a third with none that matches."""
    values = np.zeros((4, 6, 7), np.int16)
    for number, (patient, descriptions) in enumerate(
        {"p1": ("T1 post", "T2 tse"), "p2": ("t1_mprage", "T2 tse"), "p3": ("DWI", "T2 tse")}.items()
    ):
        for index, description in enumerate(descriptions):
            tags = {"0008|103e": description, "0020|000d": f"1.2.{number}", "0010|0020": patient}
            uid = f"1.2.{number}.{index}"
            write_series(tmp_path / "all" / patient / f"s{index}", values + 10 * number, uid=uid, tags=tags)
    return tmp_path / "all"


def test_the_series_that_matches_in_each_study(patients, plan):
    found = find_scans(patients, plan, series="T1*")
    assert [case.id for case in found.cases] == ["p1_s0", "p2_s0"]
    (warning,) = found.warnings
    assert warning.what.startswith("no DICOM series of a study matches")
    assert warning.file == str(patients / "p3")
    assert "DWI, 4 slices of 6 × 7" in str(warning.got)


def test_a_series_by_its_uid(patients, plan):
    (case,) = find_scans(patients, plan, series="1.2.1.1").cases
    assert case.scan == patients / "p2" / "s1"
    assert read_volume(case.scan).array.max() == 10


def test_several_series_of_a_study_match(patients, plan):
    with pytest.raises(DatasetProblems) as caught:
        find_scans(patients, plan, series="t*")
    assert caught.value.what == "in 2 studies several DICOM series match --series"
    assert [error.what for error in caught.value.problems] == ["several DICOM series of a study match --series"] * 2
    assert "1.2.0.0 (MR, T1 post, 4 slices of 6 × 7); 1.2.0.1" in str(caught.value.problems[0].got)


def test_no_series_matches(patients, plan):
    with pytest.raises(DataError, match="no DICOM series matches") as caught:
        find_scans(patients, plan, series="FLAIR")
    assert "t1_mprage" in str(caught.value.got)


def test_not_all_series_of_a_large_folder_are_listed(tmp_path, write_series, plan):
    for number in range(12):
        uid = f"1.2.{number:02}"
        write_series(tmp_path / uid, np.zeros((2, 3, 4), np.int16), uid=uid, tags={"0020|000d": uid})
    with pytest.raises(DataError) as caught:
        find_scans(tmp_path, plan, series="FLAIR")
    got = str(caught.value.got)
    assert got.endswith(" and 2 more") and got.count("slices of") == 10


def test_a_volume_of_a_series(tmp_path, write_series, plan):
    for echo in (1, 2):
        names = [f"{echo}-{index}" for index in range(4)]
        write_series(tmp_path / "mr", np.full((4, 6, 7), echo, np.int16), names=names, tags={"0018|0081": f"{echo}"})
    (case,) = find_scans(tmp_path / "mr", plan, volume=2).cases
    assert case.id == "mr_volume2"
    assert read_volume(case.scan).array.max() == 2


def test_only_series_can_be_chosen(tmp_path, plan):
    (tmp_path / "scan.nii.gz").write_bytes(b"")
    with pytest.raises(ConfigError, match="--volume"):
        find_scans(tmp_path / "scan.nii.gz", plan, volume=1)
    with pytest.raises(ConfigError, match="--series"):
        find_scans("s3://bucket/scans", plan, series="T1*")
    with pytest.raises(DataError, match="folder not found"):
        find_scans(tmp_path / "gone", plan, series="T1*")


def test_listing_names_its_folder(patients, plan):
    (patients / "DICOMDIR").write_bytes(b"")
    assert len(find_scans(patients / "DICOMDIR", plan).cases) == 6
