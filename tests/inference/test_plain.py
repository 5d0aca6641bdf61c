"""Nothing that saves time or memory changes a label: the plain way does all at once."""

from itertools import chain, combinations

import numpy as np
import pytest
import torch

from inflate3d.inference.predictor import Predictor
from inflate3d.preparation.model_space import to_model_space
from inflate3d.volume import Volume
from inflate3d.windows.resample import (
    field_matrices,
    field_sides,
    normalize,
    own_pixels,
    resample_windows,
    sample_logits,
)
from inflate3d.windows.windows import window_indices

AFFINE = np.diag([-0.9, 0.8, 2.5, 1.0])


def a_scan(shape=(31, 37, 9), modalities=1, dtype=np.int16):
    voxels = np.random.default_rng(3).integers(-200, 400, (modalities, *shape))
    return Volume((voxels - voxels.min() * (np.dtype(dtype).kind == "u")).astype(dtype), AFFINE)


def plainly(models, volume, *, mirror=False, every=1):
    """Labels by whole arrays: every window of the frame, every logit on the scan's own grid, one argmax."""
    totals = []
    frames = [to_model_space(volume, model.plan) for model in models]
    for model, framed in zip(models, frames, strict=True):
        image = torch.from_numpy(framed.image().astype(np.float32))
        rows, columns = image.shape[2:]
        sides = torch.tensor([[rows * framed.spacing[1], columns * framed.spacing[2]]])
        size = model.architecture.image_size
        fields = field_sides(sides, size, model.plan.pixel_spacing)
        count = image.shape[1]
        indices = window_indices(np.arange(count), model.architecture.depth, model.plan.stride, count)
        windows = image[:, indices].movedim(0, 1)
        windows = normalize(
            windows, torch.tensor(framed.value_ranges(model.plan.normalization))[None].expand(count, -1, -1)
        )
        windows = resample_windows(windows, field_matrices(sides, fields).expand(count, -1, -1), size)
        logits = mirrored(model, windows) if mirror else model(windows)
        logits = along_depth(logits, framed.own_slices, every)
        same = [part.expand(len(logits), -1) for part in (sides, fields)]
        own = (
            logits
            if size == (rows, columns) and fields is sides
            else sample_logits(logits, own_pixels((rows, columns), *same))
        )
        totals.append(own)
    classes = torch.stack(totals).sum(0).argmax(1).numpy()
    return frames[0].orientation.undo(models[0].plan.label_values[classes])


def mirrored(model, windows):
    axes = [axis for axis, allowed in zip((-3, -2, -1), model.plan.flips, strict=True) if allowed]
    subsets = list(chain.from_iterable(combinations(axes, count) for count in range(len(axes) + 1)))
    return sum(model(windows.flip(some)).flip([axis for axis in some if axis != -3]) for some in subsets) / len(subsets)


def along_depth(logits, own_slices, every):
    """Every n-th slice and the last, interpolated to the frame's slices, and those to the scan's own."""
    kept = np.union1d(np.arange(0, len(logits), every), len(logits) - 1)
    positions = ((np.arange(own_slices) + 0.5) * len(logits) / own_slices - 0.5).clip(0, len(logits) - 1)
    slices = []
    for position in positions:
        above = min(int(np.searchsorted(kept, position)), len(kept) - 1)
        below = above if kept[above] == position else above - 1
        share = 0.0 if above == below else (position - kept[below]) / (kept[above] - kept[below])
        slices.append(torch.lerp(logits[kept[below]], logits[kept[above]], float(share)))
    return torch.stack(slices)


def assert_same(labels, expected):
    assert labels.shape == expected.shape
    assert len(np.unique(expected)) > 1
    assert np.array_equal(labels, expected)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("classes", "memory", "batch_size"),
    [(2, None, 1), (5, None, 3), (40, None, 64), (2, 0.003, 64), (5, 0.003, 3), (40, 0.0004, 3), (5, 0.0004, 1)],
)
def test_batches_and_budgets(sums, classes, memory, batch_size):
    model, scan = sums(classes), a_scan()
    labels = (
        Predictor(model, device="cpu", batch_size=batch_size, memory=memory and memory * classes).predict(scan).labels
    )
    assert_same(labels, plainly([model], scan))


