import io
import itertools
import math
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from inflate3d.comparison.figures import draw_arms, draw_cases, draw_sizes, plot_pictures, write_plots
from inflate3d.comparison.results import summarize_runs
from inflate3d.evaluation.statistics import Estimate

DICE = np.random.default_rng(0).uniform(0.5, 0.9, (6, 2))


@pytest.fixture
def low_data(made_up):
    dice = {(arm, size, 0): DICE - 0.1 * (size is not None) for arm in ("ours", "one-slice") for size in (1, None)}
    return summarize_runs("Toys", made_up(dice, sizes=(1, None)), whole=4)


def test_plots_are_written_in_both_formats(low_data, tmp_path):
    write_plots(low_data, tmp_path / "plots")
    files = sorted(path.name for path in (tmp_path / "plots").iterdir())
    names = ("cases", "comparison", "training_cases")
    assert files == [f"{name}.{form}" for name in names for form in ("png", "svg")]
    assert (tmp_path / "plots/comparison.png").read_bytes().startswith(b"\x89PNG")
    assert b"<svg" in (tmp_path / "plots/comparison.svg").read_bytes()


def test_points_are_the_figures(low_data):
    left, right = draw_arms(low_data).axes
    assert [label.get_text() for label in left.get_yticklabels()] == ["ours", "one-slice"]
    assert left.lines[1].get_xdata() == pytest.approx([DICE.mean()])
    assert right.get_xlabel().startswith("difference in Dice from ours")
    (axes,) = draw_sizes(low_data).axes
    assert axes.lines[0].get_xdata() == pytest.approx([1, 4], rel=0.02)  # a little left of the other arm's
    assert axes.lines[1].get_xdata() == pytest.approx([1, 4], rel=0.02)
    assert axes.lines[0].get_ydata() == pytest.approx([DICE.mean() - 0.1, DICE.mean()])
    ends = [segment[:, 1] for segment in axes.collections[0].get_segments()]  # pyright: ignore[reportAttributeAccessIssue]
    assert ends == [pytest.approx([row.dice.low, row.dice.high]) for row in low_data.rows if row.arm == "ours"]


def test_ticks_of_small_intervals_do_not_overlap(low_data):
    small = tuple(
        replace(row, dice=Estimate(0.83, 0.8295, 0.8306), difference=None)
        if row.difference is None
        else replace(row, difference=replace(row.difference, dice=Estimate(-0.0001, -0.0004, 0.0002)))
        for row in low_data.rows
    )
    figure = draw_arms(replace(low_data, rows=small))
    figure.draw_without_rendering()
    for axes in figure.axes:
        shown = [label.get_window_extent() for label in axes.get_xticklabels() if label.get_text()]
        shown = sorted((box.x0, box.x1) for box in shown if axes.bbox.x0 <= (box.x0 + box.x1) / 2 <= axes.bbox.x1)
        assert all(before[1] < after[0] for before, after in itertools.pairwise(shown))


def test_every_case_has_its_point(low_data):
    (axes,) = draw_cases(low_data).axes
    assert [label.get_text() for label in axes.get_yticklabels()] == ["ours", "one-slice"]
    band, points = axes.lines[0].get_xdata(), axes.lines[1].get_xdata()
    assert points == pytest.approx(DICE.mean(axis=1))
    assert band == pytest.approx(np.quantile(DICE.mean(axis=1), (0.25, 0.75)))


@pytest.mark.slow
def test_pictures_have_the_colors_of_their_page(low_data):
    corners = []
    for theme in ("light", "dark"):
        pictures = plot_pictures(low_data, theme)
        assert list(pictures) == ["comparison", "cases", "training_cases"]
        for content in pictures.values():
            with Image.open(io.BytesIO(content)) as picture:
                corners.append(picture.convert("RGB").getpixel((2, 2)))
    assert corners == [(255, 255, 255)] * 3 + [(0x1D, 0x21, 0x25)] * 3


def test_name_of_the_dataset_is_no_formula(low_data, tmp_path):
    write_plots(replace(low_data, dataset="$x_{1"), tmp_path)
    assert draw_cases(replace(low_data, dataset="$x_{1")).get_suptitle().startswith(r"\$x_{1: 4 training cases")


def test_titles_tell_dataset_cases_and_seeds(low_data):
    titles = [figure.get_suptitle() for figure in (draw_arms(low_data), draw_sizes(low_data))]
    assert [title.splitlines()[0] for title in titles] == [
        "Toys: 4 training cases, 6 held-out cases, 1 seed",
        "Toys: 6 held-out cases, 1 seed",
    ]
    assert "one seed: no interval for the method" in titles[0]


def test_figures_that_can_not_be_estimated_are_left_out(low_data, tmp_path):
    """One case has no interval, and an interval may lie beside its value."""
    odd = (Estimate(0.7, math.nan, math.nan), Estimate(0.7, 0.71, 0.72), Estimate(math.nan, math.nan, math.nan))
    none = (math.nan,) * len(DICE)
    rows = tuple(replace(row, dice=odd[index % 3], dice_of_cases=none) for index, row in enumerate(low_data.rows))
    write_plots(replace(low_data, rows=rows), tmp_path)
    assert len(list(tmp_path.glob("*.png"))) == 3
