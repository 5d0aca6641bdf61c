import io

import numpy as np
import pytest
from matplotlib import image as matplotlib_image

from inflate3d.report.drawing import PAPER, class_color, data_address
from inflate3d.report.plots import Curve, draw_curves, draw_distributions


def pixels(png: bytes) -> np.ndarray:
    return matplotlib_image.imread(io.BytesIO(png), format="png")


def color_distance(picture: np.ndarray, color: str) -> np.ndarray:
    wanted = np.array([int(color[at : at + 2], 16) for at in (1, 3, 5)]) / 255
    return np.abs(picture[..., :3] - wanted).max(axis=-1)


def test_curve_rises_where_its_values_do_and_skips_what_is_not_known():
    curve = Curve([0, 50, 100], [0.0, float("nan"), 1.0], color="#ff0000", wide=True)
    picture = pixels(draw_curves([curve], theme="light", steps=100, logarithmic=False))
    red = np.argwhere(color_distance(picture, "#ff0000") < 0.2)
    left, right = red[red[:, 1].argmin()], red[red[:, 1].argmax()]
    assert left[0] > right[0]  # rows run down
    assert np.ptp(red[:, 1]) > 0.8 * picture.shape[1]


def test_themes_differ_in_ink_and_no_curve_is_no_error():
    light, dark = (draw_curves([], theme=theme, steps=10, logarithmic=True) for theme in ("light", "dark"))
    assert light != dark
    assert data_address(light).startswith("data:image/png;base64,iVBORw0KGgo")


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_better_scores_stand_higher_on_the_themes_paper(theme):
    scores = np.array([[0.9, 0.2], [0.95, np.nan], [0.85, 0.3]])
    picture = pixels(draw_distributions(scores, ["$a_{1}", "b"], theme=theme))
    heights = [np.argwhere(color_distance(picture, class_color(number)) < 0.1)[:, 0].mean() for number in (1, 2)]
    assert heights[0] < heights[1]
    assert color_distance(picture, PAPER[theme])[0, 0] < 0.01


def test_many_classes_and_one_without_scores_are_no_error():
    scores = np.full((2, 14), np.nan)
    assert draw_distributions(scores, [f"a rather long name {n}" for n in range(14)], theme="light")
