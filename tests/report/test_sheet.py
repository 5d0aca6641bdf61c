import io

import numpy as np
import pytest
from matplotlib import image as matplotlib_image

from inflate3d.report.drawing import PALETTE, class_color, class_dashes
from inflate3d.report.sheet import ClassEntry, LabelMap, draw_sheet, list_classes, volumes_ml
from inflate3d.report.slices import SOFT_TISSUE, display_range
from inflate3d.volume import Volume

AFFINE = np.diag([1.0, 1.0, 4.0, 1.0])


def box(value=1, shape=(40, 30, 10)):
    labels = np.zeros(shape, np.uint8)
    labels[10:20, 10:20, 2:6] = value
    return labels


def sheet(scan, maps, slices=3, names=None):
    return pixels(
        draw_sheet(scan, maps, list_classes(maps, names or {}), title="$x_{1}", values=(0.0, 1.0), slices=slices)
    )


def pixels(png):
    return matplotlib_image.imread(io.BytesIO(png), format="png")[..., :3]


def near(picture, color, tolerance=0.12):
    wanted = np.array([int(color[at : at + 2], 16) for at in (1, 3, 5)]) / 255
    return np.abs(picture - wanted).max(axis=-1) < tolerance


def volume(affine=AFFINE):
    return Volume(np.full((1, 40, 30, 10), 0.5, np.float32), affine)


def test_classes_keep_their_colors_where_names_are_known():
    names = {0: "background", 1: "liver", 2: "spleen", 5: "tumor"}
    maps = [LabelMap("a", box(5)), LabelMap("b", box(9))]
    assert list_classes(maps, names) == [ClassEntry(5, "tumor", 3), ClassEntry(9, "value 9", 4)]
    assert list_classes([LabelMap("b", box(2))], {}) == [ClassEntry(2, "value 2", 1)]
    assert list_classes([], names) == []


def test_classes_that_share_a_color_differ_in_dashes():
    looks = [(class_color(number), class_dashes(number)) for number in range(1, 4 * len(PALETTE) + 1)]
    assert len(set(looks)) == len(looks)


@pytest.mark.slow
def test_each_map_has_rows_of_its_own_and_the_class_its_color():
    maps = [LabelMap("label", box(1)), LabelMap("prediction", box(2))]
    one, two = sheet(volume(), maps[:1]), sheet(volume(), maps)
    assert two.shape[0] > 1.7 * one.shape[0]
    first, second = (near(two, class_color(number)) for number in (1, 2))
    legend = 200
    assert np.argwhere(first[legend:])[:, 0].max() < np.argwhere(second[legend:])[:, 0].min()


def test_pictures_have_the_proportions_in_millimeters():
    scan = Volume(np.ones((1, 40, 40, 10), np.float32), AFFINE)
    maps = [LabelMap("all", np.ones((40, 40, 10), np.uint8))]
    bright = np.all(sheet(scan, maps, slices=1) > 0.9, axis=-1)
    columns = np.flatnonzero(bright.sum(axis=0) > 100)
    runs = bright[:, columns[len(columns) // 2]]
    edges = np.flatnonzero(np.diff(runs.astype(int)))
    heights = [int(stop - start) for start, stop in zip(edges[::2], edges[1::2], strict=False) if stop - start > 50]
    assert heights == pytest.approx([heights[0]] * 3, rel=0.05)  # 40 mm along every axis


@pytest.mark.slow
@pytest.mark.parametrize("signs", [(1, 1), (-1, -1), (-1, 1)])
def test_the_sheet_does_not_depend_on_how_the_file_lies(signs):
    array = np.random.default_rng(0).random((1, 40, 30, 10)).astype(np.float32)
    straight = sheet(Volume(array, AFFINE), [LabelMap("a", box())])
    flips = tuple(slice(None, None, sign) for sign in signs)
    affine = AFFINE @ np.diag([*signs, 1, 1])
    affine[:2, 3] = [39 if signs[0] < 0 else 0, 29 if signs[1] < 0 else 0]
    turned = sheet(Volume(array[(slice(None), *flips)], affine), [LabelMap("a", box()[flips])])
    np.testing.assert_array_equal(straight, turned)


def test_scan_alone_and_single_slices_are_shown():
    assert (sheet(volume(), []) > 0.4).any()
    thin = Volume(np.ones((1, 8, 8, 1), np.float32), np.eye(4))
    assert (sheet(thin, [LabelMap("nothing", np.zeros((8, 8, 1), np.uint8))]) > 0.9).any()


def test_volumes_are_milliliters():
    assert volumes_ml(box(), (1.0, 1.0, 4.0), [ClassEntry(1, "liver", 1)]) == {"liver": 1.6}


def test_ct_is_shown_in_the_window_for_soft_tissue():
    random = np.random.default_rng(0)
    body = np.concatenate([np.full(500, -1000), random.normal(40, 20, 400), random.normal(700, 50, 50)])
    assert display_range(body.astype(np.int16)) == SOFT_TISSUE


@pytest.mark.parametrize(("scale", "shift"), [(1, 0), (1000, 0), (1, -50)])
def test_other_scans_are_shown_between_their_percentiles(scale, shift):
    values = np.concatenate([np.zeros(5000), np.linspace(1, 100, 10001)]) * scale + shift
    low, high = display_range(values)
    assert low == pytest.approx(1.5 * scale + shift, abs=0.1 * scale)
    assert high == pytest.approx(99.5 * scale + shift, abs=0.1 * scale)


@pytest.mark.parametrize("value", [0, 7, -1000])
def test_flat_scan_has_a_window_too(value):
    low, high = display_range(np.full(100, value, np.int16))
    assert low < high
