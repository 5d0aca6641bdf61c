"""What is chosen, on cases whose islands and holes are known: steps that help clearly, and no others."""

import math
from functools import partial

import numpy as np
import pytest

from inflate3d.datasets.classes import IGNORED
from inflate3d.evaluation.metrics import dice, overlap_counts
from inflate3d.evaluation.postprocessing.choice import choose, gain_estimate, tally_case
from inflate3d.evaluation.postprocessing.steps import ClassSteps, Postprocessing

SHAPE = (24, 20, 12)
SPACING = (1.0, 2.0, 3.0)
CLASSES = {1: "organ", 2: "lesion"}


def organ(number=0):
    label = np.zeros(SHAPE, np.uint8)
    label[2 : 8 + number % 3, 2:10, 2:8] = 1
    return label


def kidneys(number=0):
    label = organ(number)
    label[16 : 20 + number % 2, 2:10, 2:8] = 1
    return label


def with_islands(label, number=0, size=2):
    predicted = label.copy()
    predicted[12 : 12 + size, 15:17, 9:11] = 1
    predicted[2, 2, 4 + number % 2] = 0  # a voxel of the surface, so that no case is perfect
    return predicted


def with_holes(label, number=0):
    predicted = label.copy()
    predicted[3:6, 4:7, 3 + number % 2 : 6] = 0
    return predicted


def tallied(labels, predictions, classes=3, spacing=SPACING):
    pairs = enumerate(zip(predictions, labels, strict=True))
    return {f"case{number}": tally_case(ours, truth, classes, spacing) for number, (ours, truth) in pairs}


def chosen_for(make_label, spoil, cases=8, spacing=SPACING):
    labels = [make_label(number) for number in range(cases)]
    predictions = [spoil(label, number) for number, label in enumerate(labels)]
    return choose(tallied(labels, predictions, spacing=spacing), CLASSES)


def test_islands_beside_one_organ_are_removed_and_the_gain_is_theirs():
    choice = chosen_for(organ, with_islands)
    (steps,) = choice.postprocessing.classes
    assert (steps.value, steps.name, steps.largest_component, steps.minimum_volume) == (1, "organ", True, 0.0)
    candidate = choice.candidates[0]
    assert (candidate.name, candidate.step, candidate.changed, candidate.kept) == (
        "organ",
        "largest component",
        8,
        True,
    )
    volumes = [48 * (6 + number % 3) for number in range(8)]
    expected = [2 * (size - 1) / (2 * size - 1) - 2 * (size - 1) / (2 * size - 1 + 8) for size in volumes]
    assert candidate.gain.value == pytest.approx(np.mean(expected))
    assert 0 < candidate.gain.low <= candidate.gain.value <= candidate.gain.high
    assert candidate.after - candidate.before == pytest.approx(candidate.gain.value)


@pytest.mark.parametrize("size", [1, 2, 3])
@pytest.mark.parametrize("spacing", [SPACING, (0.3, 0.3, 0.5), (0.1, 0.1, 0.1), (0.1, 0.1, 0.5), (0.7, 0.7, 1.0)])
def test_of_two_kidneys_both_stay_and_islands_beside_them_go(spacing, size):
    choice = chosen_for(kidneys, partial(with_islands, size=size), spacing=spacing)
    (steps,) = choice.postprocessing.classes
    assert not steps.largest_component
    island = 4 * size * math.prod(spacing)
    assert steps.minimum_volume == pytest.approx(island, rel=0.02)
    assert steps.minimum_volume > island
    assert choice.candidates[0].gain.high < 0


def test_two_kidneys_without_islands_are_left_alone():
    choice = chosen_for(kidneys, lambda label, number: label)
    assert choice.postprocessing == Postprocessing()
    assert [candidate.step for candidate in choice.candidates] == ["largest component"]


def test_holes_are_filled_where_the_label_has_none_and_left_where_it_has():
    filled = chosen_for(organ, with_holes).postprocessing.classes
    assert [(steps.value, steps.fill_holes, steps.removes) for steps in filled] == [(1, True, False)]
    assert not chosen_for(lambda number: with_holes(organ(number), number), lambda label, _: label).candidates[0].kept


