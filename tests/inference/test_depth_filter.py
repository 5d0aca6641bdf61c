"""A Gaussian along the depth: its values, and that streaming and predicting give what the whole array gives."""

import math

import numpy as np
import pytest
import torch

from inflate3d.inference.depth_filter import depth_kernel, filter_depth
from inflate3d.inference.predictor import Predictor
from inflate3d.models.oom import MemoryBudgetError
from inflate3d.volume import Volume


def filtered(logits, *kernels):
    """By the stream, slice by slice, for each kernel all slices."""
    stream = filter_depth(iter([[each[None]] for each in logits]), kernels)
    return [torch.cat([one for (one,) in slices]) for slices in zip(*stream, strict=True)]


def oracle(logits, deviation, spacing):
    """By the whole array, as a matrix of weights from each slice to each."""
    steps = np.subtract.outer(np.arange(len(logits)), np.arange(len(logits)))
    weights = np.exp(-0.5 * (steps * spacing / deviation) ** 2) if deviation else (steps == 0).astype(float)
    weights[weights < 1e-3] = 0
    weights /= weights.sum(axis=1, keepdims=True)
    return np.tensordot(weights, np.asarray(logits, dtype=np.float64), 1)


def test_a_constant_volume_stays():
    logits = torch.full((9, 3, 2, 2), 1.7)
    (out,) = filtered(logits, depth_kernel(2.0, 1.0, 9))
    torch.testing.assert_close(out, logits)


@pytest.mark.parametrize("spacing", [1.0, 3.0])
def test_an_impulse_becomes_the_gaussian_in_millimeters(spacing):
    logits = torch.zeros(41, 1, 1, 1)
    logits[20] = 1.0
    (out,) = filtered(logits, depth_kernel(3.0, spacing, 41))
    ratios = (out / out[20]).flatten().tolist()
    assert ratios[21] == ratios[19] == pytest.approx(math.exp(-((spacing / 3.0) ** 2) / 2))
    assert ratios[22] == pytest.approx(math.exp(-((2 * spacing / 3.0) ** 2) / 2))
    assert out.sum() == pytest.approx(1.0)
    if spacing == 1.0:
        places = torch.arange(41) - 20.0
        assert (out.flatten() * places**2).sum() == pytest.approx(9.0, rel=0.02)  # the variance, but for the ends


def test_no_filter_and_slices_too_far_apart_leave_the_very_same_numbers():
    logits = torch.randn(5, 2, 3, 3)
    for kernel in (depth_kernel(0.0, 1.0, 5), depth_kernel(1.0, 10.0, 5), depth_kernel(9.0, 1.0, 1)):
        assert kernel == (1.0,)
    (out,) = filtered(logits, (1.0,))
    assert torch.equal(out, logits)
    same, other = filtered(logits, (1.0,), depth_kernel(1.0, 1.0, 5))
    assert torch.equal(same, logits)
    assert not torch.equal(other, logits)


@pytest.mark.parametrize("slices", [1, 2, 3, 7, 30])
def test_the_stream_gives_what_the_whole_array_gives(slices):
    logits = torch.randn(slices, 3, 4, 5)
    deviations = (0.0, 0.4, 1.1, 2.5)
    kernels = [depth_kernel(each, 0.8, slices) for each in deviations]
    for out, deviation in zip(filtered(logits, *kernels), deviations, strict=True):
        np.testing.assert_allclose(out, oracle(logits, deviation, 0.8), atol=1e-5)


SCAN = Volume(
    np.random.default_rng(0).integers(-200, 400, (1, 31, 37, 11)).astype(np.int16), np.diag([-0.9, 0.8, 2.5, 1.0])
)


def in_plane(predictor, scan, **options):
    """The logits of all own slices without a filter, ``(slices, k, h, w)``, on the scan's own pixels."""
    framed = predictor._to_model_space(scan)
    grids = predictor._grids(framed)
    pixels = predictor._own_pixels(framed, grids)
    slices = [pixels.total(logits, slice(None)) for logits in predictor._slice_logits(framed)]
    return framed, torch.stack(slices)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("batch_size", "planned", "settings"),
    [
        (1, {}, {}),
        (4, {"slice_spacing": 1.1}, {"slice_step": 2}),
        (100, {"depth_axis": "coronal"}, {"flips": True}),
    ],
)
def test_prediction_with_a_filter(sums, batch_size, planned, settings):
    """Class scores are the softmax of the filtered logits; millimeters are those of the scan's own slices."""
    predictor = Predictor(sums(4, **planned), device="cpu", batch_size=batch_size, **settings)
    framed, logits = in_plane(predictor, SCAN)
    spacing = 0.8 if planned.get("depth_axis") == "coronal" else 2.5
    assert framed.slice_spacing == pytest.approx(spacing)
    prediction = predictor.predict(
        SCAN, class_scores=not settings.get("flips"), depth_filter=3.0, other_filters=(0.0, 1.0)
    )
    for labels, deviation in zip((prediction.labels, *prediction.other_labels), (3.0, 0, 1), strict=True):
        expected = oracle(logits, deviation, spacing)
        second, first = np.sort(expected, axis=1)[:, -2:].swapaxes(0, 1)
        values = predictor.plan.label_values[expected.argmax(1)]
        clear = first - second > 1e-4
        assert clear.mean() > 0.7  # noise and flips leave ties
        assert np.array_equal(framed.orientation.apply(labels)[clear], values[clear])
    if prediction.class_scores is not None:
        scores = np.stack([framed.orientation.apply(each) for each in prediction.class_scores], 1)
        odds = np.exp(oracle(logits, 3.0, spacing))
        np.testing.assert_allclose(scores, odds / odds.sum(1, keepdims=True), atol=1e-4)
    assert np.array_equal(prediction.other_labels[0], predictor.predict(SCAN).labels)
    assert (prediction.labels != prediction.other_labels[0]).mean() > 0.05


def test_an_ensemble_of_grids_is_filtered_as_its_sum(sums):
    models = [sums(4), sums(4, seed=1, depth=5, image_size=(31, 37))]
    predictor = Predictor(models, device="cpu")
    framed, logits = in_plane(predictor, SCAN)
    prediction = predictor.predict(SCAN, confidence=True, uncertainty=True, depth_filter=4.0)
    expected = oracle(logits, 4.0, 2.5).argmax(1)
    same = framed.orientation.apply(prediction.labels) == predictor.plan.label_values[expected]
    assert same.mean() > 0.999
    plain = predictor.predict(SCAN, confidence=True, uncertainty=True)
    assert prediction.confidence and plain.confidence
    assert prediction.uncertainty is not None and plain.uncertainty is not None
    assert prediction.confidence.value != plain.confidence.value
    assert prediction.uncertainty.mean() != plain.uncertainty.mean()


def test_the_filter_counts_in_the_memory_budget(sums):
    predictor = Predictor(sums(40), device="cpu", memory=0.0025)
    plain = predictor.predict(SCAN)
    with pytest.raises(MemoryBudgetError):
        predictor.predict(SCAN, depth_filter=20.0)
    assert np.array_equal(predictor.predict(SCAN, depth_filter=0.1).labels, plain.labels)
