import dataclasses
import os
import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from inflate3d.preparation import fingerprint as fingerprint_module
from inflate3d.preparation.examine import examine
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


PERCENTILES = ("percentile_00_5", "percentile_05_0", "percentile_50_0", "percentile_95_0", "percentile_99_5")


def test_shape_and_spacing_follow_the_body_not_the_file():
    volume = Volume(np.zeros((1, 4, 5, 6), np.int16), ASL)
    measured = measure_case("c", volume, np.zeros((4, 5, 6), np.uint8))
    assert measured.orientation == "ASL"
    assert measured.shape == (6, 4, 5)
    assert measured.spacing == (0.5, 3.0, 2.0)


def test_labels_and_labeled_voxels_are_measured():
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
    assert [getattr(measured, name) for name in PERCENTILES] == [5, 50, 500, 950, 995]


def test_many_voxels_are_sampled_over_all_of_them():
    values = np.linspace(0, 1, 10 * MAX_SAMPLES + 7, dtype=np.float32)
    measured = measure_intensities(values)
    assert measured.mean == pytest.approx(0.5, abs=1e-4)
    assert measured.percentile_99_5 == pytest.approx(0.995, abs=1e-4)


@pytest.mark.parametrize("order", ["C", "F"])
def test_sample_is_of_all_slices_whatever_the_shape(order):
    """With every 80th voxel of rows of 80, all would be of one slice."""
    shape = (500, 400, 80)
    values = np.asarray(np.broadcast_to(np.arange(80, dtype=np.uint8), shape), order=order)
    measured = measure_intensities(values)
    assert (measured.percentile_00_5, measured.percentile_50_0, measured.percentile_99_5) == pytest.approx(
        (0, 39.5, 79), abs=1
    )


@settings(max_examples=50)
@given(arrays(st.sampled_from([np.uint8, np.int16, np.float32]), st.integers(1, 40)))
def test_figures_are_numpys(values):
    values = np.nan_to_num(values, posinf=1e30, neginf=-1e30)
    measured = measure_intensities(values)
    exact = values.astype(np.float64)
    expected = np.percentile(exact, [0.5, 5, 50, 95, 99.5])
    assert [getattr(measured, name) for name in PERCENTILES] == pytest.approx(expected, rel=1e-6, abs=1e-6)
    assert (measured.mean, measured.deviation) == pytest.approx((exact.mean(), exact.std()), rel=1e-6, abs=1e-6)


@pytest.mark.parametrize("sampled", [50, 1000])
def test_part_is_sampled_evenly_or_taken_whole(monkeypatch, sampled):
    monkeypatch.setattr(fingerprint_module, "MAX_SAMPLES", sampled)
    scan = np.arange(9 * 10 * 11, dtype=np.int16).reshape(1, 9, 10, 11)
    labels = (scan[0] >= 500).astype(np.uint8)
    measured = measure_case("c", Volume(scan, np.eye(4)), labels)
    assert measured.foreground is not None and measured.outside is not None
    assert measured.foreground[0].mean == pytest.approx((500 + 989) / 2, abs=0 if sampled == 1000 else 8)
    assert measured.outside[0].percentile_50_0 == pytest.approx(499 / 2, abs=0 if sampled == 1000 else 8)


def test_part_that_lies_between_the_steps(monkeypatch):
    monkeypatch.setattr(fingerprint_module, "MAX_SAMPLES", 6)
    labels = (np.arange(27) % 2).astype(np.uint8).reshape(3, 3, 3)  # 13 voxels, of which a step of 2 meets none
    measured = measure_case("c", Volume(np.arange(27, dtype=np.int16).reshape(1, 3, 3, 3), np.eye(4)), labels)
    assert measured.foreground is not None
    assert measured.foreground[0].mean == 13


def part(value: float) -> Intensities:
    return Intensities.model_validate(
        {"mean": value, "deviation": 1} | dict.fromkeys(PERCENTILES, value) | {"percentile_00_5": -value}
    )


def test_wild_case_moves_no_figure():
    assert merge_intensities([part(10.0), part(12.0), part(1e6)]) == part(12.0)


def test_voxels_inside_and_outside_of_classes():
    labels = np.zeros((2, 2, 2), np.uint8)
    labels[0] = [[1, 2], [3, 9]]
    scan = np.arange(8, dtype=np.int16).reshape(1, 2, 2, 2)
    measured = measure_case("c", Volume(scan, np.eye(4)), labels, merged={2: 1, 3: 0}, ignore=9)
    assert measured.foreground is not None and measured.outside is not None
    assert measured.foreground[0].mean == 0.5  # voxels 0 and 1
    assert measured.outside[0].mean == np.mean([2, 4, 5, 6, 7])
    assert measured.whole[0].mean == 3.5
    assert measured.ranges == ((0, 7),)


def test_classes_are_counted_after_merging_and_ignored_voxels_are_no_class():
    labels = np.zeros((3, 2, 4), np.uint8)
    labels[0, 0, :3] = (1, 2, 9)
    labels[2, 0, 3] = 2
    measured = measure_case("c", Volume(labels[np.newaxis], np.eye(4)), labels, merged={2: 1, 5: 300}, ignore=9)
    assert measured.class_voxels == {0: 20, 1: 3, 9: 1}
    assert measured.class_slices == {1: (2, 1, 3)}


def test_nothing_but_ignored_voxels():
    labels = np.full((2, 2, 2), 255, np.uint8)
    measured = measure_case("c", Volume(labels[np.newaxis], np.eye(4)), labels, ignore=255)
    assert (measured.foreground, measured.outside, measured.class_slices) == (None, None, {})
    assert measured.class_voxels == {255: 8}


