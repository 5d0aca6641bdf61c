"""The Dice to expect: by hand, its coverage on drawn cases, and what is not known."""

import math

import numpy as np
import pytest

from inflate3d.errors import ConfigError
from inflate3d.evaluation.calibration import MEAN, Calibration, CalibrationPairs, find_calibration

NAN = math.nan


def pairs_of(confidence, dice, group=None):
    group = range(len(dice)) if group is None else group
    return CalibrationPairs(confidence=tuple(confidence), dice=tuple(dice), group=tuple(group))


def expect(pairs, confidence):
    expected = pairs.expect(confidence)
    assert expected is not None
    return expected


def drawn(random, count):
    """Confidences that are too high, with errors that are skewed, as those of networks are."""
    confidence = random.uniform(0.5, 0.95, count)
    return confidence, np.clip(confidence - 0.1 - random.exponential(0.08, count), 0, 1)


def test_the_bound_is_the_jackknifes():
    """By leaving out each case in turn with polyfit."""
    random = np.random.default_rng(1)
    confidence, dice = drawn(random, 25)
    lows = []
    for out in range(25):
        kept = np.arange(25) != out
        slope, shift = np.polyfit(confidence[kept], dice[kept], 1)
        lows.append(slope * 0.8 + shift + dice[out] - (slope * confidence[out] + shift))
    expected = expect(pairs_of(confidence, dice), 0.8)
    assert expected.low == pytest.approx(sorted(lows)[1])  # the second of 25, floor(0.1 * 26)
    assert expected.value == pytest.approx(np.polyval(np.polyfit(confidence, dice, 1), 0.8))


def test_nine_in_ten_reach_the_bound():
    random = np.random.default_rng(0)
    reached = []
    for _ in range(40):
        pairs = pairs_of(*drawn(random, 20))
        reached += [dice >= expect(pairs, value).low for value, dice in zip(*drawn(random, 3), strict=True)]
    assert np.mean(reached) == pytest.approx(0.9, abs=0.08)  # three standard errors


def test_a_patients_scans_are_left_out_together():
    confidence, dice = drawn(np.random.default_rng(2), 12)
    single = expect(pairs_of(confidence, dice), 0.7)
    twice = expect(pairs_of(np.repeat(confidence, 2), np.repeat(dice, 2), np.repeat(range(12), 2)), 0.7)
    assert twice.value == pytest.approx(single.value)
    assert twice.low == pytest.approx(sorted(_lows(confidence, dice, 0.7))[0])  # of 24, the second: the same patient's


def _lows(confidence, dice, at):
    for out in range(len(dice)):
        kept = np.arange(len(dice)) != out
        slope, shift = np.polyfit(confidence[kept], dice[kept], 1)
        yield slope * at + shift + dice[out] - (slope * confidence[out] + shift)


def test_what_is_not_known_is_not_said():
    assert pairs_of([0.5] * 9, [0.5] * 9).expect(0.5) is None
    assert pairs_of([0.5] * 10, [0.5] * 10).expect(NAN) is None
    assert pairs_of([0.5] * 10, [0.4] * 10).expect(0.9) == (0.4, 0.4)  # all confidences alike: the mean


def test_pairs_of_scores_leave_out_what_is_undefined(tmp_path):
    confidence = np.array([[0.9, NAN], [0.8, 0.7]])
    dice = np.array([[0.85, 0.0], [0.75, NAN]])
    found = Calibration.of(("liver", "tumor"), confidence, dice, ("p", "p"))
    assert found.classes["liver"] == pairs_of([0.8, 0.9], [0.75, 0.85], [0, 0])
    assert found.classes["tumor"].dice == ()
    assert found.classes[MEAN] == pairs_of([0.75, 0.9], [0.75, 0.85], [0, 0])
    found.write(tmp_path / "model" / "calibration.json")
    assert find_calibration(tmp_path) == found
    assert found.expect({"liver": 0.9, "tumor": NAN}) == {}
    (tmp_path / "calibration.json").write_text("{}x")
    with pytest.raises(ConfigError):
        find_calibration(tmp_path)
