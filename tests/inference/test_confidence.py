"""How far a prediction can be trusted: the counters by hand and by the metrics, the predictor by its own members."""

# pyright: reportOptionalMemberAccess=false, reportCallIssue=false, reportArgumentType=false

import itertools
import json
import math

import numpy as np
import pytest
import torch

from inflate3d.evaluation.metrics import dice, overlap_counts
from inflate3d.inference.outputs import entropy_percent
from inflate3d.inference.predictor import Predictor
from inflate3d.inference.uncertainty import (
    KINDS,
    AgreementCounter,
    Confidence,
    SoftDiceCounter,
)
from inflate3d.models.volumetric import create_volumetric
from inflate3d.volume import Volume

NAN = math.nan
SCAN = Volume(
    np.random.default_rng(3).integers(-200, 400, (1, 31, 37, 9)).astype(np.int16), np.diag([-0.9, 0.8, 2.5, 1.0])
)


def pairwise(maps, classes):
    """Mean Dice over pairs, class by class, by the scores' own formula; pairs without the class are left out."""
    values = [
        dice(overlap_counts(torch.from_numpy(one).long(), torch.from_numpy(other).long(), classes))[1:].numpy()
        for one, other in itertools.combinations(maps, 2)
    ]
    defined = ~np.isnan(values)
    return np.divide(np.nansum(values, 0), defined.sum(0), out=np.full(classes - 1, NAN), where=defined.any(0))


def class_maps(predictor, labels):
    return np.searchsorted(predictor.plan.label_values, labels).astype(np.uint8)


@pytest.mark.parametrize("members", [2, 3, 8])
def test_agreement_is_the_mean_of_the_pairs_dice(members):
    random = np.random.default_rng(members)
    maps = random.integers(0, 4, (members, 6, 7, 5)).astype(np.uint8)  # class 4 of five is nowhere
    counter = AgreementCounter(members, 5)
    for part in np.array_split(maps, 3, axis=1):
        counter.add(part)
    np.testing.assert_allclose(counter.values(), pairwise(maps, 5))
    assert np.isnan(counter.values()[3])


def test_agreement_by_hand():
    counter = AgreementCounter(3, 3)
    counter.add(np.array([[1, 1, 0, 0], [1, 0, 0, 0], [1, 1, 0, 2]], np.uint8))
    first, second = counter.values()
    assert first == pytest.approx((2 / 3 + 1 + 2 / 3) / 3)
    assert second == 0  # one says it, the two others don't; the pair that is silent says nothing


def test_soft_dice_of_certain_probabilities_is_one():
    chosen = torch.randint(0, 3, (8, 9), generator=torch.Generator().manual_seed(0)).to(torch.uint8)
    counter = SoftDiceCounter(4)
    counter.add(chosen, torch.nn.functional.one_hot(chosen.long(), 4).movedim(-1, 0).float())
    assert counter.values()[:2] == pytest.approx([1, 1])
    assert np.isnan(counter.values()[2])


def test_soft_dice_by_its_formula():
    probabilities = torch.rand(3, 20, 11, generator=torch.Generator().manual_seed(1)).log().softmax(0)
    chosen, counter = probabilities.argmax(0).to(torch.uint8), SoftDiceCounter(3)
    for rows in (slice(0, 13), slice(13, 20)):
        counter.add(chosen[rows], probabilities[:, rows])
    expected = [
        float(2 * probabilities[k][chosen == k].sum() / (probabilities[k].sum() + (chosen == k).sum())) for k in (1, 2)
    ]
    np.testing.assert_allclose(counter.values(), expected, rtol=1e-5)


def test_soft_dice_is_near_the_dice_to_be_expected():
    """Labels are drawn from the probabilities: the mean of their Dice is what it stands for."""
    random = np.random.default_rng(0)
    sure = random.beta(0.4, 0.4, (60, 60))
    chosen = sure > 0.5
    counter = SoftDiceCounter(2)
    counter.add(torch.from_numpy(chosen.astype(np.uint8)), torch.from_numpy(np.stack([1 - sure, sure])).float())
    drawn = random.random((200, 60, 60)) < sure
    found = 2 * (drawn & chosen).sum((1, 2)) / (drawn.sum((1, 2)) + chosen.sum())
    assert counter.values()[0] == pytest.approx(found.mean(), abs=0.003)


