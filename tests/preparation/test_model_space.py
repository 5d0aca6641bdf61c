import numpy as np
import pytest

from inflate3d.errors import DataError
from inflate3d.preparation.model_space import to_model_space
from inflate3d.preparation.plan import Normalization, Plan
from inflate3d.volume import Volume

PIR = np.array([[0, 0, 1.0, 0], [-1.5, 0, 0, 0], [0, -4.0, 0, 0], [0, 0, 0, 1]])
"""Voxel axes to the back (1.5 mm), down (4 mm), to the right (1 mm)."""
BY_CASE = Normalization(kind="case")


def plan_of(slice_spacing=None, modalities=1, rule=BY_CASE):
    return Plan(
        dataset="Toy",
        modalities=("MRI",) * modalities,
        classes={0: "background", 3: "liver"},
        merged={},
        depth_axis="axial",
        slice_spacing=slice_spacing,
        image_size=(32, 32),
        normalization=(rule,) * modalities,
        flips=(True, True, True),
        reasons={},
    )


def scan(shape=(6, 4, 5), modalities=1, seed=0):
    array = np.random.default_rng(seed).integers(-1000, 1000, (modalities, *shape)).astype(np.int16)
    return Volume(array, PIR)


def ranges_of(volume):
    return to_model_space(volume, plan_of()).value_ranges((BY_CASE,))


def test_own_slices_keep_their_values_to_the_bit():
    volume = scan()
    framed = to_model_space(volume, plan_of())
    assert framed.image().dtype == np.int16
    assert np.array_equal(framed.image(), volume.array.transpose(0, 2, 3, 1)[:, ::-1, :, ::-1])
    assert (framed.spacing, framed.own_slices) == ((4.0, 1.0, 1.5), 4)
    assert np.array_equal(framed.orientation.undo(framed.image()), volume.array)
    labels = (volume.array[0] > 0).astype(np.uint8)
    assert np.array_equal(framed.orientation.undo(framed.labels(labels)), labels)


def test_absurd_number_of_slices_is_refused_before_memory_is_taken():
    with pytest.raises(DataError) as caught:
        to_model_space(scan(), plan_of(slice_spacing=1e-12))
    assert caught.value.expected == "at most 100000"


def test_slices_are_resampled_where_the_plan_wants_it():
    volume = scan()
    framed = to_model_space(volume, plan_of(slice_spacing=2.0))
    own = to_model_space(volume, plan_of()).image().astype(np.float64)
    assert framed.image().shape == (1, 8, 5, 6)
    assert (framed.spacing, framed.own_slices) == ((2.0, 1.0, 1.5), 4)
    # new slices lie a quarter of the way to the neighbors; the outermost repeat the end
    assert np.allclose(framed.image()[:, 0], own[:, 0])
    assert np.allclose(framed.image()[:, 1], 0.75 * own[:, 0] + 0.25 * own[:, 1], atol=1e-3)
    assert np.allclose(framed.image()[:, 6], 0.75 * own[:, 3] + 0.25 * own[:, 2], atol=1e-3)
    labels = np.arange(6 * 4 * 5, dtype=np.uint8).reshape(6, 4, 5)
    assert np.array_equal(framed.labels(labels), np.repeat(framed.orientation.apply(labels), 2, axis=0))


@pytest.mark.parametrize("slice_spacing", [None, 2.0, 3.1, 5.0])
def test_slices_read_one_by_one_are_those_of_the_whole_image(slice_spacing):
    """Prediction reads slices, the store takes all: both see the same bits."""
    framed = to_model_space(scan(modalities=2), plan_of(slice_spacing, modalities=2))
    whole = framed.image()
    for indices in (np.array([framed.num_slices - 1, 0, 0]), np.arange(framed.num_slices)):
        assert framed.read(indices).tobytes() == np.ascontiguousarray(whole[:, indices]).tobytes()


def test_fewer_slices_cover_the_same_length():
    framed = to_model_space(scan(), plan_of(slice_spacing=5.0))
    assert framed.image().shape[1] == 3
    assert framed.spacing[0] == pytest.approx(16 / 3)


def test_range_is_the_same_however_the_file_lies():
    """Percentiles come from a sample of a large scan; which voxels it holds must not depend on the file's axes."""
    volume = scan((90, 80, 70))
    turned = Volume(volume.array.transpose(0, 3, 1, 2)[:, :, ::-1], np.eye(4))
    affine = np.eye(4)
    affine[:, 0], affine[:, 1], affine[:, 2] = PIR[:, 2], -PIR[:, 0], PIR[:, 1]
    turned = Volume(turned.array, affine)
    assert ranges_of(turned) == ranges_of(volume)


def test_channel_of_zeros_stands_for_a_missing_modality():
    volume = scan(modalities=2)
    volume.array[1] = 0
    clip = Normalization(kind="clip", low=-100, high=100)
    assert to_model_space(volume, plan_of(modalities=2, rule=clip)).value_ranges((clip, clip)) == ((-100, 100), (0, 1))


def test_wrong_number_of_modalities():
    with pytest.raises(DataError) as caught:
        to_model_space(scan(modalities=2), plan_of())
    assert (caught.value.expected, caught.value.got) == ("1 (MRI)", 2)
