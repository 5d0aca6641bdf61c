"""All planes: what is averaged lies on the voxels it is of, and is what training saw."""

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from inflate3d.datasets.case import Case
from inflate3d.errors import DataError
from inflate3d.inference.depth_filter import depth_kernel
from inflate3d.inference.predictor import Predictor
from inflate3d.inference.scan import FramedScan
from inflate3d.models.oom import MemoryBudgetError
from inflate3d.orientation import DEPTH_AXES, plane_turns
from inflate3d.preparation.model_space import to_model_space
from inflate3d.preparation.store import Store, write_case
from inflate3d.volume import Volume
from inflate3d.windows.datamodule import Windows
from inflate3d.windows.sampling import SampleLocation

OBLIQUE = np.eye(4)
OBLIQUE[:3, :3] = (
    Rotation.from_rotvec([0.2, -0.3, 0.1]).as_matrix() @ np.eye(3)[:, [2, 0, 1]] @ np.diag([1.5, -1, -1.2])
)
"""Voxel axes up, to the left and to the back, or so."""


def scan(shape=(9, 7, 8), seed=0):
    array = np.random.default_rng(seed).normal(100, 150, (1, *shape)).astype(np.float32)
    return Volume(array, OBLIQUE)


@pytest.mark.slow
@pytest.mark.parametrize("depth_axis", DEPTH_AXES)
@pytest.mark.parametrize("settings", [{}, {"flips": True}, {"slice_step": 3, "batch_size": 2}])
def test_average_is_that_of_predictors_with_each_depth_axis(sums, depth_axis, settings, monkeypatch):
    """An asymmetric network on an oblique scan: each plane by the tested way of one plane, averaged here."""
    monkeypatch.setattr(Predictor, "_members", lambda predictor: ("soft dice", []))  # a plane's flips by their logits
    model = sums(depth_axis=depth_axis, planes="all", flips=(True, False, True))
    volume = scan()
    found = Predictor(model, device="cpu", **settings).predict(volume, class_scores=True, uncertainty=True)
    alone = [type(model)(plan).eval() for plan in model.plan.plane_plans]  # the same weights
    assert {each.plan.depth_axis for each in alone} == set(DEPTH_AXES)
    parts = [
        Predictor(each, device="cpu", **settings).predict(volume, class_scores=True).class_scores for each in alone
    ]
    expected = np.mean([part for part in parts if part is not None], axis=0)
    assert found.class_scores is not None and len(parts) == 3
    np.testing.assert_allclose(found.class_scores, expected, atol=1e-6)
    clear = np.sort(expected, axis=0)[-1] - np.sort(expected, axis=0)[-2] > 1e-5
    assert np.array_equal(found.labels[clear], 7 * expected.argmax(0)[clear])
    assert clear.mean() > 0.99
    assert parts[0] is not None and not np.array_equal(found.labels, 7 * parts[0].argmax(0))  # a plane alone differs


