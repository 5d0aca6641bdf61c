from collections import Counter

import pytest

from inflate3d.preparation.store import StoredCase
from inflate3d.windows.sampling import WindowSampler


def stored(name, depth, slices):
    return StoredCase(case=name, shape=(depth, 8, 8), spacing=(3.0, 1.0, 1.0), ranges=((0.0, 1.0),), slices=slices)


CASES = {
    "large": stored("large", 90, {1: tuple(range(10, 80))}),
    "small": stored("small", 10, {1: (4, 5), 2: (7,)}),
}


def draw(fraction, count=3000, cases=CASES, seed=0):
    sampler = WindowSampler(cases, fraction, seed)
    return [sampler.draw(number)[:2] for number in range(count)]


def test_draws_depend_on_seed_and_number_alone():
    sampler = WindowSampler(CASES, 0.5, seed=3)
    expected = [sampler.draw(number) for number in range(50)]
    again = WindowSampler(dict(reversed(CASES.items())), 0.5, seed=3)
    assert [again.draw(number) for number in reversed(range(50))] == expected[::-1]
    assert draw(0.5, 50, seed=4) != expected


def test_every_slice_of_every_case_is_as_likely_without_classes():
    places = Counter(draw(0.0, 10_000))
    assert len(places) == 100
    assert set(places) == {("large", index) for index in range(90)} | {("small", index) for index in range(10)}
    assert min(places.values()) > 50
    assert max(places.values()) < 160


def test_classes_are_drawn_alike_then_cases_then_slices():
    places = Counter(draw(1.0, 4000))
    assert places["small", 7] / 4000 == pytest.approx(0.5, abs=0.03)  # all of class 2
    assert (places["small", 4] + places["small", 5]) / 4000 == pytest.approx(0.25, abs=0.03)
    assert {index for name, index in places if name == "large"} <= set(range(10, 80))


@pytest.mark.parametrize("fraction", [0.2, 0.7])
def test_stated_part_is_drawn_by_class(fraction):
    rare = Counter(draw(fraction, 4000))["small", 7] / 4000
    assert rare == pytest.approx(fraction / 2 + (1 - fraction) / 100, abs=0.03)


def test_planes_are_drawn_alike_and_slices_along_them_as_along_the_depth():
    case = stored("a", 6, {1: (2, 3)}).model_copy(update={"rows": {1: (7,)}, "columns": {1: (0, 1)}})
    by_class, evenly = (WindowSampler({"a": case}, fraction, 0, planes="all") for fraction in (1.0, 0.0))
    places = Counter((place.axis, place.slice) for place in map(by_class.draw, range(3000)))
    assert set(places) == {(0, 2), (0, 3), (1, 7), (2, 0), (2, 1)}
    assert places[1, 7] / 3000 == pytest.approx(1 / 3, abs=0.03)
    lengths = Counter((place.axis, place.slice) for place in map(evenly.draw, range(3000)))
    assert set(lengths) == {(axis, index) for axis, length in enumerate((6, 8, 8)) for index in range(length)}
    assert by_class.draw(7) == WindowSampler({"a": case}, 1.0, 0, planes="all").draw(7)


def test_cases_without_any_label_are_drawn_evenly():
    assert len(Counter(draw(1.0, 500, {"a": stored("a", 6, {})}))) == 6


def test_regions_are_drawn_alike_each_in_the_slices_of_all_its_classes():
    sampler = WindowSampler(CASES, 1.0, 0, targets=[(1, 2), (2,), (3,)])  # no case has the third
    drawn = Counter(sampler.draw(number) for number in range(3000))
    by_target = Counter(place.target for place in drawn.elements())
    assert by_target.keys() == {(1, 2), (2,)}
    assert abs(by_target[2,] - 1500) < 150
    assert {place.slice for place in drawn if place.case == "small" and place.target == (1, 2)} == {4, 5, 7}
    assert {place[:2] for place in drawn if place.target == (2,)} == {("small", 7)}