def test_confidence_is_the_mean_over_predicted_classes():
    found = Confidence("networks", {"liver": 0.9, "tumor": 0.5, "cyst": NAN})
    assert (found.value, found.least) == (pytest.approx(0.7), "tumor")
    document = json.loads(json.dumps(found.to_dict(), allow_nan=False))
    assert document == {"kind": "networks", "value": 0.7, "classes": {"liver": 0.9, "tumor": 0.5, "cyst": None}}
    nothing = Confidence("soft dice", {"liver": NAN})
    assert math.isnan(nothing.value)
    assert nothing.least is None
    assert nothing.to_dict()["value"] is None
    assert set(KINDS) == {"planes", "networks", "flips", "soft dice"}


def test_entropy():
    even, certain = torch.full((4, 2, 3), 0.25), torch.zeros(4, 2, 3)
    certain[2] = 1
    half = torch.tensor([0.5, 0.5, 0, 0])[:, None, None]
    assert (entropy_percent(even) == 100).all()
    assert (entropy_percent(certain) == 0).all()
    assert entropy_percent(half).item() == 50


def networks(sums):
    return {
        "one": ([sums(4)], {}),
        "alike": ([sums(4), sums(4, seed=1, depth=5), sums(4, seed=2)], {}),
        "other grids": ([sums(4), sums(4, seed=1, depth=5), sums(4, seed=2, image_size=(31, 37))], {"slice_step": 2}),
        "mirrored": ([sums(4)], {"flips": True}),
        "mirrored networks": (
            [sums(4, seed=seed, flips=(False, True, True)) for seed in (0, 1)],
            {"flips": True, "memory": 0.004},
        ),
    }


ENSEMBLES = ["one", "alike", "other grids", "mirrored", "mirrored networks"]


@pytest.mark.slow
@pytest.mark.parametrize("uncertainty", [False, True])
@pytest.mark.parametrize("name", ENSEMBLES)
def test_labels_are_those_of_a_plain_prediction(sums, name, uncertainty):
    models, options = networks(sums)[name]
    predictor = Predictor(models, device="cpu", batch_size=4, **options)
    assessed = predictor.predict(SCAN, confidence=True, uncertainty=uncertainty)
    expected = predictor.predict(SCAN).labels
    assert np.array_equal(assessed.labels, expected)
    assert assessed.labels.dtype == expected.dtype
    assert (assessed.uncertainty is not None) == uncertainty


@pytest.mark.parametrize("name", ["alike", "other grids", "mirrored networks"])
def test_networks_are_held_against_each_other(sums, name):
    models, options = networks(sums)[name]
    predictor = Predictor(models, device="cpu", batch_size=4, **options)
    found = predictor.predict(SCAN, confidence=True).confidence
    maps = [
        class_maps(predictor, Predictor(model, device="cpu", batch_size=4, **options).predict(SCAN).labels)
        for model in models
    ]
    assert found.kind == "networks"
    assert list(found.classes) == list(predictor.plan.class_names[1:])
    np.testing.assert_allclose(list(found.classes.values()), pairwise(maps, 4))
    assert 0 < found.value < 1


def test_mirror_images_are_held_against_each_other(sums):
    model = sums(4, flips=(True, False, True))
    predictor = Predictor(model, device="cpu", flips=True)
    found = predictor.predict(SCAN, confidence=True).confidence
    maps = []
    for mirror in ((), (-3,), (-1,), (-3, -1)):
        alone = Predictor(model, device="cpu", flips=True)
        alone._scorers[0].flips = (mirror,)
        maps.append(class_maps(predictor, alone.predict(SCAN).labels))
    assert found.kind == "flips"
    np.testing.assert_allclose(list(found.classes.values()), pairwise(maps, 4))


def test_a_single_network_has_the_soft_dice_of_its_own_probabilities(sums):
    predictor = Predictor(sums(4, image_size=(31, 37)), device="cpu")  # the scan's own pixels
    assessed = predictor.predict(SCAN, confidence=True, uncertainty=True)
    framed = predictor._to_model_space(SCAN)
    probabilities = torch.cat([logits for (logits,) in predictor._slice_logits(framed)]).softmax(1)
    chosen = torch.from_numpy(framed.orientation.apply(class_maps(predictor, assessed.labels)).copy())
    found = assessed.confidence
    assert found.kind == "soft dice"
    for number, value in enumerate(found.classes.values(), start=1):
        own, all_of_it = probabilities[:, number], chosen == number
        assert value == pytest.approx(float(2 * own[all_of_it].sum() / (own.sum() + all_of_it.sum())), rel=1e-5)
    entropy = torch.distributions.Categorical(probabilities.movedim(1, -1)).entropy() / math.log(4) * 100
    assert assessed.uncertainty is not None
    shown = torch.from_numpy(framed.orientation.apply(assessed.uncertainty).astype(np.float32))
    assert (shown - entropy).abs().max() < 0.501


