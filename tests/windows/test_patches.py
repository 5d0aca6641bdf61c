import numpy as np
import pytest
import torch

from inflate3d.config import AugmentationConfig
from inflate3d.preparation.prepare import prepare
from inflate3d.windows.patches import Patches, median_grid, patch_start, plane_grid
from inflate3d.windows.resample import field_matrices, follow, resample_labels, resample_windows
from inflate3d.windows.sampling import SampleLocation, WindowSampler

SIZE = (8, 16, 12)


@pytest.fixture(scope="module")
def store(write_toys, tmp_path_factory):
    """Toy scans of 7 slices, 24 rows and 20 columns at most, and a larger one."""
    return prepare(write_toys(tmp_path_factory.mktemp("toys")), tmp_path_factory.mktemp("store"), workers=1)


def patches_of(store, places, *, size=SIZE, spacing=None, augmentation=AugmentationConfig(), seed=0):  # noqa: B008
    draw = places.draw if isinstance(places, WindowSampler) else places.__getitem__
    return Patches(store, draw, size=size, pixel_spacing=spacing, augmentation=augmentation, seed=seed)


def shown(batch, size, spacing=None):
    """What a network sees of a patch, without augmentation: voxel values and labels."""
    pixels = batch.sides / batch.extents if spacing is None else torch.tensor([spacing])
    matrices = field_matrices(batch.sides, torch.tensor([size[1:]]) * pixels, batch.centers)
    image = resample_windows(batch.windows, matrices, size[1:], batch.extents)
    return image[0], resample_labels(batch.labels, matrices, size[1:], batch.extents)[0, 0]


@pytest.mark.parametrize(
    ("center", "size", "length", "start"),
    [(10, 4, 20, 8), (0, 4, 20, 0), (19, 4, 20, 16), (3, 20, 20, 0), (1, 8, 7, 0), (1, 8, 5, -1), (1, 8, 4, -2)],
)
def test_patch_lies_inside_where_it_fits(center, size, length, start):
    assert patch_start(center, size, length) == start


@pytest.mark.parametrize(("size", "length"), [(8, 7), (8, 5), (9, 4)])
def test_patch_starts_where_monai_pads_to(size, length):
    from monai.inferers.utils import sliding_window_inference

    seen = []

    def look(patch):
        seen.append(patch)
        return patch

    sliding_window_inference(torch.ones(1, 1, length, 16, 16), (size, 16, 16), 1, look)
    assert int(seen[0][0, 0, :, 0, 0].argmax()) == -patch_start(0, size, length)


@pytest.mark.parametrize(
    "place",
    [
        SampleLocation("toy0", 0),
        SampleLocation("toy0", 3, (2,)),
        SampleLocation("toy1", 6),
        SampleLocation("toy1", 2, (1,)),
    ],
)
@pytest.mark.parametrize("size", [(4, 16, 12), (8, 32, 16), (3, 7, 9)])
def test_patch_is_a_part_of_the_scan_voxel_by_voxel(store, place, size):
    case = store.cases[place.case]
    slices = list(range(case.shape[0]))
    whole, labels = store.image_slices(place.case, slices)[0], store.label_slices(place.case, slices)
    low = case.ranges[0][0]
    seen, seen_labels = shown(patches_of(store, [place], size=size)[0], size)

    starts = []
    for axis in range(3):
        candidates = (
            range(case.shape[axis] - size[axis] + 1)
            if size[axis] <= case.shape[axis]
            else [patch_start(0, size[axis], case.shape[axis])]
        )
        starts.append(candidates)
    found = [
        (first, row, column)
        for first in starts[0]
        for row in starts[1]
        for column in starts[2]
        if np.allclose(_cut(whole, (first, row, column), size, low), seen[0].numpy(), atol=0.01)
        and np.array_equal(_cut(labels, (first, row, column), size, 0), seen_labels.numpy())
    ]
    assert len(found) == 1


def _cut(array, start, size, low):
    """A part of an array; slices outside it are ``low``, rows and columns outside 0."""
    inside = [
        slice(max(0, first), min(first + n, length)) for first, n, length in zip(start, size, array.shape, strict=True)
    ]
    where = [slice(part.start - first, part.stop - first) for part, first in zip(inside, start, strict=True)]
    cut = np.zeros(size, np.float32)
    cut[: where[0].start] = cut[where[0].stop :] = 0
    cut[:, where[1], where[2]] = low
    cut[tuple(where)] = array[tuple(inside)]
    return cut


