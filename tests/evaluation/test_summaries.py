import math

import numpy as np
import pytest

from inflate3d.evaluation.summaries import spacing_group, summarize

NAN = math.nan


@pytest.mark.parametrize(
    ("spacing", "group"),
    [
        ((1.0, 0.7, 0.7), "up to 1 mm"),
        ((0.7, 0.7, 1.0000001), "up to 1 mm"),
        ((1.01, 1.0, 1.0), "1 to 2 mm"),
        ((0.5, 5.0, 0.5), "3 to 5 mm"),
        ((8.0, 1.5, 1.5), "over 5 mm"),
    ],
)
def test_groups_of_spacings(spacing, group):
    assert spacing_group(spacing) == group


def test_one_case_has_no_interval():
    summary = summarize(np.array([[0.5, NAN]]))
    assert (summary.mean.value, summary.median.value, summary.cases) == (0.5, 0.5, (1, 0))
    assert math.isnan(summary.mean.low) and math.isnan(summary.medians[0].high)


def test_no_case_has_no_figure():
    assert math.isnan(summarize(np.empty((0, 2))).mean.value)


def test_a_class_that_scores_the_same_everywhere_is_sure():
    summary = summarize(np.full((4, 1), 0.25))
    for estimate in (summary.mean, summary.median, *summary.means, *summary.medians):
        assert (estimate.value, estimate.low, estimate.high) == (0.25, 0.25, 0.25)
