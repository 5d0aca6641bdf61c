"""The page of `inflate3d view --browser` as a real browser shows it."""

import io
import threading

import numpy as np
import pytest
from PIL import Image

from inflate3d.report.sheet import LabelMap, list_classes
from inflate3d.viewer.page import still_files
from inflate3d.viewer.server import PageServer
from inflate3d.volume import Volume

pytestmark = pytest.mark.slow

EVIL = "<img src=x onerror=alert(1)></script>"


def ball(radius, shape=(24, 24, 12)):
    places = np.stack(np.meshgrid(*(np.arange(size) - size / 2 for size in shape), indexing="ij"))
    return np.linalg.norm(places * np.array([1, 1, 2])[:, None, None, None], axis=0) < radius


@pytest.fixture(scope="module")
def page(browser):
    """The page with two label maps, and what the browser complained about."""
    maps = [LabelMap(EVIL, ball(8) * np.uint8(7)), LabelMap("prediction", ball(6) * np.uint8(7))]
    scan = np.where(ball(8), 100, 50).astype(np.int16)
    scan[0, 0, 0] = 0
    affine = np.array([[-0.5, 0.1, 0, 10], [0.1, 0.5, 0, -20], [0, 0, 2, 5], [0, 0, 0, 1.0]])
    files = still_files(EVIL, Volume(scan[np.newaxis], affine), maps, list_classes(maps, {7: EVIL}))
    with PageServer(files) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        page = browser.new_page(viewport={"width": 640, "height": 400})
        page.complaints = []
        page.on("console", lambda message: page.complaints.append(message.text))
        page.on("pageerror", lambda error: page.complaints.append(str(error)))
        page.on("dialog", lambda dialog: page.complaints.append(dialog.message))
        page.goto(server.address)
        page.wait_for_selector("#panes[data-state]", timeout=60_000)
        yield page
        page.close()
        server.shutdown()
        thread.join()


def colored(canvas):
    """Number of pixels in the first class's color over gray."""
    with Image.open(io.BytesIO(canvas.screenshot())) as picture:
        red, green, blue = np.moveaxis(np.asarray(picture.convert("RGB")).astype(int), -1, 0)
    return np.count_nonzero((red > blue + 60) & (green > 90))


def test_both_label_maps_are_drawn_and_names_are_text(page):
    assert page.get_attribute("#panes", "data-state") == "ready"
    first, second = page.locator("canvas").all()
    assert colored(first) > colored(second) > 100  # the second map's ball is smaller
    assert page.locator("figcaption").all_inner_texts() == [EVIL, "prediction"]
    assert page.inner_text("#name") == EVIL
    assert page.locator("#classes .name").all_inner_texts() == [EVIL]
    assert page.complaints == []


def test_dice_and_volume_are_those_of_the_label_maps(page):
    one, other = ball(8), ball(6)
    dice = 2 * np.sum(one & other) / (one.sum() + other.sum())
    assert page.locator("#agreement td").all_inner_texts() == [EVIL, f"{dice:.3f}"]
    milliliters = one.sum() * 0.5099**2 * 2 / 1000
    assert float(page.inner_text("#classes .figure").removesuffix(" ml")) == pytest.approx(milliliters, rel=0.01)


def test_keys_and_switches_change_what_is_shown(page):
    page.select_option("#view", "axial")  # drawn much faster than 3D
    canvas = page.locator("canvas").first
    whole = colored(canvas)
    canvas.focus()
    page.keyboard.down(" ")
    assert colored(canvas) == 0
    page.keyboard.up(" ")
    assert colored(canvas) == whole
    page.uncheck("#classes input")
    assert colored(canvas) == 0
    page.check("#classes input")
    page.check("#outlines")
    assert 0 < colored(canvas) < whole
    page.uncheck("#outlines")
    before = page.inner_text(".place")
    page.keyboard.press("ArrowUp")
    assert before.startswith("axial 7/12") and page.inner_text(".place").startswith("axial 8/12")
    page.select_option("#other", "")
    page.wait_for_selector("body:not(.working)")
    assert page.locator("canvas").count() == 1


def test_nothing_can_be_drawn_here(page):
    assert not page.is_visible("#tools") and not page.is_visible("#save") and not page.is_visible("#cases")
