"""Noise that is new in every slice is smoothed away; structures that change from slice to slice are left alone."""

import csv

import numpy as np
import pytest
import torch

from inflate3d.evaluation.accumulator import ScoreAccumulator
from inflate3d.evaluation.postprocessing.choice import choose_depth_filter, depth_filters
from inflate3d.evaluation.postprocessing.steps import Postprocessing
from inflate3d.evaluation.postprocessing.validation import choose_postprocessing
from inflate3d.inference.depth_filter import depth_kernel, filter_depth
from inflate3d.preparation.plan import Plan
from inflate3d.run_folder import FoldsFolder

PLAN = Plan(
    dataset="Toys",
    modalities=("CT",),
    classes={0: "background", 3: "organ", 7: "vessel"},
    merged={},
    depth_axis="axial",
    image_size=(12, 12),
    normalization=(),
    flips=(False, False, False),
    reasons={},
)
SPACING = (1.0, 1.0, 2.5)
FILTERS = depth_filters(2.5)


def phantom(number, thick):
    """Label values ``(12, 12, 16)``: columns along the depth, or squares that move in every slice."""
    label = np.zeros((12, 12, 16), np.uint8)
    for z in range(16):
        start = 1 if thick else 1 + (3 * z + number) % 5
        label[start : start + 4, 2:7, z], label[start : start + 4, 8:11, z] = 3, 7
    return label


def predicted(label, number, deviation, noise):
    """The likeliest class by the true logits with noise of each slice's own, after a filter."""
    numbers = torch.from_numpy(PLAN.number_classes(label)).long()
    logits = torch.nn.functional.one_hot(numbers, 3).permute(2, 3, 0, 1).float()
    logits += torch.randn(logits.shape, generator=torch.Generator().manual_seed(number)) * noise
    stream = filter_depth(iter([[each[None]] for each in logits]), [depth_kernel(deviation, SPACING[2], 16)])
    classes = torch.stack([one[0].argmax(0) for ((one,),) in stream], -1)
    return PLAN.label_values[classes.numpy()].astype(np.uint8)


def chosen(thick, noise, cases=12):
    labels = {f"case{number}": phantom(number, thick) for number in range(cases)}

    def read(case, depth_filter):
        return predicted(labels[case], int(case[4:]), depth_filter, noise), labels[case], SPACING

    accumulator = ScoreAccumulator(PLAN.class_names)
    for case, label in labels.items():
        ours, truth = (torch.from_numpy(PLAN.number_classes(each)) for each in (read(case, 0.0)[0], label))
        accumulator.add(case, ours, truth, SPACING)
    parts = {case: f"fold-{number % 2}" for number, case in enumerate(labels)}
    scores = accumulator.scores()
    return read, scores, choose_postprocessing(read, PLAN, scores, parts, depth_filters=FILTERS)


def test_widths_to_try_are_parts_of_the_slice_spacing():
    assert FILTERS == (1.25, 2.5, 3.75, 5.0)
    assert depth_filters(1 / 3) == (0.167, 0.333, 0.5, 0.667)


def test_noise_of_each_slice_is_smoothed_and_the_gain_is_scored_on_the_other_folds(tmp_path):
    read, scores, chosen_ = chosen(thick=True, noise=0.5)
    postprocessing = chosen_.choice.postprocessing
    assert postprocessing.depth_filter >= 2.5
    assert [each.depth_filter for each in chosen_.by_part.values()] == [postprocessing.depth_filter] * 2
    assert chosen_.gains["organ"].low > 0.1
    assert chosen_.gains["vessel"].low > 0.1
    for place, case in enumerate(scores.cases):
        (part,) = {name for name, each in (("fold-0", 0), ("fold-1", 1)) if place % 2 == each}
        treatment = chosen_.by_part[part]
        labels, truth, _ = read(case, treatment.depth_filter)
        ours = treatment.apply(labels, SPACING) == 3
        expected = 2 * (ours & (truth == 3)).sum() / (ours.sum() + (truth == 3).sum())
        assert chosen_.scores.dice[place, 0] == pytest.approx(expected)

    folder, file = FoldsFolder(tmp_path), tmp_path / "postprocessing.json"
    chosen_.write(folder, file)
    assert Postprocessing.read(file) == postprocessing
    assert Postprocessing.read(file).in_words().startswith(f"depth filter {postprocessing.depth_filter:g} mm")
    with (folder.evaluation / "postprocessing.csv").open(newline="", encoding="utf-8") as lines:
        rows = list(csv.DictReader(lines))[:4]
    assert [row["step"] for row in rows] == [f"depth filter {each:g} mm" for each in FILTERS]
    assert {row["class"] for row in rows} == {"all classes"}
    best = max(rows, key=lambda row: float(row["gain_low"]))
    assert best["step"] == f"depth filter {postprocessing.depth_filter:g} mm"


def test_structures_that_move_from_slice_to_slice_get_no_filter():
    _, _, chosen_ = chosen(thick=False, noise=0.25)
    assert chosen_.choice.postprocessing.depth_filter == 0
    assert {each.depth_filter for each in chosen_.by_part.values()} == {0.0}
    assert not any(each.kept for each in chosen_.choice.candidates[:4])
    assert chosen_.choice.candidates[3].gain.value < 0


def test_patients_not_scans_are_counted():
    """Six scans that gain, of three patients, are too few for an interval; of six they are not."""
    before = np.full((6, 1), 0.8)
    after = before + np.linspace(0.01, 0.02, 6)[:, None]
    assert choose_depth_filter({0.0: before, 1.0: after}, list("aabbcc"))[0] == 0.0
    assert choose_depth_filter({0.0: before, 1.0: after}, list("abcdef"))[0] == 1.0
