"""Scores and post-processing of regions: those of the same voxels given as exclusive classes."""

import numpy as np
import pytest

from inflate3d.datasets.classes import IGNORED
from inflate3d.datasets.regions import Regions
from inflate3d.errors import ConfigError
from inflate3d.evaluation.accumulator import ScoreAccumulator
from inflate3d.evaluation.components import find_holes
from inflate3d.evaluation.postprocessing.choice import tally_case
from inflate3d.evaluation.postprocessing.steps import ClassSteps, Postprocessing

NESTED = Regions(values={"whole": (1, 2, 3), "core": (2, 3), "enhancing": (3,)}, order=(1, 2, 3))
CROSSING = Regions(values={"liver": (1, 3), "vessel": (2, 3)})
SPACING = (0.5, 2.0, 3.0)
"""A voxel has 3 mm³."""


def random_maps(seed=0):
    """Lumps of the classes 0 to 3, and the same moved; some voxels of the second are ignored."""
    random = np.random.default_rng(seed)
    lumps = np.kron(random.integers(0, 4, (4, 4, 3)), np.ones((4, 4, 3), int)).astype(np.uint8)
    label = np.roll(lumps, (1, 2, 1), (0, 1, 2))
    label[:, 3] = IGNORED
    return lumps, label


@pytest.mark.parametrize("regions", [NESTED, CROSSING])
def test_each_region_is_scored_as_a_class_of_its_own(regions):
    prediction, label = random_maps()
    together = ScoreAccumulator(("background", *regions.names), members=regions.members(range(4)))
    together.add("case", prediction, label, SPACING)
    together.add_micro(prediction, label)
    scores = together.scores()
    assert scores.classes == regions.names and scores.micro_dice is not None
    for number, held in enumerate(regions.values.values()):
        alone = ScoreAccumulator(("background", "it"))
        masks = np.isin(prediction, held).astype(np.uint8), np.isin(label, held).astype(np.uint8)
        masks[1][label == IGNORED] = IGNORED
        alone.add("case", *masks, SPACING)
        alone.add_micro(*masks)
        expected = alone.scores()
        assert expected.micro_dice is not None
        for measure, values in expected.measured.items():
            assert scores.measured[measure][0, number] == values[0, 0], measure
        assert scores.micro_dice[number] == expected.micro_dice[0]


def test_a_removed_piece_stays_in_the_regions_around_it():
    labels = np.zeros((9, 9, 9), np.uint8)
    labels[1:8, 1:8, 1:8] = 1
    labels[2:4, 2:4, 2:4], labels[3, 3, 3], labels[6, 6, 6] = 2, 3, 3
    expected = labels.copy()
    expected[6, 6, 6] = 1  # a second piece of the core, and all of it enhancing
    steps = ClassSteps(value=2, name="core", largest_component=True)
    assert np.array_equal(Postprocessing(classes=(steps,), regions=NESTED).apply(labels, SPACING), expected)


def test_overlaps_keep_the_other_region():
    labels = np.zeros((9, 5, 5), np.uint16)
    labels[1:4], labels[3], labels[6:8], labels[6] = 1, 3, 2, 3
    steps = ClassSteps(value=1, name="liver", minimum_volume=300.0)  # 25 voxels at 6 have 75 mm³, 75 have 225
    cleaned = Postprocessing(classes=(steps,), regions=CROSSING).apply(labels, SPACING)
    assert [int(plane[0, 0]) for plane in cleaned] == [0, 0, 0, 2, 0, 0, 2, 2, 0]


def test_holes_take_the_value_with_fewest_other_regions():
    labels = np.zeros((9, 9, 9), np.uint8)
    labels[1:8, 1:8, 1:8] = 1
    labels[2:7, 2:7, 2:7] = 2
    labels[4, 4, 4], labels[3, 3, 3], labels[5, 5, 5] = 0, 1, 3
    steps = ClassSteps(value=2, name="core", fill_holes=True)
    cleaned = Postprocessing(classes=(steps,), regions=NESTED).apply(labels, SPACING)
    assert (cleaned[4, 4, 4], cleaned[3, 3, 3], cleaned[5, 5, 5]) == (2, 2, 3)
    tally = tally_case(labels, labels, 4, SPACING, NESTED)[1]
    assert tally.fillable == 2 == np.count_nonzero(find_holes(np.isin(labels, (2, 3))))


def test_tallies_of_regions_are_those_of_their_masks():
    prediction, label = random_maps(1)
    tallies = tally_case(prediction, label, 4, SPACING, NESTED)
    for tally, held in zip(tallies, NESTED.values.values(), strict=True):
        masks = np.isin(prediction, held).astype(np.uint8), np.isin(label, held).astype(np.uint8)
        masks[1][label == IGNORED] = IGNORED
        (alone,) = tally_case(*masks, 2, SPACING)
        assert sorted(tally.voxels) == sorted(alone.voxels)
        assert (tally.predicted.sum(), tally.matched.sum()) == (alone.predicted.sum(), alone.matched.sum())
        assert tally.labeled == alone.labeled


def test_it_fits_only_models_of_the_same_regions(tmp_path):
    chosen = Postprocessing(classes=(ClassSteps(value=1, name="whole", fill_holes=True),), regions=NESTED)
    chosen.write(tmp_path / "steps.json")
    assert Postprocessing.read(tmp_path / "steps.json") == chosen
    classes = {0: "background", **NESTED.name_values()}
    chosen.check_classes(classes, NESTED)
    for others in (None, CROSSING):
        with pytest.raises(ConfigError, match="regions"):
            chosen.check_classes(classes, others)
    with pytest.raises(ValueError, match="regions"):
        Postprocessing(classes=(ClassSteps(value=1, name="lung"),), regions=NESTED)
