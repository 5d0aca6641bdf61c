"""The loop at the page, in a real browser: open, predict, draw, save, reload."""

import re
import socket
import threading

import nibabel
import numpy as np
import pytest
import uvicorn

from inflate3d.io import read_labels
from inflate3d.models.checkpoint import write_model_folder
from inflate3d.server.app import create_app
from inflate3d.server.guard import Rules
from inflate3d.server.models import RESULT, ModelVersion
from inflate3d.server.project import open_project
from inflate3d.server.service import Service
from inflate3d.server.tasks import Task

pytestmark = pytest.mark.slow

CASE = "phantom_003"
"""Stored in the orientation PIR: its slices are stacked along the second axis."""

PATIENCE = 120_000
"""Milliseconds, of which a browser that draws 3D on a busy CPU needs some."""


@pytest.fixture(scope="module")
def service(random_model, phantoms, tmp_path_factory):
    """A model with random weights and one scan."""
    folder = tmp_path_factory.mktemp("annotated")
    write_model_folder(folder / "model", random_model.architecture, random_model.plan, random_model.state_dict())
    (folder / "scans").mkdir()
    (case,) = [case for case in phantoms.cases if case.id == CASE]
    (folder / "scans" / case.scan.name).write_bytes(case.scan.read_bytes())
    project = open_project(folder / "model", folder / "scans")
    with Service.open(project, folder / "annotations", {"device": "cpu"}) as service:
        yield service


@pytest.fixture(scope="module")
def serve(service):
    """Serves under rules until the test ends; gives the address."""
    running = []

    def serve(rules):
        listener = socket.create_server(("127.0.0.1", 0))
        server = uvicorn.Server(uvicorn.Config(create_app(service, rules), log_config=None, ws="none"))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        running.append((server, thread, listener))
        return f"http://127.0.0.1:{listener.getsockname()[1]}/"

    yield serve
    for server, thread, listener in running:
        server.should_exit = True
        thread.join()
        listener.close()


@pytest.fixture
def page(browser):
    page = browser.new_page(viewport={"width": 900, "height": 560})
    page.set_default_timeout(PATIENCE)
    page.complaints = []
    page.on("console", lambda message: page.complaints.append(message.text))
    page.on("pageerror", lambda error: page.complaints.append(str(error)))
    yield page
    page.close()


def wait(page):
    """Until nothing is being loaded or saved."""
    page.wait_for_selector("#panes[data-state=ready]")
    page.wait_for_selector("body:not(.working)")


def at_crosshair(page, service):
    """What the page says of the voxel under the crosshair, and where that is in the scan's own file."""
    text = page.inner_text(".place")
    found = re.fullmatch(r"(\w+) (\d+)/(\d+) · (\S+) (\S+) (\S+) mm · value (\S+)(?: · (.*))?", text)
    assert found, text
    scan = nibabel.Nifti1Image.from_filename(service.cases[CASE].case.scan)
    place = np.linalg.solve(np.asarray(scan.affine), [*map(float, found.group(4, 5, 6)), 1])[:3]
    voxel = tuple(np.rint(place).astype(int))
    assert np.abs(place - voxel).max() < 0.1
    assert float(found[7]) == np.asarray(scan.dataobj)[voxel]
    return voxel, found[8]


def test_open_predict_draw_save_reload(page, serve, service):
    page.goto(serve(Rules()))
    assert page.inner_text(f"[data-case={CASE}] .state") == "unlabeled"
    page.click(f"[data-case={CASE}]")
    wait(page)
    page.select_option("#view", "axial")  # drawn much faster than 3D
    page.click("#predict")
    page.wait_for_selector("#version option:nth-child(2)", state="attached")
    wait(page)
    assert page.inner_text("#state") == page.inner_text(f"[data-case={CASE}] .state") == "predicted"
    assert page.inner_text(f"[data-case={CASE}] .figure").endswith("% sure")

    canvas = page.locator("canvas").bounding_box()
    middle = canvas["x"] + canvas["width"] / 2, canvas["y"] + canvas["height"] / 2
    page.keyboard.press("3")
    page.click("[data-tool=brush]")
    page.mouse.move(middle[0] - 40, middle[1])
    page.mouse.down()
    page.mouse.move(*middle, steps=4)
    page.mouse.up()
    name = page.inner_text("#classes button[aria-pressed=true] .name")
    voxel, shown = at_crosshair(page, service)
    assert shown == name
    drawn = page.inner_text("#classes")
    page.keyboard.press("Control+z")
    assert page.inner_text("#classes") != drawn
    page.keyboard.press("Control+y")
    assert page.inner_text("#classes") == drawn
    page.fill("#who", "Anna <b>")
    page.click("#final")
    page.wait_for_selector("#version option:nth-child(3)", state="attached")
    wait(page)
    assert page.inner_text("#state") == "final"
    assert page.inner_text(f"[data-case={CASE}] .figure").startswith("Dice 0.")

    predicted, saved = service.cases[CASE].history.versions()
    assert (saved.tag, saved.by, saved.model) == ("final", "Anna <b>", 0)
    before, after = (read_labels(service.cases[CASE].history.path(version)).array[0] for version in (predicted, saved))
    changed = np.argwhere(before != after)
    value = service.cases.coding.values[3]
    assert len(changed) > 10 and (after[before != after] == value).all() and after[voxel] == value
    assert np.ptp(changed, axis=0).tolist()[1] == 0  # in one axial slice

    page.reload()
    wait(page)
    assert page.inner_text("#classes") == drawn
    assert page.inner_text("#version option:checked").startswith("final · Anna <b> · ")
    page.select_option("#other", index=2)
    page.wait_for_selector("#agreement td")
    assert page.locator("canvas").count() == 2
    assert page.complaints == []


