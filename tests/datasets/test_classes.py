from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from inflate3d.datasets.case import Dataset
from inflate3d.datasets.classes import IGNORED, choose_classes, class_numbers, map_labels
from inflate3d.errors import ConfigError, DataError

CLASSES = {0: "background", 1: "spleen", 2: "right kidney", 3: "left kidney", 5: "liver", 52: "aorta"}
DATASET = Dataset("Abdomen", Path("abdomen"), ("CT",), CLASSES, ())


def test_all_classes_without_a_choice():
    assert choose_classes(DATASET) == DATASET


def test_classes_that_are_not_kept_count_as_background():
    chosen = choose_classes(DATASET, keep=["Liver", "52"])
    assert chosen.classes == {0: "background", 5: "liver", 52: "aorta"}
    assert chosen.merged == {1: 0, 2: 0, 3: 0}
    assert chosen.label_values == set(CLASSES)


def test_joined_classes_have_the_smallest_value():
    chosen = choose_classes(DATASET, merge=["kidneys = left kidney + right kidney", "rest=5+52"])
    assert chosen.classes == {0: "background", 1: "spleen", 2: "kidneys", 5: "rest"}
    assert chosen.merged == {3: 2, 52: 5}


def test_a_join_of_joins_and_a_join_that_is_not_kept():
    chosen = choose_classes(DATASET, merge=["kidneys=2+3", "organs=1+kidneys", "other=5+52"], keep=["organs"])
    assert chosen.classes == {0: "background", 1: "organs"}
    assert chosen.merged == {2: 1, 3: 1, 5: 0, 52: 0}


@pytest.mark.parametrize(("ignore", "value"), [("255", 255), ("aorta", 52), ("52", 52)])
def test_ignored_values_are_no_class(ignore, value):
    chosen = choose_classes(DATASET, ignore=ignore)
    assert chosen.ignore == value
    assert value not in chosen.classes
    assert value in chosen.label_values


def test_ignored_value_counts_as_no_other_class():
    chosen = choose_classes(replace(DATASET, merged={7: 5, 9: 5}), ignore="7")
    assert (chosen.merged, chosen.ignore) == ({9: 5}, 7)


@pytest.mark.parametrize(
    ("choice", "said"),
    [
        ({"keep": ["livre"]}, "did you mean liver?"),
        ({"keep": ["background"]}, "no class to train on"),
        ({"merge": ["kidneys"]}, "invalid merge"),
        ({"merge": ["kidneys=2"]}, "invalid merge"),
        ({"merge": ["=2+3"]}, "invalid merge"),
        ({"merge": ["a=2+3", "b=3+5"]}, "unknown class"),
        ({"merge": ["liver=2+3"]}, "2 (liver), 5 (liver)"),
        ({"ignore": "0"}, "the background cannot be ignored"),
        ({"ignore": "background"}, "the background cannot be ignored"),
    ],
)
def test_choices_that_can_not_be_made(choice, said):
    with pytest.raises(ConfigError) as caught:
        choose_classes(DATASET, **choice)
    assert said in str(caught.value)


def test_two_classes_of_one_name_have_to_be_joined_or_named_apart():
    kidneys = replace(DATASET, classes={0: "background", 2: "kidney", 3: "kidney"})
    with pytest.raises(ConfigError, match="duplicate class name"):
        choose_classes(kidneys)
    assert choose_classes(kidneys, merge=["kidney=2+3"]).classes == {0: "background", 2: "kidney"}


@pytest.mark.parametrize("keep", [[], ["spleen"]])
def test_what_counts_as_an_ignored_class_is_ignored(keep):
    chosen = choose_classes(replace(DATASET, merged={7: 5}), ignore="liver", keep=keep)
    assert (chosen.merged[7], chosen.ignore) == (5, 5)


def test_class_numbers_of_merged_and_ignored_values():
    numbers = class_numbers({0: "background", 2: "liver", 70000: "tumor"}, {5: 2, 6: 0, 8: 9}, 9)
    assert numbers == {0: 0, 2: 1, 70000: 2, 5: 1, 6: 0, 9: IGNORED, 8: IGNORED}


@pytest.mark.parametrize("large", [1, 60000, 1 << 40])
def test_labels_become_their_numbers(large):
    numbers = {0: 0, 1: 7, large: 300 if large > 1 else 1}
    labels = np.array([[[0, 1], [large, 0]]])
    mapped = map_labels(labels, numbers)
    assert mapped.tolist() == np.vectorize(numbers.get)(labels).tolist()
    assert mapped.dtype == (np.uint16 if large > 1 else np.uint8)


@pytest.mark.parametrize("unknown", [3, 90, -1, 1 << 41])
@pytest.mark.parametrize("large", [7, 1 << 40])
def test_unknown_label_values(unknown, large):
    with pytest.raises(DataError) as caught:
        map_labels(np.array([0, 1, unknown]), {0: 0, 1: 1, large: 2}, {0: "background", 1: "liver", large: "tumor"})
    assert caught.value.got == str(unknown)
    assert caught.value.expected == f"0 (background), 1 (liver), {large} (tumor)"