@pytest.mark.parametrize("target_class", [1, 2])
def test_patch_shows_a_voxel_of_its_class(store, target_class):
    slices = store.cases["toy0"].slices[target_class]
    places = [SampleLocation("toy0", slices[number % len(slices)], (target_class,)) for number in range(20)]
    patches = patches_of(store, places, size=(1, 4, 4))
    for number in range(20):
        assert (shown(patches[number], (1, 4, 4))[1] == target_class).any()


def test_classes_are_drawn_as_for_windows(store):
    sampler = WindowSampler(store.cases, 1.0, seed=3)
    assert {sampler.draw(number).target for number in range(30)} == {(1,), (2,)}


def test_what_is_cut_away_would_not_have_been_seen(store):
    """With the largest augmentation, a patch is the same from the whole slices."""
    config = AugmentationConfig(max_zoom=1.2, max_rotation=45, max_shift=0.1)
    size = (3, 8, 6)
    for number in range(8):
        place = SampleLocation("toy0", 3)
        small = patches_of(store, [place] * 8, size=size, augmentation=config)[number]
        large = patches_of(store, [place] * 8, size=size, augmentation=config.model_copy(update={"max_zoom": 100.0}))[
            number
        ]
        assert large.windows.shape[-2:] == store.cases["toy0"].shape[1:]
        fields = torch.tensor([[8.0, 6.0]])
        spun = torch.tensor([[[0.7, 0.7, 0.2], [-0.7, 0.7, -0.2]]]) * torch.tensor([1.2, 1.2, 1.0])
        seen = []
        for batch in (small, large):
            matrices = follow(spun, field_matrices(batch.sides, fields, batch.centers))
            seen.append(resample_windows(batch.windows, matrices, (8, 6), batch.extents))
        assert torch.allclose(*seen, atol=1e-2)


def test_same_number_same_patch(store):
    sampler = WindowSampler(store.cases, 0.5, seed=0)
    first, again = patches_of(store, sampler), patches_of(store, sampler)
    for number in (0, 7, 3):
        assert all(torch.equal(*pair) for pair in zip(first[number], again[number], strict=True))
    other = patches_of(store, sampler, seed=1)
    assert any(not torch.equal(first[number].centers, other[number].centers) for number in range(5))


def test_grid_has_the_wanted_spacing_or_the_scans_own():
    assert plane_grid((24, 20), (1.0, 1.5), None) == ((24, 20), (1.0, 1.5))
    assert plane_grid((24, 20), (1.0, 1.5), (2.0, 2.0)) == ((12, 15), (2.0, 2.0))
    assert plane_grid((2, 2), (0.1, 0.1), (2.0, 2.0)) == ((1, 1), (2.0, 2.0))


def test_resampled_patch_has_the_wanted_spacing(store):
    """A patch of the whole slice at half the resolution, 2 mm: each pixel is bilinear between four."""
    size, spacing = (7, 12, 10), (2.0, 2.0)
    seen, _ = shown(patches_of(store, [SampleLocation("toy0", 3)], size=size, spacing=spacing)[0], size, spacing)
    whole = torch.from_numpy(store.image_slices("toy0", list(range(7))).astype(np.float32))
    shape = whole.shape[2] // 2, whole.shape[3] // 2
    expected = torch.nn.functional.avg_pool2d(whole, 2)[0]
    rows, columns = (min(pair) for pair in zip(shape, seen.shape[2:], strict=True))
    assert (rows, columns) == (10, 10)
    center = seen[0][:, 1:11] if seen.shape[2] > shape[0] else seen[0]
    begin = (shape[1] - columns) // 2
    assert any(
        torch.allclose(center, expected[:, :, first : first + columns], atol=0.05)
        for first in range(shape[1] - columns + 1)
    ), begin


def test_median_grid(store):
    shape, spacing = median_grid(store)
    assert shape == store.cases["toy0"].shape
    assert spacing == pytest.approx((3.0, 1.0, 1.0))
