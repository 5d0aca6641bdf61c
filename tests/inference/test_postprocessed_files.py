"""Post-processing on the way from a predictor to its files, here and on other machines."""

from functools import partial
from pathlib import Path

import nibabel
import numpy as np
import pytest

from inflate3d.evaluation.postprocessing.steps import ClassSteps, Postprocessing
from inflate3d.inference.batch import PredictorRecipe, predict_files
from inflate3d.inference.prediction import Prediction
from inflate3d.inference.predictor import Predictor
from inflate3d.preparation.plan import Normalization, Plan

CHOSEN = Postprocessing(classes=(ClassSteps(value=2, name="liver", minimum_volume=4.0),))
"""A voxel of the toys has 3 mm³."""

PLAN = Plan(
    dataset="Toys",
    modalities=("CT",),
    classes={0: "background", 2: "liver", 5: "tumor"},
    merged={},
    depth_axis="axial",
    image_size=(12, 12),
    normalization=(Normalization(kind="case"),),
    flips=(False, False, False),
    reasons={},
)


class Islands(Predictor):
    """Predicts a box, an island of one voxel and one of two."""

    def __init__(self):
        pass  # no network

    @property
    def plan(self):
        return PLAN

    def predict(self, volume, **asked):
        labels = np.zeros(volume.array.shape[1:], np.uint8)
        labels[5:9, 5:9, 2:4] = 2
        labels[15, 3, 1] = 2
        labels[15:17, 15, 5] = 2
        return Prediction(labels, volume.affine)


class Recipe(PredictorRecipe):
    def load(self):
        return Islands()


def in_turn(work, items):
    return map(work, items)


@pytest.mark.parametrize(
    "predict",
    [partial(predict_files, Islands()), partial(predict_files, Recipe(Path()), engine=in_turn)],
    ids=["here", "elsewhere"],
)
@pytest.mark.parametrize(("postprocessing", "voxels"), [(None, 35), (Postprocessing(), 35), (CHOSEN, 34)])
def test_label_maps_are_written_after_their_post_processing(predict, postprocessing, voxels, write_toys, tmp_path):
    scans = list(write_toys(tmp_path / "data", 2).cases)
    written = predict(scans, tmp_path / "out", postprocessing=postprocessing)
    assert len(written) == 2
    for result in written:
        labels = np.asarray(nibabel.Nifti1Image.load(result.file).dataobj)
        assert np.count_nonzero(labels == 2) == voxels
        assert (labels[15, 3, 1] == 2) == (postprocessing != CHOSEN)