@pytest.mark.parametrize("depth_axis", DEPTH_AXES)
def test_a_network_that_reads_intensities_gives_the_same_labels_by_planes(sums, depth_axis):
    """Cubes of voxels fill the input in every plane, so that nothing is interpolated."""
    model = sums(2, depth=1, depth_axis=depth_axis, image_size=(8, 8))
    model.forward = lambda windows: torch.cat([0.5 - windows, windows - 0.5], 1)[:, :, 0]
    volume = scan((8, 8, 8))
    one = Predictor(model, device="cpu").predict(volume).labels
    model.plan = model.plan.model_copy(update={"planes": "all"})
    found = Predictor(model, device="cpu").predict(volume, confidence=True, model_grid=True)
    assert np.array_equal(one, 7 * (volume.array[0] > 100))
    assert np.array_equal(found.labels, one)
    assert found.confidence is not None and found.model_grid is not None
    assert (found.confidence.kind, found.confidence.value) == ("planes", 1.0)
    assert np.array_equal(found.model_grid.classes, found.model_grid.resample(one // 7))


def test_flips_and_spacing_follow_the_axes(sums):
    plan = sums(planes="all", flips=(True, False, True), slice_spacing=2.0, pixel_spacing=(0.5, 0.8)).plan
    axial, sagittal, coronal = plan.plane_plans  # the frame is S, R, A; then R, A, S; then A, R, S
    assert (axial.flips, axial.slice_spacing, axial.pixel_spacing) == ((True, False, True), 2.0, (0.5, 0.8))
    assert (sagittal.depth_axis, sagittal.flips) == ("sagittal", (False, True, True))
    assert (coronal.depth_axis, coronal.flips) == ("coronal", (True, False, True))
    assert (sagittal.slice_spacing, sagittal.pixel_spacing) == (None, (0.8, 2.0))
    assert (coronal.slice_spacing, coronal.pixel_spacing) == (None, (0.5, 2.0))
    assert {each.planes for each in plan.plane_plans} == {"one"}
    assert plan.model_copy(update={"planes": "one"}).plane_plans[0].planes == "one"


@pytest.mark.parametrize("slice_spacing", [None, 0.7])
def test_prediction_reads_the_slices_that_training_reads(sums, tmp_path, slice_spacing):
    plan = sums(planes="all", slice_spacing=slice_spacing, pixel_spacing=slice_spacing and (1.0, 1.0)).plan
    volume = scan()
    labels = Volume((volume.array > 100).astype(np.uint8) * 7, OBLIQUE)
    case = write_case(tmp_path, Case("a", (tmp_path / "a.nii.gz",), tmp_path / "b.nii.gz"), volume, labels, plan)
    store = Store.__new__(Store)
    store.folder, store.cases = tmp_path, {"a": case}
    store.__dict__["plan"] = plan
    framed = FramedScan.of(to_model_space(volume, plan), torch.device("cpu"))
    for axis, turn in enumerate(plane_turns(plan.depth_axis)):
        along = framed.along(turn)
        place = SampleLocation("a", 3, axis=axis)
        batch = Windows(store, lambda number, place=place: place, depth=3)[0]
        assert torch.equal(batch.windows[0].float(), along.read(np.array([2, 3, 4])))
        torch.testing.assert_close(batch.sides, along.sides)
        assert batch.axes.tolist() == [axis]
        own = along.orientation.apply(labels.array[0])
        if slice_spacing is None:
            assert np.array_equal(batch.labels[0, 0].numpy(), own[3] // 7)
        held = case.slices_along(axis)[1]
        assert set(held) <= set(range(along.slices))
        if slice_spacing is None:
            assert held == tuple(np.flatnonzero(own.any(axis=(1, 2))))


def test_memory_of_the_average_is_within_the_budget(sums):
    model = sums(planes="all", classes=40)
    with pytest.raises(MemoryBudgetError):
        Predictor(model, device="cpu", memory=0.00005).predict(scan())
    few = Predictor(model, device="cpu", memory=0.05).predict(scan())
    assert np.array_equal(few.labels, Predictor(model, device="cpu").predict(scan()).labels)


def test_a_scan_thinner_than_the_window_along_any_axis_is_refused(sums):
    model = sums(planes="all", depth=5)
    with pytest.raises(DataError) as caught:
        Predictor(model, device="cpu").predict(scan((9, 7, 4)))
    assert caught.value.got == "4 slices"


def test_the_average_is_filtered_along_the_depth(sums):
    predictor = Predictor(sums(planes="all"), device="cpu")
    plain, filtered = (
        predictor.predict(scan(), class_scores=True, depth_filter=each, other_filters=(0.0,)) for each in (0.0, 1.5)
    )
    assert plain.class_scores is not None and filtered.class_scores is not None
    assert np.array_equal(filtered.other_labels[0], plain.labels)
    kernel = depth_kernel(1.5, 1.5, 9)  # axial slices are 1.5 mm apart, along the first voxel axis
    logs = np.log(plain.class_scores)
    weights = np.array([[kernel[abs(i - j)] if abs(i - j) < len(kernel) else 0 for j in range(9)] for i in range(9)])
    expected = np.einsum("ij,kjab->kiab", weights / weights.sum(1, keepdims=True), logs)
    expected = np.exp(expected) / np.exp(expected).sum(0)
    np.testing.assert_allclose(filtered.class_scores, expected, atol=1e-5)
