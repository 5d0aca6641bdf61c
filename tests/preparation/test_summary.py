from pathlib import Path

from inflate3d.datasets.case import Dataset
from inflate3d.preparation.fingerprint import CaseFingerprint, Fingerprint, Intensities
from inflate3d.preparation.summary import class_rows, property_rows, summarize

CLASSES = {0: "background", 1: "liver", 4: "tumor", 7: "not labeled"}
DATASET = Dataset("Toy", Path("toy"), ("CT", "PET"), CLASSES, (), ignore=7)


def values_of(middle):
    names = ("percentile_00_5", "percentile_05_0", "percentile_50_0", "percentile_95_0", "percentile_99_5")
    return Intensities(mean=0, deviation=1, **{name: middle + 10 * (index - 2) for index, name in enumerate(names)})


def case_of(name, **what):
    known = {
        "orientation": "RAS",
        "spacing": (1.0, 1.0, 5.0),
        "whole": (values_of(0), values_of(5)),
        "foreground": (values_of(50), values_of(9)),
        "outside": (values_of(-500), values_of(1)),
        "data_type": "int16",
    }
    return CaseFingerprint(case=name, **(known | what))


CASES = (
    case_of("a", shape=(10, 20, 30), class_voxels={0: 5, 1: 100, 7: 3}, class_slices={1: (5, 5, 5)}),
    case_of("b", shape=(30, 20, 10), class_voxels={1: 300, 4: 8}, class_slices={1: (5, 5, 5), 4: (1, 2, 4)}),
    case_of(
        "c",
        shape=(20, 20, 60),
        spacing=(0.5, 1.0, 2.5),
        orientation="LPS",
        class_voxels={0: 5},
        whole=(values_of(1000), values_of(0)),
        foreground=None,
        outside=(values_of(1000), values_of(0)),
        missing=(1,),
    ),
)

SUMMARY = summarize(Fingerprint(cases=CASES), DATASET)


def test_sides_of_the_cases():
    sides = {name: [tuple(side.values()) for side in SUMMARY[name]] for name in ("shape", "spacing")}
    assert sides["shape"] == [(10, 20, 30), (20, 20, 20), (10, 30, 60)]
    assert sides["spacing"] == [(0.5, 1, 1), (1, 1, 1), (2.5, 5, 5)]


def test_how_they_are_stored():
    assert SUMMARY["cases"] == 3
    assert SUMMARY["orientations"] == {"RAS": 2, "LPS": 1}
    assert SUMMARY["data_types"] == {"int16": 3}


def test_values_of_modalities_leave_out_the_zeros_of_missing_ones():
    medians = [
        [each["name"], *(each[part]["percentile_50_0"] for part in ("whole", "foreground", "outside"))]
        for each in SUMMARY["modalities"]
    ]
    assert medians == [["CT", 0, 50, -500], ["PET", 5, 9, 1]]


def test_classes_without_background_and_ignored_voxels():
    liver, tumor = SUMMARY["classes"]
    assert tuple(liver.values())[:4] == (1, "liver", 2, 200)
    assert tuple(tumor.values())[:4] == (4, "tumor", 1, 8)
    assert liver["slice_share"] == [10 / 60, 10 / 60, 10 / 100]
    assert tumor["slice_share"] == [1 / 60, 2 / 60, 4 / 100]


def test_modality_that_no_case_has():
    cases = tuple(case.model_copy(update={"missing": (1,)}) for case in CASES)
    assert [modality["name"] for modality in summarize(Fingerprint(cases=cases), DATASET)["modalities"]] == ["CT"]


def test_rows_of_properties():
    assert property_rows(SUMMARY) == [
        ("voxels left-right", "10", "20", "30"),
        ("voxels back-front", "20", "20", "20"),
        ("voxels down-up", "10", "30", "60"),
        ("spacing, mm left-right", "0.5", "1", "1"),
        ("spacing, mm back-front", "1", "1", "1"),
        ("spacing, mm down-up", "2.5", "5", "5"),
        ("CT, labeled (5, 50, 95 %)", "40", "50", "60"),
        ("CT, background (5, 50, 95 %)", "-510", "-500", "-490"),
        ("PET, labeled (5, 50, 95 %)", "-1", "9", "19"),
        ("PET, background (5, 50, 95 %)", "-9", "1", "11"),
    ]


def test_rows_of_classes():
    assert class_rows(SUMMARY) == [
        ("1 liver", "2", "200", "16.7%", "16.7%", "10.0%"),
        ("4 tumor", "1", "8", "1.7%", "3.3%", "4.0%"),
    ]
