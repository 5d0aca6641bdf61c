"""The whole way, scan file to label file: what the network answers lies where the scan said it, to the voxel."""

import itertools
import tempfile
from pathlib import Path

import nibabel
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation
from torch import nn
from torch.nn import functional as F

from inflate3d.datasets.case import Case
from inflate3d.inference.batch import predict_files
from inflate3d.inference.predictor import Predictor
from inflate3d.io import read_labels, read_volume, write_volume
from inflate3d.models.architecture import Architecture
from inflate3d.models.segmenter import Segmenter
from inflate3d.orientation import DEPTH_AXES
from inflate3d.preparation.model_space import to_model_space
from inflate3d.preparation.plan import Normalization, Plan
from inflate3d.preparation.store import write_case
from inflate3d.volume import Volume

VALUES = {0: "background", 2: "liver", 5: "tumor", 52: "aorta"}
AXES = [
    (order, signs) for order in itertools.permutations(range(3)) for signs in itertools.product((1.0, -1.0), repeat=3)
]


def plan_for(volume, depth_axis, **what):
    """No resampling: the model's input has the very pixels of the scan's slices."""
    values = {
        "dataset": "Toy",
        "modalities": ("label",),
        "classes": VALUES,
        "merged": {},
        "depth_axis": depth_axis,
        "image_size": (1, 1),
        "normalization": (Normalization(kind="clip", low=0, high=52),),
        "flips": (True, True, True),
        "reasons": {},
    }
    plan = Plan(**values)
    rows, columns = to_model_space(volume, plan).voxels.shape[2:]
    return plan.model_copy(update={"image_size": (rows, columns), **what})


class Reader(Segmenter):
    """A network that reads the labels off the scan: its voxels are the label values themselves."""

    def __init__(self, plan, depth=3):
        nn.Module.__init__(self)
        self.plan = plan
        self.architecture = Architecture(
            encoder="none",
            depth=depth,
            in_channels=1,
            image_size=plan.image_size,
            inflation="center",
            levels=None,
            decoder="upernet",
            decoder_channels=8,
            detail_channels=0,
            num_classes=len(plan.classes),
            input_mean=0.0,
            input_std=1.0,
        )

    def forward(self, windows):
        center = windows[:, 0, windows.shape[2] // 2] * 52
        distance = (center[:, None] - torch.tensor(list(VALUES))[None, :, None, None]).abs()
        return F.one_hot(distance.argmin(1), len(VALUES)).movedim(-1, 1).float()


@st.composite
def scans(draw):
    """A label map as a scan, with any axis order, handedness, tilt and spacing, and no symmetry to hide behind."""
    order, signs = draw(st.sampled_from(AXES))
    tilt = np.array([draw(st.floats(-0.35, 0.35)) for _ in range(3)])
    spacing = [draw(st.sampled_from([0.4, 0.977, 1.0, 3.27, 5.0])) for _ in range(3)]
    affine = np.eye(4)
    affine[:3, :3] = Rotation.from_rotvec(tilt).as_matrix() @ (np.eye(3)[:, list(order)] * signs) * spacing
    affine[:3, 3] = [draw(st.sampled_from([0.0, -123.25, 87.5])) for _ in range(3)]
    shape = [draw(st.integers(3, 7)) for _ in range(3)]
    scattered = (np.arange(np.prod(shape), dtype=np.uint32) + draw(st.integers(0, 2**20))) * np.uint32(2654435761)
    return np.array(list(VALUES), np.int16)[(scattered >> 16) % 4].reshape(1, *shape), affine


@pytest.mark.slow
@settings(max_examples=40)
@given(scans(), st.sampled_from(DEPTH_AXES), st.sampled_from([1, 2]))
def test_label_map_comes_back_voxel_for_voxel_with_affine_and_codes(scan, depth_axis, stride):
    volume = Volume(*scan)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        path = folder / "scan.nii.gz"
        image = nibabel.Nifti1Image(volume.array[0], None)
        image.header.set_sform(volume.affine, code=4)
        image.header.set_qform(volume.affine, code=2)
        image.to_filename(path)
        read = read_volume(path)
        plan = plan_for(read, depth_axis, stride=stride)
        predictor = Predictor(Reader(plan, depth=3 if stride == 1 else 1), device="cpu", batch_size=2)
        (result,) = predict_files(predictor, path, folder / "out")
        written = Path(str(result.file))
        assert np.array_equal(read_labels(written).array[0], volume.array[0])
        before, after = nibabel.Nifti1Image.load(path).header, nibabel.Nifti1Image.load(written).header
        for form in ("get_sform", "get_qform"):
            (expected, code), (found, same) = (getattr(header, form)(coded=True) for header in (before, after))
            assert code == same
            assert np.array_equal(expected, found)

        stored = write_case(folder, Case("scan", (path,), written), read, read_labels(written), plan)
        framed = to_model_space(read, plan)
        assert stored.shape == framed.image().shape[1:]
        assert np.array_equal(framed.labels(volume.array[0]), framed.image()[0])


@pytest.mark.slow
@pytest.mark.parametrize("suffix", [".nii", ".nrrd", ".mha"])
@pytest.mark.parametrize("axes", AXES[::11])
def test_every_format_gives_the_labels_back(suffix, axes, tmp_path):
    order, signs = axes
    affine = np.eye(4)
    affine[:3, :3] = np.eye(3)[:, list(order)] * signs * (1.0, 3.0, 0.5)
    random = np.random.default_rng(0)
    volume = Volume(random.choice(np.array(list(VALUES), np.int16), (1, 5, 4, 6)), affine)
    path = tmp_path / f"scan{suffix}"
    write_volume(path, volume)
    plan = plan_for(volume, "axial")
    predictor = Predictor(Reader(plan), device="cpu")
    (result,) = predict_files(predictor, path, tmp_path / "out")
    written = Path(str(result.file))
    assert written.name == path.name
    assert np.array_equal(read_labels(written).array, volume.array)
    assert np.array_equal(read_volume(written).affine, read_volume(path).affine)


def test_resampled_in_plane_and_through_plane_things_stay_in_place():
    """A ball through other slices and pixels and back: nearly all voxels are what they were."""
    grid = np.stack(np.meshgrid(*(np.arange(n) for n in (48, 40, 20)), indexing="ij"))
    distance = np.sqrt((((grid.T - (25, 18, 9)) * (1.0, 1.2, 2.5)) ** 2).sum(-1)).T
    ball = np.where(distance < 14, 52, 0).astype(np.int16)
    volume = Volume(ball[None], np.diag([1.0, 1.2, 2.5, 1.0]))
    plan = plan_for(volume, "axial", slice_spacing=1.7, pixel_spacing=(0.8, 0.8), image_size=(72, 96))
    labels = Predictor(Reader(plan), device="cpu").predict(volume).labels
    assert labels.shape == ball.shape
    # values between 0 and 52 are read as other classes at the rim, so only the ball itself is looked at
    assert ((labels == 52) & (ball == 52)).sum() / (ball == 52).sum() > 0.9
    assert ((labels == 52) & (ball == 0)).sum() / (ball == 52).sum() < 0.02
