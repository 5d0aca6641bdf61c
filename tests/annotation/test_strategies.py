"""The order in which cases are to be labeled."""

import math
from collections import Counter

import numpy as np
import pytest

from inflate3d.annotation.strategies import (
    STRATEGIES,
    Candidate,
    diverse,
    foreground_random,
    noise_beta,
    order_cases,
    register_strategy,
)
from inflate3d.errors import ConfigError

NAN = math.nan
CASES = [
    Candidate("sure", confidence={"liver": 0.95, "tumor": 0.9}),
    Candidate("unsure", confidence={"liver": 0.5, "tumor": 0.4}),
    Candidate("empty", confidence={"liver": NAN, "tumor": NAN}),
    Candidate("no tumor", confidence={"liver": 0.8, "tumor": NAN}),
    Candidate("new"),
    Candidate("labeled", labeled=True, confidence={"liver": 0.1, "tumor": 0.1}),
]


@pytest.mark.parametrize("name", STRATEGIES)
def test_every_strategy_orders_the_unlabeled_cases_whatever_their_order(name):
    ordered = order_cases(name, CASES, seed=3)
    assert sorted(ordered) == ["empty", "new", "no tumor", "sure", "unsure"]
    assert order_cases(name, CASES[::-1], seed=3) == ordered
    assert order_cases(name, [Candidate("a", labeled=True)]) == []


def test_uncertainty_goes_by_confidence_and_leaves_the_unknown_for_last():
    ordered = order_cases("uncertainty", CASES)
    assert ordered[:3] == ["unsure", "no tumor", "sure"]


def test_foreground_random_draws_cases_with_a_rare_class_more_often():
    cases = [Candidate(f"c{n}", confidence={"liver": 0.9, "tumor": 0.9 if n == 0 else NAN}) for n in range(5)]
    first = Counter(foreground_random(cases, np.random.default_rng(seed))[0] for seed in range(200))
    assert first["c0"] / 200 == pytest.approx(1 / 3 + 2 / 3 / 5, abs=0.08)  # by tumor, by liver or without a class


def test_noise_of_diverse_fades_on_a_logarithmic_scale():
    assert [noise_beta(labeled) for labeled in (0, 5, 40, 400)] == pytest.approx([1, 1, 100, 100])
    assert noise_beta(round(math.sqrt(5 * 40))) == pytest.approx(10, rel=0.05)


def test_diverse_draws_in_proportion_to_uncertainty_at_first_and_sorts_at_last():
    cases = [Candidate("a", confidence={"liver": 0.7}), Candidate("b", confidence={"liver": 0.9})]
    first = Counter(diverse(cases, np.random.default_rng(seed))[0] for seed in range(200))
    assert first["a"] / 200 == pytest.approx(0.75, abs=0.08)  # 0.3 to 0.1
    many = [*cases, *(Candidate(f"labeled {n}", labeled=True) for n in range(40))]
    assert {diverse(many, np.random.default_rng(seed))[0] for seed in range(20)} == {"a"}


def test_diverse_lets_the_classes_take_turns():
    sure_of_tumor = [Candidate(f"l{n}", confidence={"liver": 0.1, "tumor": NAN}) for n in range(5)]
    cases = [*sure_of_tumor, Candidate("t", confidence={"liver": NAN, "tumor": 0.99})]
    assert all("t" in diverse(cases, np.random.default_rng(seed))[:2] for seed in range(20))


def test_unknown_and_taken_names_are_refused():
    with pytest.raises(ConfigError):
        order_cases("best", CASES)
    with pytest.raises(ConfigError):
        register_strategy("random", "again", diverse)
