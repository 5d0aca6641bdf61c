import io

import numpy as np
import pytest
from matplotlib import image as matplotlib_image

from inflate3d.report.drawing import class_color
from inflate3d.report.slices import (
    ERRORS,
    LONGEST_SIDE,
    crop_box,
    draw_areas,
    draw_slice,
    find_errors,
    spread_slices,
    upright,
)


def pixels(png: bytes) -> np.ndarray:
    return matplotlib_image.imread(io.BytesIO(png), format="png")


def color_distance(picture: np.ndarray, color: str) -> np.ndarray:
    wanted = np.array([int(color[at : at + 2], 16) for at in (1, 3, 5)]) / 255
    return np.abs(picture[..., :3] - wanted).max(axis=-1)


def square(rows, columns, value=1, size=40):
    labels = np.zeros((size, size), np.uint8)
    labels[rows, columns] = value
    return labels


def test_upright_axial_slice_has_front_up_and_left_on_the_right():
    frame_slice = np.zeros((3, 4))  # to the patient's right, to the front
    frame_slice[0, 3] = 1  # leftmost, foremost
    picture = upright(frame_slice)
    assert picture.shape == (4, 3)
    assert picture[0, 2] == 1


@pytest.mark.parametrize(
    ("shape", "spacing", "expected"),
    [
        ((50, 100), (1.0, 1.0), (LONGEST_SIDE // 2, LONGEST_SIDE)),
        ((50, 100), (2.0, 1.0), (LONGEST_SIDE, LONGEST_SIDE)),
        ((30, 30), (3.0, 0.75), (LONGEST_SIDE, LONGEST_SIDE // 4)),
    ],
)
def test_picture_has_the_proportions_in_millimeters(shape, spacing, expected):
    nothing = np.zeros(shape, np.uint8)
    assert pixels(draw_slice(np.zeros(shape), nothing, nothing, spacing)).shape[:2] == expected


def test_intensities_are_drawn_as_they_are_and_upright():
    image = np.zeros((40, 40))
    image[:20] = 1
    nothing = np.zeros((40, 40), np.uint8)
    picture = pixels(draw_slice(image, nothing, nothing, (1.0, 1.0)))
    assert picture[40, 180, :3] == pytest.approx(1)
    assert picture[320, 180, :3] == pytest.approx(0)


def test_prediction_is_outlined_in_its_class_color_where_it_ends():
    nothing = square(slice(0, 0), slice(0, 0))
    predicted = square(slice(10, 30), slice(10, 30), value=2)
    picture = pixels(draw_slice(np.zeros((40, 40)), nothing, predicted, (1.0, 1.0)))
    found = np.argwhere(color_distance(picture, class_color(2)) < 0.1)
    edge = LONGEST_SIDE / 4
    assert found.min(axis=0) == pytest.approx([edge, edge], abs=3)
    assert found.max(axis=0) == pytest.approx([3 * edge, 3 * edge], abs=3)
    inside = picture[110:250, 110:250, :3]
    assert inside.max() == 0


def test_label_is_a_wider_and_paler_outline_than_the_prediction():
    nothing, mask = square(slice(0, 0), slice(0, 0)), square(slice(10, 30), slice(10, 30))
    of_label = pixels(draw_slice(np.zeros((40, 40)), mask, nothing, (1.0, 1.0)))[180, :180, 0]
    of_prediction = pixels(draw_slice(np.zeros((40, 40)), nothing, mask, (1.0, 1.0)))[180, :180, 0]
    assert (of_label > 0.1).sum() > 2 * (of_prediction > 0.1).sum()
    assert of_label.max() < 0.6 < of_prediction.max()


def test_outline_closes_at_the_edge_of_the_picture():
    nothing, everything = np.zeros((40, 40), np.uint8), np.ones((40, 40), np.uint8)
    picture = pixels(draw_slice(np.zeros((40, 40)), nothing, everything, (1.0, 1.0)))
    assert (color_distance(picture, class_color(1))[10:-10, 0] < 0.2).all()


@pytest.mark.parametrize(
    ("holding", "count", "expected"),
    [
        ([4, 5, 6], 5, [4, 5, 6]),
        (list(range(10, 20)), 5, [11, 13, 15, 17, 19]),
        (list(range(25)), 5, [2, 7, 12, 17, 22]),
        ([], 5, []),
    ],
)
def test_slices_are_spread_evenly(holding, count, expected):
    assert spread_slices(holding, count) == expected


def test_box_holds_what_is_marked_with_a_margin():
    marked = np.zeros((3, 100, 200), bool)
    marked[0, 10:80, 20], marked[2, 40, 20:160] = True, True
    assert crop_box(marked, least=0.5, margin=0.05) == (slice(5, 85), slice(10, 170))


def test_box_stays_in_the_slice_and_has_its_least_size():
    marked = np.zeros((1, 100, 100), bool)
    marked[0, 0, 99] = True
    rows, columns = crop_box(marked, least=0.5, margin=0.0)
    assert (rows, columns) == (slice(0, 50), slice(50, 100))


def test_nothing_marked_shows_the_whole_slice():
    image = np.zeros((1, 7, 9), bool)
    assert image[0][crop_box(image)].shape == (7, 9)


def test_errors_are_distinguished_and_ignored_voxels_are_none():
    label = np.array([[[0, 0, 1, 1, 2, 255]]])
    predicted = np.array([[[0, 1, 1, 0, 1, 1]]])
    assert find_errors(label, predicted).ravel().tolist() == [0, 2, 0, 1, 3, 0]


def test_areas_have_the_colors_of_the_legend():
    areas = np.zeros((40, 40), np.uint8)
    for place, number in enumerate(ERRORS):
        areas[10:30, 13 * place : 13 * place + 10] = number
    nothing = np.zeros((40, 40), np.uint8)
    picture = pixels(draw_areas(np.zeros((40, 40)), areas, ERRORS, nothing, (1.0, 1.0)))
    for place, color in enumerate(ERRORS.values()):
        assert color_distance(picture, color)[180, 9 * (13 * place + 5)] < 0.15
    assert color_distance(picture, "#000000")[20, 20] == 0
