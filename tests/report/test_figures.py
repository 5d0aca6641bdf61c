import io

import numpy as np
import pytest
from matplotlib import image as matplotlib_image

from inflate3d.report.figures import (
    LONGEST_SIDE,
    PALETTE,
    Curve,
    class_colour,
    crop_box,
    data_address,
    draw_curves,
    draw_slice,
    spread_slices,
    upright,
)


def pixels(png: bytes) -> np.ndarray:
    return matplotlib_image.imread(io.BytesIO(png), format="png")


def colour_distance(picture: np.ndarray, colour: str) -> np.ndarray:
    wanted = np.array([int(colour[at : at + 2], 16) for at in (1, 3, 5)]) / 255
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
def test_picture_has_the_proportions_in_millimetres(shape, spacing, expected):
    nothing = np.zeros(shape, np.uint8)
    assert pixels(draw_slice(np.zeros(shape), nothing, nothing, spacing)).shape[:2] == expected


def test_intensities_are_drawn_as_they_are_and_upright():
    image = np.zeros((40, 40))
    image[:20] = 1
    nothing = np.zeros((40, 40), np.uint8)
    picture = pixels(draw_slice(image, nothing, nothing, (1.0, 1.0)))
    assert picture[40, 180, :3] == pytest.approx(1)
    assert picture[320, 180, :3] == pytest.approx(0)


def test_prediction_is_outlined_in_its_class_colour_where_it_ends():
    nothing = square(slice(0, 0), slice(0, 0))
    predicted = square(slice(10, 30), slice(10, 30), value=2)
    picture = pixels(draw_slice(np.zeros((40, 40)), nothing, predicted, (1.0, 1.0)))
    found = np.argwhere(colour_distance(picture, class_colour(2)) < 0.1)
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
    assert (colour_distance(picture, class_colour(1))[10:-10, 0] < 0.2).all()


def test_first_seven_colours_differ_and_later_classes_begin_again():
    assert len(set(PALETTE)) == len(PALETTE)
    assert class_colour(1) == PALETTE[0] == class_colour(len(PALETTE) + 1)


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


def test_curve_rises_where_its_values_do_and_skips_what_is_not_known():
    curve = Curve([0, 50, 100], [0.0, float("nan"), 1.0], colour="#ff0000", wide=True)
    picture = pixels(draw_curves([curve], theme="light", steps=100, logarithmic=False))
    red = np.argwhere((colour_distance(picture, "#ff0000") < 0.2) & (picture[..., 3] > 0.9))
    left, right = red[red[:, 1].argmin()], red[red[:, 1].argmax()]
    assert left[0] > right[0]  # rows run down
    assert np.ptp(red[:, 1]) > 0.8 * picture.shape[1]
    assert picture[0, 0, 3] == 0  # transparent


def test_themes_differ_in_ink_and_no_curve_is_no_error():
    light, dark = (draw_curves([], theme=theme, steps=10, logarithmic=True) for theme in ("light", "dark"))
    assert light != dark
    assert data_address(light).startswith("data:image/png;base64,iVBORw0KGgo")
