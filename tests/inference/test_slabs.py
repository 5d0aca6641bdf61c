"""Depth mixing in prediction: slices are scored in slabs, whose length changes nothing."""

import numpy as np
import pytest
import torch

from inflate3d.inference.flips import combine_flips
from inflate3d.inference.predictor import Predictor
from inflate3d.models.encoders import create_encoder
from inflate3d.models.segmenter import create_model
from inflate3d.volume import Volume


@pytest.fixture(scope="module")
def model(sums):
    torch.manual_seed(0)
    encoder = create_encoder("resnet10t", depth=1, image_size=64, weights="none")
    model = create_model(encoder=encoder, num_classes=3, decoder_channels=8, depth_mixing="decoder")
    for name, parameter in model.named_parameters():
        if name.startswith(("mixer", "correct", "classifier")):
            torch.nn.init.normal_(parameter, std=0.7)
    model.plan = sums(depth=1, image_size=(64, 64), flips=(True, False, True)).plan
    return model.eval()


@pytest.fixture(scope="module")
def scan():
    array = np.random.default_rng(0).normal(100, 150, (1, 11, 12, 17)).astype(np.float32)
    return Volume(array, np.diag([1.0, 1.0, 2.0, 1.0]))


def scores(model, scan, **settings):
    found = Predictor(model, device="cpu", **settings).predict(scan, class_scores=True).class_scores
    assert found is not None
    return found


@pytest.mark.slow
@pytest.mark.parametrize("settings", [{}, {"flips": True}])
@pytest.mark.parametrize("batch_size", [1, 3, 5])
def test_length_of_the_slabs_changes_nothing(model, scan, settings, batch_size):
    whole = scores(model, scan, batch_size=100, **settings)
    np.testing.assert_allclose(scores(model, scan, batch_size=batch_size, **settings), whole, atol=1e-5)


@pytest.mark.slow
def test_another_runtime_gives_the_same_scores(model, scan):
    theirs = scores(model, scan, batch_size=4, runtime="onnxruntime")
    np.testing.assert_allclose(theirs, scores(model, scan), atol=1e-4)


def test_slices_see_their_neighbors(model, scan):
    other = scan.array.copy()
    other[..., 8] = np.random.default_rng(1).normal(100, 150, other.shape[:-1])
    changed = np.abs(scores(model, Volume(other, scan.affine)) - scores(model, scan)).max((0, 1, 2)) > 1e-6
    assert changed.nonzero()[0].tolist() == list(range(5, 12))


def test_step_between_slices_scores_the_same_slices(model, scan):
    every, third = scores(model, scan), scores(model, scan, slice_step=4)
    np.testing.assert_allclose(third[..., ::4], every[..., ::4], atol=1e-5)


@pytest.mark.slow
def test_flips_along_the_depth_are_flipped_back(model, scan):
    assert (2,) not in combine_flips((True, False, True)) and (-3,) in combine_flips((True, False, True))
    upside_down = Volume(scan.array[..., ::-1].copy(), scan.affine)
    plain, turned = (scores(model, each, flips=True) for each in (scan, upside_down))
    np.testing.assert_allclose(turned[..., ::-1], plain, atol=1e-5)
