import pytest

from inflate3d.preparation.flips import choose_flips

AXIAL = ("axial", "sagittal", "coronal")
"""Directions of depth, rows and columns of axial slices."""


def flips_of(*names):
    return choose_flips(names, AXIAL)


@pytest.mark.parametrize(
    ("names", "flips"),
    [
        (["liver", "tumor"], (True, True, True)),
        (["left kidney", "right kidney"], (False, False, False)),
        (["Kidney_L"], (False, False, False)),
        (["leftover", "brightness"], (True, True, True)),  # whole words count
        (["Anterior", "Posterior"], (True, True, False)),
        (["upper lobe"], (False, True, True)),
        (["Röhre"], (True, True, True)),  # one word, not the side r
    ],
)
def test_mirrors_that_would_make_a_class_name_wrong_are_forbidden(names, flips):
    assert flips_of(*names)[0] == flips


@pytest.mark.parametrize(
    "names",
    [
        ["LeftKidney"],
        ["kidneyLeft"],
        ["kidneyL"],
        ["LKidney"],
        ["LEFT_KIDNEY"],
        ["Lkidney", "Rkidney"],
        ["kidneyl", "kidneyr"],
        ["leftkidney", "rightkidney"],
        ["femurlt", "femurrt"],
    ],
)
def test_sides_are_found_however_they_are_joined_to_the_name(names):
    flips, reason = flips_of(*names)
    assert flips == (False, False, False)
    assert reason.startswith("none: a class name says ")


@pytest.mark.parametrize("names", [["liver", "kidney"], ["lung", "rib"], ["lesion", "region"]])
def test_words_that_begin_like_a_side_are_none(names):
    assert flips_of(*names)[0] == (True, True, True)


def test_opposites_of_other_axes_are_found_glued_to_the_name():
    assert flips_of("upperlobe", "lowerlobe")[0] == (False, True, True)


@pytest.mark.parametrize("name", ["class 2", "Class_2", "label3", "7", "region-12"])
def test_placeholder_names_say_nothing_so_nothing_is_mirrored(name):
    flips, reason = flips_of("liver", name)
    assert flips == (False, False, False)
    assert reason == (
        f'none: "{name}" does not say whether left and right differ; name the classes, or give --flips True'
    )


def test_name_with_a_number_is_a_name():
    assert flips_of("segment 4a of the liver", "T12")[0] == (True, True, True)


def test_reason_names_the_words():
    assert flips_of("right lung", "left lung")[1].startswith("none: a class name says left and right; ")
    assert flips_of("upper lobe")[1] == (
        "along axes whose ends no class name distinguishes; not axial (a class name says upper)"
    )
