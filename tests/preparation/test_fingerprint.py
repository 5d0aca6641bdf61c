import numpy as np
import pytest

from inflate3d.preparation.fingerprint import (
    MAX_SAMPLES,
    CaseFingerprint,
    Fingerprint,
    Intensities,
    measure_case,
    measure_intensities,
    merge_intensities,
)
from inflate3d.volume import Volume

ASL = np.array([[0, 0, -0.5, 9], [3.0, 0, 0, 9], [0, 2.0, 0, 9], [0, 0, 0, 1]])
"""First voxel axis to the front (3 mm), second up (2 mm), third to the left (0.5 mm)."""


def test_shape_and_spacing_follow_the_body_not_the_file():
    volume = Volume(np.zeros((1, 4, 5, 6), np.int16), ASL)
    measured = measure_case("c", volume, np.zeros((4, 5, 6), np.uint8))
    assert measured.orientation == "ASL"
    assert measured.shape == (6, 4, 5)
    assert measured.spacing == (0.5, 3.0, 2.0)


def test_labels_and_labelled_voxels_are_measured():
    scan = np.zeros((2, 2, 2, 2), np.int16)
    labels = np.zeros((2, 2, 2), np.uint8)
    labels[0, 0] = (1, 3)
    scan[0, 0, 0] = (10, 20)
    scan[1, 0, 0] = (-5, -5)
    measured = measure_case("c", Volume(scan, np.eye(4)), labels)
    assert measured.class_voxels == {0: 6, 1: 1, 3: 1}
    assert measured.foreground is not None
    assert [part.mean for part in measured.foreground] == [15, -5]
    assert [part.deviation for part in measured.foreground] == [5, 0]
    assert measured.whole[0].mean == 30 / 8


def test_scan_without_labels_has_no_foreground():
    volume = Volume(np.ones((1, 2, 2, 2), np.int16), np.eye(4))
    assert measure_case("c", volume, np.zeros((2, 2, 2), np.uint8)).foreground is None


def test_percentiles():
    measured = measure_intensities(np.arange(1001, dtype=np.int16).reshape(7, 11, 13))
    assert (measured.percentile_00_5, measured.percentile_99_5) == (5, 995)


def test_many_voxels_are_sampled_over_all_of_them():
    values = np.linspace(0, 1, 10 * MAX_SAMPLES + 7, dtype=np.float32)
    measured = measure_intensities(values)
    assert measured.mean == pytest.approx(0.5, abs=1e-4)
    assert measured.percentile_99_5 == pytest.approx(0.995, abs=1e-4)


def test_wild_case_moves_no_figure():
    def part(value):
        return Intensities(mean=value, deviation=1, percentile_00_5=-value, percentile_99_5=value)

    merged = merge_intensities([part(10.0), part(12.0), part(1e6)])
    assert merged == Intensities(mean=12, deviation=1, percentile_00_5=-12, percentile_99_5=12)


def test_medians_over_cases():
    def case(side, spacing):
        return CaseFingerprint(
            case="c",
            shape=(side, 2 * side, 3),
            spacing=(1.0, 1.0, spacing),
            orientation="RAS",
            whole=(),
            foreground=None,
            class_voxels={},
        )

    fingerprint = Fingerprint(cases=(case(10, 1.0), case(20, 5.0), case(90, 4.0)))
    assert fingerprint.median_shape() == (20, 40, 3)
    assert fingerprint.median_spacing() == (1, 1, 4)
