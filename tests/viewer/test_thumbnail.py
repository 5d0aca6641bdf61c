import io

import numpy as np
import pytest
from PIL import Image

from inflate3d.viewer.thumbnail import SIDE, thumbnail
from inflate3d.volume import Volume


def picture(content):
    with Image.open(io.BytesIO(content)) as opened:
        return np.asarray(opened).astype(int)


@pytest.mark.parametrize("codes", ["RAS", "LPS", "PIR", "LSA"])
def test_shows_the_labeled_slice_upright_with_the_right_on_the_left(codes):
    array, numbers = np.full((1, 12, 24, 6), 10, np.int16), np.zeros((12, 24, 6), np.uint8)
    array[:, :6] = 90  # the patient's right is bright
    array[0, 0, 0, 0] = 0
    numbers[:, 20:, 4] = 1  # a strip at the front
    scan = Volume(array, np.diag([-1, 1, 3, 1.0]))
    turned = scan.with_array(numbers[np.newaxis]).reorient(codes)
    shown = picture(thumbnail(scan.reorient(codes), turned.array[0]))
    assert shown.shape == (SIDE, SIDE // 2, 3)
    plain = shown[SIDE // 2 :]
    assert plain[:, :20].min() > plain[:, 30:].max()
    red, _, blue = np.moveaxis(shown, -1, 0)
    orange = red > blue + 50
    assert orange[:10].all() and not orange[30:].any()


def test_without_labels_the_middle_is_shown_in_gray():
    array = np.zeros((1, 6, 8, 5), np.float32)
    array[..., 2] = np.arange(48).reshape(6, 8)
    shown = picture(thumbnail(Volume(array, np.diag([1, 1, 2, 1.0]))))
    assert (shown[..., 0] == shown[..., 2]).all() and np.ptp(shown) > 200
