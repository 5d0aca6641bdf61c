"""What drawing does to a label map: the page's own functions, run by the browser."""

import threading

import numpy as np
import pytest
from scipy import ndimage

from inflate3d.viewer.page import page_files
from inflate3d.viewer.server import PageServer

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def call(browser):
    """Calls a function of ``drawing.js``: arrays are sent and returned as lists, the first axis fastest."""
    empty = {**page_files(), "": (b"<!doctype html>", "text/html")}
    with PageServer(empty) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        page = browser.new_page()
        page.goto(server.address)

        def call(expression, **values):
            sent = {
                name: value.ravel(order="F").tolist() if isinstance(value, np.ndarray) else value
                for name, value in values.items()
            }
            body = f"const drawing = await import('./static/drawing.js'); return {expression};"
            return page.evaluate(f"async ({{{', '.join(sent)}}}) => {{ {body} }}", sent)

        yield call
        page.close()
        server.shutdown()
        thread.join()


def disc(size, center, radius):
    x, y = np.meshgrid(np.arange(size), np.arange(size), indexing="ij")
    return (x - center[0]) ** 2 + (y - center[1]) ** 2 <= radius**2


def places(shape, found):
    mask = np.zeros(np.prod(shape), bool)
    mask[found] = True
    return mask.reshape(shape, order="F")


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_interpolation_grows_and_moves_between_drawn_slices(call, axis):
    drawn = np.zeros((32, 32, 9), np.uint8)
    drawn[disc(32, (12, 12), 4), 1] = 2
    drawn[disc(32, (18, 16), 8), 7] = 2
    drawn[:, 14, 4] = 1  # another class in between is kept
    drawn = np.moveaxis(drawn, 2, axis)
    found = call(
        "Array.from(drawing.interpolated(Uint8Array.from(bitmap), shape, spacing, axis, 2))",
        bitmap=drawn, shape=drawn.shape, spacing=[1, 1, 1], axis=axis,
    )  # fmt: skip
    added = np.moveaxis(places(drawn.shape, found), axis, 2)
    assert not added[..., [0, 1, 7, 8]].any()
    for index in range(2, 7):
        part = (index - 1) / 6
        expected = disc(32, (12 + 6 * part, 12 + 4 * part), 4 + 4 * part) & (
            np.arange(32) != 14 if index == 4 else True
        )
        missed = np.count_nonzero(added[..., index] ^ expected) / np.count_nonzero(expected)
        assert missed < 0.15, (index, missed)


def test_distances_are_those_of_scipy(call):
    mask = np.random.default_rng(0).random((17, 13)) < 0.03
    found = call("Array.from(drawing.distances(Uint8Array.from(mask), 17, 13, [0.7, 2.5]))", mask=mask.astype(np.uint8))
    expected = np.asarray(ndimage.distance_transform_edt(~mask, sampling=[0.7, 2.5]))
    np.testing.assert_allclose(np.reshape(found, mask.shape, order="F"), expected, atol=1e-9)


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_fill_takes_the_closed_region_of_the_slice(call, axis):
    drawn = np.zeros((20, 20, 3), np.uint8)
    drawn[disc(20, (10, 10), 6) & ~disc(20, (10, 10), 4), 1] = 1
    drawn = np.moveaxis(drawn, 2, axis)

    def fill(x, y):
        voxel = [x, y]
        voxel.insert(axis, 1)
        region = "drawing.closedRegion(Uint8Array.from(bitmap), shape, axis, voxel)"
        return call(f"Array.from({region} ?? [])", bitmap=drawn, shape=drawn.shape, axis=axis, voxel=voxel)

    inside = np.moveaxis(places(drawn.shape, fill(10, 10)), axis, 2)
    assert np.array_equal(inside[..., 1], disc(20, (10, 10), 4)) and inside.sum() == inside[..., 1].sum()
    ring = np.moveaxis(places(drawn.shape, fill(10, 5)), axis, 2)
    assert np.array_equal(ring[..., 1], disc(20, (10, 10), 6) & ~disc(20, (10, 10), 4))
    assert fill(0, 0) == []


def test_agreement_is_dice(call):
    random = np.random.default_rng(1)
    first, second = (random.choice([0, 1, 3], 1000).astype(np.uint8) for _ in range(2))
    found = call("drawing.agreement(Uint8Array.from(a), Uint8Array.from(b)).slice(0, 5)", a=first, b=second)
    for number in (0, 1, 3):
        one, other = first == number, second == number
        assert found[number] == pytest.approx(2 * np.sum(one & other) / (one.sum() + other.sum()))
    assert found[2] is None and found[4] is None


def test_undo_and_redo_walk_through_every_step(call):
    states = call("""(() => {
      const bitmap = new Uint8Array(6);
      const history = new drawing.History(bitmap, 3);
      const seen = [];
      const note = (done) => seen.push([done, Array.from(bitmap)]);
      note(history.record(bitmap));
      for (const at of [0, 1, 2, 3]) { bitmap[at] = at + 1; note(history.record(bitmap)); }
      for (let turn = 0; turn < 4; turn++) note(history.undo(bitmap));
      note(history.redo(bitmap));
      bitmap[5] = 9;
      note(history.record(bitmap));
      note(history.redo(bitmap));
      return seen;
    })()""")
    assert states == [
        [False, [0, 0, 0, 0, 0, 0]], [True, [1, 0, 0, 0, 0, 0]], [True, [1, 2, 0, 0, 0, 0]], [True, [1, 2, 3, 0, 0, 0]],
        [True, [1, 2, 3, 4, 0, 0]], [True, [1, 2, 3, 0, 0, 0]], [True, [1, 2, 0, 0, 0, 0]], [True, [1, 0, 0, 0, 0, 0]],
        [False, [1, 0, 0, 0, 0, 0]],  # the first step is out of reach
        [True, [1, 2, 0, 0, 0, 0]], [True, [1, 2, 0, 0, 0, 9]], [False, [1, 2, 0, 0, 0, 9]],
    ]  # fmt: skip
