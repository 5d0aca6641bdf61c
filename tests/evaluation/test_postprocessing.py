"""What post-processing does to label maps whose right answer is known, and the file that keeps it."""

import numpy as np
import pytest

from inflate3d.errors import ConfigError
from inflate3d.evaluation.postprocessing.steps import ClassSteps, Postprocessing, find_postprocessing

SPACING = (0.5, 2.0, 3.0)
"""A voxel has 3 mm³."""


def steps(value=2, **chosen):
    return ClassSteps(value=value, name=f"class {value}", **chosen)


def after(labels, *chosen):
    before = labels.copy()
    result = Postprocessing(classes=chosen).apply(labels, SPACING)
    assert np.array_equal(labels, before), "the given map was changed"
    assert result.dtype == labels.dtype
    assert result.strides == labels.strides
    return result


@pytest.fixture(params=["C", "F"])
def islands(request):
    """Class 2 in pieces of 27, 8 and 1 voxels, class 5 in two voxels of its own."""
    labels = np.zeros((20, 12, 10), np.uint16, order=request.param)
    labels[1:4, 1:4, 1:4] = 2
    labels[8:10, 5:7, 5:7] = 2
    labels[15, 10, 8] = 2
    labels[18, 1, 1] = labels[18, 9, 1] = 5
    return labels


def test_largest_component_of_one_class_alone(islands):
    expected = islands.copy()
    expected[5:][expected[5:] == 2] = 0
    assert np.array_equal(after(islands, steps(largest_component=True)), expected)


@pytest.mark.parametrize(("limit", "left"), [(3.0, 36), (3.1, 35), (24.0, 35), (24.1, 27), (81.1, 0)])
def test_volumes_are_cubic_millimeters_and_the_limit_itself_stays(islands, limit, left):
    result = after(islands, steps(minimum_volume=limit))
    assert np.count_nonzero(result == 2) == left
    assert np.count_nonzero(result == 5) == 2


def test_largest_one_may_be_below_the_minimum(islands):
    result = after(islands, steps(largest_component=True, minimum_volume=100.0))
    assert set(np.unique(result)) == {0, 5}


def test_components_of_one_size_stay_all(islands):
    assert np.count_nonzero(after(islands, steps(5, largest_component=True)) == 5) == 2


def test_holes_become_of_the_class_that_encloses_them_and_other_classes_stay():
    labels = np.zeros((9, 9, 9), np.uint8)
    labels[1:8, 1:8, 1:8] = 2
    labels[3:6, 3:6, 3:6] = 0
    labels[4, 4, 4] = 5
    result = after(labels, steps(fill_holes=True))
    assert np.count_nonzero(result == 2) == 7**3 - 1
    assert result[4, 4, 4] == 5


def test_what_a_removed_island_leaves_in_another_class_is_a_hole():
    labels = np.zeros((9, 9, 9), np.uint8)
    labels[1:8, 1:8, 1:8] = 2
    labels[4, 4, 4] = 5
    result = after(labels, steps(fill_holes=True), steps(5, minimum_volume=10.0))
    assert np.count_nonzero(result == 2) == 7**3


def test_class_that_is_not_there_and_no_steps_change_nothing(islands):
    everything = {"largest_component": True, "minimum_volume": 5.0, "fill_holes": True}
    assert np.array_equal(after(islands, steps(7, **everything)), islands)
    assert np.array_equal(after(islands), islands)


def test_doing_it_twice_changes_nothing_more(islands):
    chosen = (steps(largest_component=True, fill_holes=True), steps(5, minimum_volume=4.0))
    once = after(islands, *chosen)
    assert np.array_equal(after(once, *chosen), once)


def test_file_comes_back(tmp_path):
    chosen = Postprocessing(classes=(steps(largest_component=True), steps(5, minimum_volume=12.5, fill_holes=True)))
    chosen.write(tmp_path / "postprocessing.json")
    assert Postprocessing.read(str(tmp_path / "postprocessing.json")) == chosen
    assert hash(Postprocessing.read(tmp_path / "postprocessing.json")) == hash(chosen)
    assert chosen.in_words() == "class 2: largest component; class 5: at least 12.5 mm³, holes filled"
    assert Postprocessing().in_words() == "nothing"


def test_where_a_model_has_its_file(tmp_path):
    assert find_postprocessing(tmp_path) is None
    inner = tmp_path / "model" / "postprocessing.json"
    Postprocessing().write(inner)
    assert find_postprocessing(tmp_path) == find_postprocessing(tmp_path / "model") == inner
    Postprocessing().write(tmp_path / "postprocessing.json")
    assert find_postprocessing(tmp_path) == tmp_path / "postprocessing.json"


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("{", "not JSON"),
        ('{"version": 2}', "version"),
        ('{"classes": [{"value": 0, "name": "air"}]}', "classes.0.value"),
        ('{"classes": [{"value": 1, "name": "a", "minimum_volume": -1}]}', "minimum_volume"),
        ('{"classes": [{"value": 1, "name": "a", "minimum_volume": Infinity}]}', "minimum_volume"),
        ('{"classes": [{"value": 1, "name": "a"}, {"value": 1, "name": "b"}]}', "invalid classes"),
        ('{"classes": [], "color": "red"}', "color"),
    ],
)
def test_damaged_file(text, part, tmp_path):
    file = tmp_path / "postprocessing.json"
    file.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError, match=part) as caught:
        Postprocessing.read(file)
    assert caught.value.file == str(file)


def test_other_classes_are_refused():
    chosen = Postprocessing(classes=(steps(fill_holes=True),))
    chosen.check_classes({0: "background", 2: "class 2"})
    with pytest.raises(ConfigError, match="chosen for other classes") as caught:
        chosen.check_classes({0: "background", 2: "liver"})
    assert caught.value.got == "2 (class 2)"
