import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from inflate3d.resampling import nearest_slices, slice_weights

counts = st.integers(1, 60)


@given(counts, counts)
def test_slice_weights_are_where_a_ramp_says(old, new):
    lower, upper, weight = slice_weights(old, new)
    place = ((np.arange(new) + 0.5) * old / new - 0.5).clip(0, old - 1)
    assert (1 - weight) * lower + weight * upper == pytest.approx(place, abs=1e-9)
    assert ((weight >= 0) & (weight < 1)).all()
    assert ((lower >= 0) & (upper < old) & (upper - lower <= 1)).all()


@given(counts, counts)
def test_slice_weights_agree_with_torch(old, new):
    values = np.random.default_rng(0).normal(size=old)
    expected = torch.nn.functional.interpolate(
        torch.from_numpy(values)[None, None], new, mode="linear", align_corners=False
    )
    lower, upper, weight = slice_weights(old, new)
    assert (1 - weight) * values[lower] + weight * values[upper] == pytest.approx(expected[0, 0].numpy(), abs=1e-9)


@given(counts, counts)
def test_labels_of_slices_come_back_from_a_larger_count(old, new):
    few, many = sorted((old, new))
    labels = np.arange(few)
    assert np.array_equal(labels[nearest_slices(few, many)][nearest_slices(many, few)], labels)


@given(counts, counts)
def test_nearest_slices_are_exact(old, new):
    expected = [(2 * n + 1) * old // (2 * new) for n in range(new)]  # the slice that holds the center
    assert nearest_slices(old, new).tolist() == expected


def test_equal_counts_change_nothing():
    lower, _, weight = slice_weights(7, 7)
    assert (lower.tolist(), weight.tolist()) == (list(range(7)), [0.0] * 7)
    assert nearest_slices(7, 7).tolist() == list(range(7))
