# pyright: reportOptionalMemberAccess=false, reportCallIssue=false, reportArgumentType=false

import numpy as np
import pytest
import torch
from scipy import ndimage

from inflate3d.inference.predictor import Predictor
from inflate3d.io import read_volume
from inflate3d.models.volumetric import create_volumetric
from inflate3d.volume import Volume
from inflate3d.windows.resample import normalize


@pytest.fixture(scope="module")
def model(phantom_store):
    torch.manual_seed(0)
    model = create_volumetric("segresnet", in_channels=1, num_classes=5, patch_size=(8, 32, 32), width=8)
    model.plan = phantom_store.plan.model_copy(
        update={"classes": dict(zip((0, 3, 4, 90, 700), phantom_store.plan.class_names, strict=True))}
    )
    return model


@pytest.fixture
def predictor(model):
    return Predictor(model, device="cpu")


@pytest.fixture(scope="module")
def scan(phantoms):
    whole = read_volume(phantoms.cases[4].scan)
    first = np.array(whole.shape) // 2 - np.array((25, 28, 4))
    part = tuple(slice(start, start + size) for start, size in zip(first, (50, 56, 8), strict=True))
    return Volume(whole.array[(slice(None), *part)], whole.affine)


def voxelwise(predictor, monkeypatch):
    """A network whose logits are each voxel's own value, in class 1, against 0.3."""

    def forward(patches):
        return torch.cat([torch.full_like(patches, 0.3), patches, *[patches - 9] * 3], dim=1)

    monkeypatch.setattr(predictor.models[0], "forward", forward)


@pytest.mark.parametrize("spacing", [None, (1.7, 2.3)])
@pytest.mark.parametrize("slice_spacing", [None, 2.0])
def test_labels_lie_on_the_scans_own_grid(predictor, scan, monkeypatch, spacing, slice_spacing):
    spaced = predictor.plan.model_copy(update={"pixel_spacing": spacing, "slice_spacing": slice_spacing})
    monkeypatch.setattr(predictor.models[0], "plan", spaced)
    labels = Predictor(predictor.models, device="cpu").predict(scan).labels
    assert labels.shape == scan.shape
    assert set(np.unique(labels)) <= {0, 3, 4, 90, 700}
    assert len(np.unique(labels)) > 1


def test_voxels_stay_in_their_places(predictor, scan, monkeypatch):
    """A network that looks at each voxel alone gives a threshold, exactly, whatever the patches are."""
    voxelwise(predictor, monkeypatch)
    framed = predictor._to_model_space(scan)
    image, ranges = framed.read(np.arange(framed.slices)), framed.ranges(predictor.plan.normalization)
    values = normalize(image[None], ranges[None])[0, 0]
    bright, dark = values > 0.3 + 1e-5, values < 0.3 - 1e-5
    labels = torch.from_numpy(framed.orientation.apply(predictor.predict(scan).labels).astype(np.int64))
    assert (labels[bright] == 3).all()
    assert (labels[dark] == 0).all()
    assert 0.05 < bright.float().mean() < 0.95


def test_a_depth_filter_smooths_each_voxel_with_those_above_and_below(predictor, scan, monkeypatch):
    voxelwise(predictor, monkeypatch)
    framed = predictor._to_model_space(scan)
    image, ranges = framed.read(np.arange(framed.slices)), framed.ranges(predictor.plan.normalization)
    spacing = framed.slice_spacing
    smooth = ndimage.gaussian_filter1d(normalize(image[None], ranges[None])[0, 0].numpy(), 0.5, axis=0, radius=1)
    inner = slice(1, framed.slices - 1)  # the ends are handled in another way
    labels = framed.orientation.apply(predictor.predict(scan, depth_filter=0.5 * spacing).labels)
    assert (labels[inner][smooth[inner] > 0.3 + 1e-4] == 3).all()
    assert (labels[inner][smooth[inner] < 0.3 - 1e-4] == 0).all()
    assert (labels != framed.orientation.apply(predictor.predict(scan).labels)).mean() > 0.01


@pytest.mark.parametrize("part", [(5, 20, 17), (3, 200, 12), (1, 9, 9)])
def test_scan_smaller_than_the_patch(predictor, scan, part, monkeypatch):
    voxelwise(predictor, monkeypatch)
    framed = predictor._to_model_space(scan)
    slices, rows, columns = (slice(0, size) for size in part)
    small = Volume(framed.scan.voxels[:, slices, rows, columns].transpose(0, 2, 3, 1), np.diag([1.0, 1.0, 3.0, 1.0]))
    labels = predictor.predict(small).labels
    assert labels.shape == small.shape


def test_batches_of_patches_change_nothing(model, scan):
    labels = [Predictor(model, device="cpu", batch_size=size).predict(scan).labels for size in (1, 64)]
    assert (labels[0] != labels[1]).mean() < 1e-4


def test_training_and_prediction_see_the_same_voxels(predictor, phantoms, phantom_store):
    case = phantoms.cases[2]
    framed, stored = predictor._to_model_space(read_volume(case.scan)), predictor._frame(phantom_store.scan(case.id))
    every = np.arange(framed.slices)
    assert torch.equal(framed.read(every), stored.read(every))
    assert torch.allclose(framed.sides, stored.sides)
    rules = predictor.plan.normalization
    assert torch.equal(framed.ranges(rules), stored.ranges(rules))


def test_model_grid_is_that_of_the_logits(predictor, scan, monkeypatch):
    spaced = predictor.plan.model_copy(update={"pixel_spacing": (2.0, 3.0)})
    monkeypatch.setattr(predictor.models[0], "plan", spaced)
    predictor = Predictor(predictor.models, device="cpu")
    grid = predictor.predict(scan, model_grid=True).model_grid
    framed = predictor._to_model_space(scan)
    (logits,) = next(iter(predictor._slice_logits(framed)))
    on_grid = grid.resample(np.ones(scan.shape, np.uint8))
    assert on_grid.shape == grid.classes.shape == (framed.own_shape[0], *logits.shape[2:])
    assert np.array_equal(grid.classes[0], logits[0].argmax(0).numpy())
    assert on_grid.mean() > 0.95
