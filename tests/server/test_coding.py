"""Numbers that travel, and values on the disk."""

import numpy as np
import pytest

from inflate3d.errors import DataError
from inflate3d.server.coding import LabelCoding

TUMOR = LabelCoding((0, 2, 5, 9), ("liver", "tumor", "ignore"), {7: 5})


def grid(*values):
    return np.array(values, np.uint8).reshape(1, 1, -1)


def info(**indices):
    return [{"name": name, "idx": index} for name, index in indices.items()]


def test_classes_travel_as_their_places():
    assert TUMOR.encode(grid(0, 2, 5, 7, 9)).ravel().tolist() == [0, 1, 2, 2, 3]
    assert not TUMOR.is_plain and LabelCoding((0, 1, 2), ("a", "b"), {}).is_plain


def test_names_say_what_numbers_are():
    assert TUMOR.decode(grid(0, 1, 2), info(tumor=1, Liver=2)).ravel().tolist() == [0, 5, 2]


def test_round_trip():
    labels = grid(0, 2, 5, 9, 0)
    assert TUMOR.decode(TUMOR.encode(labels), info(**TUMOR.numbers)).tolist() == labels.tolist()


def test_slicer_counts_segments_that_it_does_not_send():
    """Its ``idx`` is 2 and 3 beside a segment for the background, its label map has 1 and 2."""
    assert TUMOR.decode(grid(0, 1, 2), info(liver=2, tumor=3)).ravel().tolist() == [0, 2, 5]


def test_others_send_single_classes_by_their_number():
    assert TUMOR.decode(grid(0, 2), info(tumor=2)).ravel().tolist() == [0, 5]


@pytest.mark.parametrize(
    ("labels", "label_info"),
    [
        (grid(0, 1), None),  # 1 may be the number of the liver, and 2 its value
        (grid(0, 2), info(liver=2, tumor=3)),  # by order the tumor, by index the liver
        (grid(0, 3), info(liver=1, tumor=2)),
        (grid(0, 1), info(kidney=1)),
        (grid(0, 1), "liver"),
        (grid(0, 1), [{"name": 1}]),
        (grid(0, 1), []),
    ],
)
def test_what_could_mean_another_class_is_refused(labels, label_info):
    with pytest.raises(DataError):
        TUMOR.decode(labels, label_info)


def test_segments_without_voxels_may_have_any_name():
    assert TUMOR.decode(grid(0, 1), info(liver=1, Segment_2=2)).ravel().tolist() == [0, 2]
