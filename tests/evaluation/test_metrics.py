import math

import pytest
import torch
from monai.metrics.confusion_matrix import compute_confusion_matrix_metric, get_confusion_matrix
from monai.metrics.meandice import compute_dice
from torch.nn import functional as F

from inflate3d.evaluation.metrics import CaseDice, count_measures, dice, overlap_counts

LABEL = torch.tensor([[0, 0, 1, 1], [2, 2, 0, 0]])
PREDICTION = torch.tensor([[0, 1, 1, 1], [2, 0, 0, 0]])


def test_counts_by_hand():
    counts = overlap_counts(PREDICTION, LABEL, 4)
    assert counts.tolist() == [[3, 4, 4], [2, 3, 2], [1, 1, 2], [0, 0, 0]]
    scores = dice(counts)
    assert scores[:3].tolist() == pytest.approx([3 / 4, 4 / 5, 2 / 3])


def test_ignored_voxels_are_not_counted():
    label = torch.tensor([0, 1, 2, 255, 255, 1])
    prediction = torch.tensor([0, 1, 0, 1, 2, 2])
    known = label != 255
    assert torch.equal(overlap_counts(prediction, label, 3), overlap_counts(prediction[known], label[known], 3))
    assert overlap_counts(prediction, label, 3).tolist() == [[1, 2, 1], [1, 1, 2], [0, 1, 1]]


def test_absent_from_both_is_not_defined_and_absent_from_one_is_0():
    counts = torch.tensor([[0, 0, 0], [0, 5, 0], [0, 0, 5]])
    assert math.isnan(dice(counts)[0])
    assert dice(counts)[1:].tolist() == [0, 0]


@pytest.mark.parametrize("classes", [2, 5])
def test_equal_to_monais(classes):
    generator = torch.Generator().manual_seed(classes)
    prediction, label = (torch.randint(0, classes, (3, 6, 7, 8), generator=generator) for _ in range(2))
    label[0][label[0] == 1] = 0
    prediction[0][prediction[0] == 1] = 0  # in neither of the first case's maps
    label[1][label[1] == 1] = 0
    one_hot = [F.one_hot(array, classes).movedim(-1, 1) for array in (prediction, label)]
    expected = compute_dice(*one_hot, include_background=True, ignore_empty=True)
    ours = torch.stack([dice(overlap_counts(*pair, classes)) for pair in zip(prediction, label, strict=True)])
    assert math.isnan(ours[0, 1])
    ours[1, 1], expected[1, 1] = ours[1, 1].nan_to_num(9), 0  # MONAI has none where the label is empty; ours is 0
    assert ours[1, 1] == 0
    assert torch.allclose(ours.float(), expected.float(), equal_nan=True)


def test_case_dice_adds_up_over_slices():
    generator = torch.Generator().manual_seed(0)
    prediction, label = (torch.randint(0, 3, (2, 6, 7, 8), generator=generator) for _ in range(2))
    metric = CaseDice(2, 3)
    for index in range(6):
        for case in (1, 0):
            metric.update(case, prediction[case, index], label[case, index])
    whole = torch.stack([dice(overlap_counts(prediction[case], label[case], 3)) for case in (0, 1)])
    assert torch.equal(metric.compute(), whole)
    metric.reset()
    assert metric.counts.sum() == 0


def test_measures_from_counts_by_hand():
    counts = torch.tensor([[6, 8, 12], [0, 0, 0], [0, 5, 0], [0, 0, 5]])
    measured = count_measures(counts, torch.full((4,), 0.5, dtype=torch.float64))
    expected = {
        "iou": [6 / 14, math.nan, 0, 0],
        "precision": [6 / 8, math.nan, 0, math.nan],
        "recall": [6 / 12, math.nan, math.nan, 0],
        "volume_difference_ml": [-2, math.nan, 2.5, -2.5],
        "volume_difference_percent": [100 * -4 / 12, math.nan, math.nan, -100],
    }
    for name, values in expected.items():
        assert measured[name].tolist() == pytest.approx(values, nan_ok=True), name


def test_measures_from_counts_are_monais():
    generator = torch.Generator().manual_seed(1)
    prediction, label = (torch.randint(0, 3, (6, 7, 8), generator=generator) for _ in range(2))
    one_hot = [F.one_hot(values, 3).movedim(-1, 0)[None] for values in (prediction, label)]
    matrix = get_confusion_matrix(*one_hot, include_background=True)
    measured = count_measures(overlap_counts(prediction, label, 3), torch.ones(3, dtype=torch.float64))
    for ours, theirs in (("iou", "threat score"), ("precision", "precision"), ("recall", "sensitivity")):
        expected = compute_confusion_matrix_metric(theirs, matrix)[0]
        assert torch.allclose(measured[ours].float(), expected.float()), ours


def test_voxels_are_counted_in_parts(monkeypatch):
    generator = torch.Generator().manual_seed(2)
    prediction, label = (torch.randint(0, 3, (5, 7, 9), generator=generator, dtype=torch.uint8) for _ in range(2))
    label[2] = 255
    whole = overlap_counts(prediction, label, 3)
    monkeypatch.setattr("inflate3d.evaluation.metrics._COUNTED_AT_ONCE", 10)
    assert torch.equal(overlap_counts(prediction, label, 3), whole)