def test_four_cases_that_change_are_too_few_however_much_they_gain():
    assert chosen_for(organ, with_islands, cases=4).postprocessing == Postprocessing()
    few = [with_islands if number < 4 else lambda label, _: label for number in range(8)]
    choice = chosen_for(organ, lambda label, number: few[number](label, number))
    assert choice.candidates[0].changed == 4
    assert choice.candidates[0].gain.value > 0
    assert choice.postprocessing == Postprocessing()


def test_a_gain_that_may_be_chance_is_not_taken():
    labels = [organ(number) for number in range(12)]
    for number in range(0, 12, 2):
        labels[number][12:14, 15:17, 9:11] = 1  # here the island is right
    choice = choose(tallied(labels, [with_islands(organ(number), number) for number in range(12)]), CLASSES)
    assert choice.candidates[0].changed == 12
    assert not any(candidate.kept for candidate in choice.candidates)


@pytest.mark.slow
def test_noise_is_rarely_taken_for_a_gain():
    """A step whose gains have a mean of 0 is kept about once in forty times, and not more often."""
    random = np.random.default_rng(0)
    kept = 0
    for _ in range(200):
        gains = random.normal(0, 0.01, (30, 1))
        kept += gain_estimate(np.full((30, 1), 0.8), 0.8 + gains).low > 0
    assert kept <= 12


def test_a_false_finding_in_a_case_without_the_class_counts():
    """Removed, it leaves the mean: 0 becomes no score."""
    empty = np.zeros(SHAPE, np.uint8)
    labels = [organ(number) for number in range(6)] + [empty] * 6
    predictions = labels[:6] + [with_islands(empty, size=2)] * 6
    choice = choose(tallied(labels, predictions), CLASSES)
    (steps,) = choice.postprocessing.classes
    assert not steps.largest_component
    assert steps.minimum_volume > 48
    kept = next(candidate for candidate in choice.candidates if candidate.kept)
    assert (kept.before, kept.after, kept.changed) == (0.5, 1.0, 6)


def test_two_scans_of_a_patient_gain_as_one():
    before, gains = np.full((12, 1), 0.8), np.repeat(np.random.default_rng(1).normal(0.01, 0.02, (6, 1)), 2, axis=0)
    alone = gain_estimate(before, before + gains)
    together = gain_estimate(before, before + gains, [str(number // 2) for number in range(12)])
    assert together.value == alone.value
    assert together.low < alone.low < alone.high < together.high


def test_interval_is_wider_where_more_was_tried():
    before, gains = np.full((20, 1), 0.8), np.random.default_rng(1).normal(0.01, 0.02, (20, 1))
    one, three = (gain_estimate(before, before + gains, tried=tried) for tried in (1, 3))
    assert three.low < one.low < one.value < one.high < three.high
    assert one.value == pytest.approx(gains.mean())


def test_no_cases_and_one_case_choose_nothing():
    assert choose({}, CLASSES).postprocessing == Postprocessing()
    tallies = tallied([organ()], [with_islands(organ())])
    assert choose(tallies, CLASSES).postprocessing == Postprocessing()


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize(
    "chosen",
    [
        {},
        {"largest_component": True},
        {"minimum_volume": 20.0},
        {"largest_component": True, "minimum_volume": 500.0},
        {"fill_holes": True},
    ],
)
def test_tallies_predict_the_dice_of_the_changed_map(seed, chosen):
    import torch

    random = np.random.default_rng(seed)
    label = random.choice(np.array([0, 1, 2, IGNORED], np.uint8), SHAPE, p=[0.5, 0.3, 0.15, 0.05])
    predicted = random.choice(np.array([0, 1, 2], np.uint8), SHAPE, p=[0.8, 0.17, 0.03])
    predicted[10:15, 10:15, 3:8] = 1
    predicted[12, 12, 5] = 0
    for number, tally in enumerate(tally_case(predicted, label, 3, SPACING), start=1):
        steps = ClassSteps(value=number, name="any", **chosen)
        cleaned = Postprocessing(classes=(steps,)).apply(predicted, SPACING)
        counted = dice(overlap_counts(torch.from_numpy(cleaned), torch.from_numpy(label), 3))[number]
        assert tally.dice_after(steps) == pytest.approx(float(counted))


def test_class_in_neither_map_has_no_dice():
    empty = np.zeros(SHAPE, np.uint8)
    tally = tally_case(empty, empty, 3, SPACING)[1]
    assert math.isnan(tally.dice_after(ClassSteps(value=2, name="lesion")))