def test_slices_are_counted_along_the_axes_of_the_body():
    labels = np.zeros((4, 5, 6), np.uint8)
    labels[:3, :2, :1] = 7  # three to the front, two up, one to the left
    measured = measure_case("c", Volume(labels[np.newaxis], ASL), labels)
    assert measured.class_slices == {7: (1, 3, 2)}


@settings(max_examples=50)
@given(
    arrays(np.uint8, st.tuples(*[st.integers(1, 6)] * 3), elements=st.sampled_from([0, 1, 2, 200])),
    st.permutations(range(3)),
)
def test_class_counts_are_those_of_a_plain_count(labels, axes):
    labels = labels.transpose(axes)  # as it may lie in memory
    measured = measure_case("c", Volume(labels[np.newaxis], np.eye(4)), labels)
    values, counts = np.unique(labels, return_counts=True)
    assert measured.class_voxels == dict(zip(values.tolist(), counts.tolist(), strict=True))
    for value in set(values.tolist()) - {0}:
        plain = [
            sum((labels.take(index, axis) == value).any() for index in range(labels.shape[axis])) for axis in range(3)
        ]
        assert measured.class_slices[value] == tuple(plain)


def test_large_label_values():
    labels = np.zeros((2, 2, 2), np.uint32)
    labels[0, 0, 0] = 70_000
    measured = measure_case("c", Volume(np.zeros((1, 2, 2, 2), np.int16), np.eye(4)), labels)
    assert measured.class_voxels == {0: 7, 70_000: 1}


def test_huge_label_values_take_no_memory():
    labels = np.zeros((4, 5, 6), np.uint32)
    labels[1:3, 2, 4] = 2_000_000_000
    labels[0, 0, 0] = 7
    tracemalloc.start()
    measured = measure_case("a", Volume(np.zeros((1, 4, 5, 6), np.int16), np.eye(4)), labels)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert measured.class_voxels == {0: 117, 7: 1, 2_000_000_000: 2}
    assert measured.class_slices == {7: (1, 1, 1), 2_000_000_000: (2, 1, 1)}
    assert peak < 2**22


def test_copies_are_known_however_they_lie_in_memory():
    random = np.random.default_rng(0)
    scan = random.integers(0, 99, (2, 4, 5, 6), np.int16)
    labels = random.integers(0, 2, (4, 5, 6), np.uint8)

    def hashes(scan, labels):
        measured = measure_case("c", Volume(scan, np.eye(4)), labels)
        return measured.image_hash, measured.label_hash

    image, label = hashes(scan, labels)
    assert hashes(np.asfortranarray(scan), np.asfortranarray(labels)) == (image, label)
    changed = scan.copy()
    changed[1, 3, 4, 5] += 1
    assert hashes(changed, labels)[0] != image
    assert hashes(scan.astype(np.int32), labels)[0] != image
    assert hashes(scan.reshape(2, 4, 6, 5), labels.reshape(4, 6, 5))[0] != image
    assert hashes(scan, 1 - labels)[1] != label


def case_of(name="c", shape=(10, 20, 3), spacing=(1.0, 1.0, 1.0), **what):
    known = {"orientation": "RAS", "whole": (), "foreground": None, "class_voxels": {}}
    return CaseFingerprint(case=name, shape=shape, spacing=spacing, **(known | what))


def test_medians_over_cases():
    sides = ((10, 1.0), (20, 5.0), (90, 4.0))
    cases = tuple(case_of(shape=(n, 2 * n, 3), spacing=(1.0, 1.0, spacing)) for n, spacing in sides)
    fingerprint = Fingerprint(cases=cases)
    assert fingerprint.median_shape() == (20, 40, 3)
    assert fingerprint.median_spacing() == (1, 1, 4)


def test_share_of_slices_is_of_all_cases_slices():
    first = case_of(shape=(10, 20, 30), class_slices={1: (5, 4, 3), 4: (1, 10, 3)})
    second = case_of(shape=(10, 20, 10), class_slices={1: (5, 0, 1)})
    fingerprint = Fingerprint(cases=(first, second))
    assert fingerprint.slice_share(0) == {1: 0.5, 4: 0.05}
    assert fingerprint.slice_share(2) == {1: 0.1, 4: 0.075}


def test_fingerprint_is_the_same_after_json(phantoms):
    measured = examine(phantoms, workers=1).fingerprint
    assert Fingerprint.model_validate_json(measured.model_dump_json()) == measured


def test_changed_files(tmp_path, write_toys):
    toys = write_toys(tmp_path, cases=3)
    fingerprint = examine(toys, workers=1).fingerprint
    assert fingerprint.changed_files(toys) == []
    first, second, third = toys.cases
    os.utime(first.images[0], ns=(0, 0))
    second.label.unlink()
    assert fingerprint.changed_files(toys) == [first.images[0], second.label]
    assert fingerprint.changed_files(dataclasses.replace(toys, cases=(third,))) == []
    moved = dataclasses.replace(third, images=(third.label,))
    assert fingerprint.changed_files(dataclasses.replace(toys, cases=(moved,))) == [third.images[0]]


@pytest.mark.parametrize("codes", ["LPI", "SAR", "PIR"])
def test_measures_do_not_depend_on_how_the_file_lies(codes):
    random = np.random.default_rng(0)
    scan = Volume(random.integers(-1000, 1000, (1, 90, 80, 70)).astype(np.int16), np.diag([1.0, 2.0, 3.0, 1.0]))
    labels = Volume((random.random((1, 90, 80, 70)) < 0.7).astype(np.uint8), scan.affine)
    expected = measure_case("a", scan, labels.array[0])
    turned = measure_case("a", scan.reorient(codes), labels.reorient(codes).array[0])
    assert turned == expected.model_copy(update={"orientation": codes})
