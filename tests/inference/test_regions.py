"""Nested regions predict what exclusive classes do where they must, through everything that a prediction does."""

import itertools
import math

import numpy as np
import pytest
import torch

from inflate3d.datasets.regions import Regions
from inflate3d.errors import ModelError
from inflate3d.inference.outputs import RegionOutputs
from inflate3d.inference.predictor import Predictor
from inflate3d.inference.uncertainty import AgreementCounter, SoftDiceCounter
from inflate3d.volume import Volume

SCAN = Volume(
    np.random.default_rng(3).integers(-200, 400, (1, 31, 37, 9)).astype(np.int16), np.diag([-0.9, 0.8, 2.5, 1.0])
)
NESTED = {"whole": (7, 14, 21), "core": (14, 21), "enhancing": (21,)}
"""Of the label values 0, 7, 14 and 21 that `sums` has."""


def pair(sums, *, order=(), seed=0, **planned):
    """Exclusive classes, and nested regions whose logits are the differences of theirs: 0, w, w + c, w + c + e."""
    exclusive = sums(4, seed=seed, **planned)
    nested = sums(4, seed=seed, regions=Regions(values=NESTED, order=order), **planned)
    nested.weights = exclusive.weights[1:] - exclusive.weights[:-1]
    return exclusive, nested


@pytest.mark.parametrize(
    "how",
    [{}, {"flips": True}, {"slice_step": 3}, {"schedule": "adaptive"}, {"memory": 0.05}],
    ids=["plain", "flips", "every third slice", "adaptive", "little memory"],
)
def test_nested_regions_give_the_labels_of_exclusive_classes(sums, how):
    exclusive, nested = (Predictor(each, **how) for each in pair(sums, thinnest=(5.0, 5.0, 5.0)))
    expected = exclusive.predict(SCAN, depth_filter=2.0).labels
    assert len(np.unique(expected)) > 1
    assert np.array_equal(nested.predict(SCAN, depth_filter=2.0).labels, expected)


def test_ensembles_give_the_labels_of_exclusive_classes(sums):
    pairs = [pair(sums, seed=seed) for seed in (0, 1)]
    exclusive, nested = (Predictor(list(each)) for each in zip(*pairs, strict=True))
    assert np.array_equal(nested.predict(SCAN).labels, exclusive.predict(SCAN).labels)
    with pytest.raises(ModelError, match="regions differ"):
        Predictor([pairs[0][1], pair(sums, order=(7, 14, 21))[1]])


def test_one_region_is_a_class_and_the_background(sums):
    """Labels, probabilities, confidence and planes: the sigmoid of a difference is the softmax of two."""
    for planes in ("one", "all"):
        exclusive = sums(2, planes=planes)
        single = sums(2, planes=planes, regions=Regions(values={"liver": (7,)}, order=(7,)))
        single.weights = exclusive.weights[1:] - exclusive.weights[:1]
        ours, theirs = (
            Predictor(each).predict(SCAN, confidence=True, uncertainty=True, class_scores=True)
            for each in (single, exclusive)
        )
        assert np.array_equal(ours.labels, theirs.labels)
        assert ours.class_scores is not None and theirs.class_scores is not None
        np.testing.assert_allclose(ours.class_scores[0], theirs.class_scores[1], atol=1e-6)
        assert ours.confidence is not None and theirs.confidence is not None
        assert ours.confidence.classes["liver"] == pytest.approx(theirs.confidence.classes["class 1"], abs=1e-6)
        assert ours.uncertainty is not None and theirs.uncertainty is not None
        assert np.abs(ours.uncertainty.astype(int) - theirs.uncertainty).max() <= 1  # percent, rounded


def test_regions_are_written_one_after_another(sums):
    """As nnU-Net does it: also where a network contradicts itself."""
    outputs = RegionOutputs(pair(sums, order=(7, 14, 21))[1].plan)
    for signs in itertools.product([-1.0, 1.0], repeat=3):
        expected = 0
        for number, sign in enumerate(signs, start=1):
            expected = number if sign > 0 else expected
        assert outputs.choose(torch.tensor(signs).view(3, 1, 1)).item() == expected


def test_without_an_order_the_most_probable_value_is_written(sums):
    crossing = Regions(values={"liver": (7, 21), "vessel": (14, 21)})
    outputs = RegionOutputs(sums(4, regions=crossing).plan)
    logits = torch.randn(2, 50, 60, generator=torch.Generator().manual_seed(0))
    chance = logits.sigmoid()
    held = torch.tensor([[0, 1, 0, 1], [0, 0, 1, 1]])
    expected = [
        torch.stack([p if inside else 1 - p for p, inside in zip(chance, regions, strict=True)]).prod(0)
        for regions in held.T.tolist()
    ]
    chosen = outputs.choose(logits)
    assert torch.equal(chosen.long(), torch.stack(expected).argmax(0))
    assert torch.equal(held[:, chosen.long()].bool(), logits > 0)  # all combinations occur, so each is as predicted
    assert outputs.are_background(-logits.abs()[None]) and not outputs.are_background(logits[None])


def test_agreement_is_the_dice_of_the_regions():
    held = np.array([[0, 1, 1, 1], [0, 0, 1, 1], [0, 0, 0, 1]], bool)
    maps = np.random.default_rng(0).integers(0, 4, (3, 6, 7, 8))
    counter = AgreementCounter(3, 4, held)
    counter.add(maps[:, :4])
    counter.add(maps[:, 4:])
    expected = []
    for region in held:
        masks = region[maps]
        pairs = list(itertools.combinations(masks, 2))
        expected.append(np.mean([2 * (one & other).sum() / (one.sum() + other.sum()) for one, other in pairs]))
    np.testing.assert_allclose(counter.values(), expected)


def test_soft_dice_is_of_each_region():
    held = np.array([[0, 1, 1], [0, 0, 1]], bool)
    chosen = torch.randint(0, 3, (6, 7), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    probabilities = torch.rand(2, 6, 7, generator=torch.Generator().manual_seed(1))
    counter = SoftDiceCounter(3, held)
    counter.add(chosen, probabilities)
    masks = torch.from_numpy(held)[:, chosen.long()]
    expected = [float(2 * p[mask].sum() / (p.sum() + mask.sum())) for p, mask in zip(probabilities, masks, strict=True)]
    np.testing.assert_allclose(counter.values(), expected, rtol=1e-5)
    assert math.isnan(SoftDiceCounter(3, held).values()[0])


def test_the_least_certain_region_counts(sums):
    outputs = RegionOutputs(pair(sums)[1].plan)
    probabilities = torch.tensor([[1.0, 0.5, 0.9], [0.0, 1.0, 0.5], [0.0, 0.1, 0.0]])
    assert outputs.uncertainty(probabilities).tolist() == [0, 100, 100]


def test_plan_and_network_have_to_fit(sums):
    nested = pair(sums)[1]
    nested.plan = nested.plan.model_copy(update={"regions": None})
    with pytest.raises(ModelError, match="classes"):
        Predictor(nested)
    wrong = pair(sums)[1]
    wrong.plan = wrong.plan.model_copy(update={"regions": Regions(values={**NESTED, "core": (14, 35)})})
    with pytest.raises(ModelError, match="regions"):
        Predictor(wrong)