def test_outlines_are_filled_interpolated_and_cut(page, serve, service):
    page.goto(serve(Rules()) + f"#{CASE}")
    wait(page)
    page.select_option("#version", "")
    wait(page)
    page.select_option("#view", "axial")
    canvas = page.locator("canvas").bounding_box()
    middle = canvas["x"] + canvas["width"] / 2, canvas["y"] + canvas["height"] / 2

    def volume():
        text = page.locator("#classes .figure").first.inner_text()
        return float(text.removesuffix(" ml") or 0)

    def ring(radius):
        angles = np.linspace(0, 2 * np.pi, 17)
        for number, angle in enumerate(angles):
            page.mouse.move(middle[0] + radius * np.cos(angle), middle[1] + radius * np.sin(angle))
            if number == 0:
                page.mouse.down()
        page.mouse.up()

    assert volume() == 0
    page.click("[data-tool=outline]")
    ring(60)
    one = volume()
    for _ in range(3):
        page.keyboard.press("ArrowUp")
    ring(60)
    assert volume() == pytest.approx(2 * one, rel=0.05)
    page.keyboard.press("i")
    assert volume() == pytest.approx(4 * one, rel=0.05)
    page.click("[data-tool=cut]")
    ring(40)
    assert volume() < 3.7 * one
    page.click("[data-tool=fill]")
    page.mouse.click(*middle)
    assert volume() == pytest.approx(4 * one, rel=0.05)
    page.mouse.click(middle[0] + 75, middle[1])
    assert "isn't closed" in page.inner_text("#message")
    assert volume() == pytest.approx(4 * one, rel=0.05)
    page.on("dialog", lambda dialog: dialog.accept())
    assert page.title().startswith("● ")


def test_training_is_followed_and_the_next_case_is_opened(page, serve, service, monkeypatch):
    curve = [{"step": 20.0, "loss": 1.5}, {"step": 40.0, "loss": 0.5, "dice": 0.7}]
    asked = []

    def start(params):
        asked.append(params)
        return service.trainer.tasks.add(Task(params))

    monkeypatch.setattr(service.trainer, "start", start)
    monkeypatch.setattr(service.trainer, "progress", lambda: {"step": 40, "steps": 80, "curve": curve} if asked else {})
    page.goto(serve(Rules()))
    page.click("#train")
    page.fill("#steps", "80")
    page.click("#start")
    page.wait_for_selector("#curve svg circle.dice", state="attached")
    assert asked == [{"steps": 80, "warm_start": True}]
    assert "validation Dice 0.700" in page.inner_text("#curve") and "Step 40 of 80." in page.inner_text("#progress")
    points = [point.split(",") for point in page.get_attribute("#curve polyline.loss", "points").split()]
    heights = [float(y) for _, y in points]
    assert float(points[1][0]) - float(points[0][0]) == pytest.approx((520 - 44 - 8) / 4, abs=0.2)
    assert heights[0] == 8 and heights[1] == pytest.approx(8 + (200 - 24 - 8) * (1 - 0.5 / 1.5), abs=0.1)
    service.trainer.tasks.newest.end("DONE", "version 1: Dice 0.812 of the held-out cases; in service")
    page.wait_for_selector("#message:has-text('Dice 0.812')")
    page.click("#training form button")
    assert page.inner_text("#train") == "Train"
    folder = service.models.folder / "0001"
    folder.mkdir(parents=True)
    version = ModelVersion(number=1, dice=0.812, held_out={"a": 0.812})
    (folder / RESULT).write_text(version.model_dump_json(), encoding="utf-8")
    page.click("#versions")
    page.click("#modellist tr:has-text('0.812 (1 case)') button")
    page.wait_for_selector("#modellist tr:has-text('0.812') .serving")
    assert service.models.in_service.number == 1 and "0.812" in page.inner_text("#model")
    service.models.put_in_service(0)
    page.click("#models form button")
    case = service.cases[CASE]
    case.history.withdraw("final")
    page.select_option("#strategy", "uncertainty")
    page.click("#next")
    wait(page)
    assert page.inner_text("#name") == CASE
    assert page.complaints == []


def test_token_is_asked_for(page, serve):
    page.goto(serve(Rules(token="correct horse")))
    page.fill("#secret", "wrong horse")
    page.press("#secret", "Enter")
    page.wait_for_selector("#refusal:not(:empty)")
    page.fill("#secret", "correct horse")
    page.press("#secret", "Enter")
    page.wait_for_selector(f"[data-case={CASE}]")
    page.reload()
    page.wait_for_selector(f"[data-case={CASE}]")