@pytest.mark.parametrize(("count", "flips"), [(1, False), (2, False), (1, True)])
def test_soft_dice_is_that_of_the_mean_logits_whatever_the_kind(sums, count, flips):
    models = [sums(4, image_size=(31, 37), seed=seed, flips=(False, False, True)) for seed in range(count)]
    predictor = Predictor(models, device="cpu", flips=flips)
    assessed = predictor.predict(SCAN, confidence=True)
    framed = predictor._to_model_space(SCAN)
    total = torch.cat([logits for (logits,) in predictor._slice_logits(framed)])  # the mean over flips
    probabilities = total.div(count).softmax(1)
    chosen = torch.from_numpy(framed.orientation.apply(class_maps(predictor, assessed.labels)).copy())
    for number, value in enumerate(assessed.confidence.soft.values(), start=1):
        own, all_of_it = probabilities[:, number], chosen == number
        assert value == pytest.approx(float(2 * own[all_of_it].sum() / (own.sum() + all_of_it.sum())), rel=1e-5)


def test_uncertainty_is_that_of_the_mean_over_members(sums):
    """Two that are as good as certain and say different things at a voxel: one of two classes, so half of log2 of 4."""
    models = [sums(4), sums(4, seed=1)]
    for model in models:
        model.weights = model.weights * 1e6
    predictor = Predictor(models, device="cpu")
    assessed = predictor.predict(SCAN, confidence=True, uncertainty=True)
    one, other = (Predictor(model, device="cpu").predict(SCAN).labels for model in models)
    assert assessed.uncertainty is not None
    assert (assessed.uncertainty[one == other] == 0).mean() > 0.99
    assert (assessed.uncertainty[one != other] == 50).mean() > 0.99


def test_a_network_agrees_with_itself(sums):
    model = sums(4)
    found = Predictor([model, model], device="cpu").predict(SCAN, confidence=True).confidence
    assert found.value == 1


def test_nothing_predicted_has_no_confidence(sums):
    model = sums(3)
    model.weights = torch.zeros_like(model.weights)  # of equal logits the first counts: background
    assessed = Predictor(model, device="cpu").predict(SCAN, confidence=True, uncertainty=True)
    assert not assessed.labels.any()
    assert math.isnan(assessed.confidence.value)
    assert assessed.uncertainty is not None
    assert (assessed.uncertainty == 100).all()


def test_3d_networks_have_members_in_networks_alone(phantom_store):
    """Each mirror image of a 3D network would take an array of classes × voxels."""
    torch.manual_seed(0)
    model = create_volumetric("segresnet", in_channels=1, num_classes=5, patch_size=(8, 32, 32), width=8)
    flips = {"flips": (True, False, False), "slice_spacing": None}
    model.plan = phantom_store.plan.model_copy(update=flips)
    single = Predictor(model, device="cpu", flips=True).predict(SCAN, confidence=True).confidence
    pair = Predictor([model, model], device="cpu").predict(SCAN, confidence=True).confidence
    assert (single.kind, pair.kind) == ("soft dice", "networks")
    assert pair.value == 1


def test_class_scores_are_the_mean_probabilities(sums):
    predictor = Predictor([sums(4), sums(4, seed=1)], device="cpu")
    found = predictor.predict(SCAN, class_scores=True)
    assert found.confidence is None
    assert found.class_scores.shape == (4, *SCAN.shape)
    np.testing.assert_allclose(found.class_scores.sum(0), 1, atol=1e-5)
    each = [Predictor(model, device="cpu").predict(SCAN, class_scores=True).class_scores for model in predictor.models]
    np.testing.assert_allclose(found.class_scores, np.mean(each, axis=0), atol=1e-5)
    single = Predictor(predictor.models[0], device="cpu").predict(SCAN, class_scores=True)
    assert np.array_equal(predictor.plan.label_values[single.class_scores.argmax(0)], single.labels)