@pytest.mark.slow
@pytest.mark.parametrize(
    "planned",
    [
        {"slice_spacing": 1.1},
        {"slice_spacing": 6.0},
        {"pixel_spacing": (1.3, 0.7)},
        {"image_size": (31, 37)},  # the scan's own pixels
        {"image_size": (37, 31), "depth_axis": "coronal", "stride": 2},
        {"depth_axis": "sagittal", "slice_spacing": 2.0, "pixel_spacing": (2.0, 3.0), "depth": 5},
    ],
)
@pytest.mark.parametrize(("every", "mirror"), [(1, True), (2, False), (3, True), (50, False)])
def test_frames_strides_and_mirrors(sums, planned, every, mirror):
    model, scan = sums(4, modalities=2, **{"flips": (True, False, True), **planned}), a_scan(modalities=2)
    predictor = Predictor(model, device="cpu", batch_size=2, flips=mirror, slice_step=every, memory=0.004)
    assert_same(predictor.predict(scan).labels, plainly([model], scan, mirror=mirror, every=every))


@pytest.mark.parametrize("shape", [(1, 1, 3), (1, 50, 4), (23, 1, 3), (7, 5, 11)])
def test_odd_shapes(sums, shape):
    model, scan = sums(), a_scan(shape)
    assert np.array_equal(Predictor(model, device="cpu", batch_size=2).predict(scan).labels, plainly([model], scan))


@pytest.mark.slow
@pytest.mark.parametrize(
    "dtype", [np.uint8, np.uint16, np.int16, np.uint32, np.int32, np.int64, np.float32, np.float64]
)
def test_voxel_types(sums, dtype):
    model, scan = sums(), a_scan(dtype=dtype)
    assert_same(Predictor(model, device="cpu").predict(scan).labels, plainly([model], scan))


def test_networks_of_different_sizes_are_averaged_on_the_scans_own_pixels(sums):
    """Logits of the same grid are added there, so that the sums are rounded in another order than the plain ones."""
    models = [sums(4), sums(4, seed=1, depth=5), sums(4, seed=2, image_size=(31, 37), pixel_spacing=(1.0, 1.0))]
    scan = a_scan()
    labels = Predictor(models, device="cpu", batch_size=4).predict(scan).labels
    assert (labels != plainly(models, scan)).mean() < 1e-3
    assert (labels != plainly(models[:1], scan)).mean() > 0.05
    pair = [models[0], models[2]]
    assert_same(Predictor(pair, device="cpu", batch_size=4).predict(scan).labels, plainly(pair, scan))


def test_a_network_averaged_with_itself_is_itself(sums):
    model, scan = sums(4), a_scan()
    twice = Predictor([model, model], device="cpu", batch_size=4)
    assert_same(twice.predict(scan).labels, plainly([model], scan))


@pytest.mark.parametrize(("precision", "is_mixed"), [("32", False), ("bf16-mixed", True)])
def test_number_format_of_the_network_alone(sums, monkeypatch, precision, is_mixed):
    model, seen = sums(4), []
    real = model.forward
    monkeypatch.setattr(
        model, "forward", lambda windows: seen.append(torch.is_autocast_enabled("cpu")) or real(windows)
    )
    labels = Predictor(model, device="cpu", precision=precision).predict(a_scan()).labels
    assert set(seen) == {is_mixed}
    assert_same(labels, plainly([model], a_scan()))  # which has no matrix product to be rounded


def test_likeliest_class_is_the_first_of_equal_ones():
    from inflate3d.inference.outputs import argmax_class

    logits = torch.randint(0, 3, (7, 40, 50)).float()
    assert torch.equal(argmax_class(logits).long(), logits.argmax(0))
    assert (argmax_class(torch.zeros(3, 2, 2)) == 0).all()
