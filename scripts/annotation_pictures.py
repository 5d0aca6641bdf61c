"""The pictures of docs/annotate-browser.md and README: the page on generated scans, in a browser without a window.

    python scripts/annotation_pictures.py RUN

RUN is a run on phantoms, such as `inflate3d demo` leaves in demo/runs. Needs Chromium, and Playwright (extra ``dev``).
"""

from __future__ import annotations

import argparse
import io
import shutil
import socket
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import uvicorn
from PIL import Image, ImageDraw, ImageFont
from playwright.sync_api import Page, sync_playwright

from inflate3d.datasets.phantom import make_phantom
from inflate3d.server.app import create_app
from inflate3d.server.guard import Rules
from inflate3d.server.project import open_project
from inflate3d.server.service import Service

IMAGES = Path(__file__).parents[1] / "docs" / "images"
BROWSERS = ("chromium-headless-shell", "chromium", "google-chrome")
FLAGS = [
    "--no-sandbox",
    "--use-gl=angle",
    "--use-angle=swiftshader",
    "--enable-unsafe-swiftshader",
    "--hide-scrollbars",
]
FIRST = 100
"""Number of the first phantom: the run was trained on lower ones."""

CASES = 4


@contextmanager
def serving(run: Path, folder: Path) -> Iterator[str]:
    (folder / "scans").mkdir()
    for number in range(FIRST, FIRST + CASES):
        scan, _ = make_phantom(0, number)
        nibabel.Nifti1Image(scan.array[0], scan.affine).to_filename(folder / "scans" / f"phantom_{number}.nii.gz")
    project = open_project(run, folder / "scans")
    with Service.open(project, folder / "annotations", {"device": "cpu"}) as service:
        listener = socket.create_server(("127.0.0.1", 0))
        server = uvicorn.Server(uvicorn.Config(create_app(service, Rules()), log_config=None, ws="none"))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}/"
        server.should_exit = True
        thread.join()


def wait(page: Page) -> None:
    page.wait_for_selector("#panes[data-state=ready]")
    page.wait_for_selector("body:not(.working)")
    page.mouse.move(600, 10)
    page.wait_for_timeout(500)


def shoot(page: Page, **options: Any) -> Image.Image:
    with Image.open(io.BytesIO(page.screenshot(**options))) as picture:
        return picture.convert("RGB")


def save(picture: Image.Image, name: str) -> None:
    file = IMAGES / f"{name}.png"
    picture.quantize(128, Image.Quantize.FASTOCTREE, dither=Image.Dither.NONE).save(file, optimize=True)
    print(f"{file}: {file.stat().st_size / 1000:.0f} kB")


def outline(page: Page, radii: tuple[float, float], center: tuple[float, float]) -> None:
    """Draws an ellipse, in pixels from the middle of the canvas."""
    box = page.locator("canvas").first.bounding_box()
    assert box is not None
    x, y = box["x"] + box["width"] / 2 + center[0], box["y"] + box["height"] / 2 + center[1]
    for number, angle in enumerate(np.linspace(0, 2 * np.pi, 24)):
        page.mouse.move(x + radii[0] * np.cos(angle), y + radii[1] * np.sin(angle))
        if number == 0:
            page.mouse.down()
    page.mouse.up()


def loop(page: Page, address: str) -> list[Image.Image]:
    """Opens, predicts, corrects and compares; a picture after each."""
    case = f"phantom_{FIRST}"
    page.goto(address)
    page.wait_for_selector(f"[data-case={case}]")
    page.click(f"[data-case={case}]")
    wait(page)
    frames = [shoot(page)]
    page.click("#predict")
    page.wait_for_selector("#version option:nth-child(2)", state="attached")
    wait(page)
    frames.append(shoot(page))
    page.select_option("#view", "axial")
    page.click("[data-tool=outline]")
    page.click("#classes li:nth-child(2) button")
    outline(page, (60, 50), (110, 110))
    wait(page)
    frames.append(shoot(page))
    page.fill("#who", "Anna")
    page.click("#final")
    page.wait_for_selector("#version option:nth-child(3)", state="attached")
    wait(page)
    page.select_option("#view", "three planes and 3D")
    page.select_option("#other", index=2)
    page.wait_for_selector("#agreement td")
    wait(page)
    frames.append(shoot(page))
    return frames


CAPTIONS = ("1  Open a scan", "2  Predict", "3  Correct: outline one class", "4  Save as final, compare, train again")
CAPTION_HEIGHT = 34


def strip(frames: list[Image.Image], box: tuple[int, int, int, int]) -> Image.Image:
    """The same part of some frames in one row, at 60 % of their size, each with its caption."""
    parts = [frame.crop(box) for frame in frames]
    small = [part.resize((part.width * 3 // 5, part.height * 3 // 5), Image.Resampling.LANCZOS) for part in parts]
    size = sum(each.width for each in small) + 8 * (len(small) - 1), small[0].height + CAPTION_HEIGHT
    row = Image.new("RGB", size, "white")
    draw, font = ImageDraw.Draw(row), ImageFont.load_default(20)
    for number, (each, caption) in enumerate(zip(small, CAPTIONS, strict=True)):
        left = number * (each.width + 8)
        row.paste(each, (left, 0))
        draw.text((left + 2, each.height + 6), caption, fill="#24292f", font=font)
    return row


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path)
    run = parser.parse_args().run
    program = next(filter(None, map(shutil.which, BROWSERS)))
    with (
        tempfile.TemporaryDirectory() as folder,
        serving(run, Path(folder)) as address,
        sync_playwright() as playwright,
    ):
        browser = playwright.chromium.launch(executable_path=program, args=FLAGS)
        page = browser.new_page(viewport={"width": 1120, "height": 700})
        page.set_default_timeout(120_000)
        frames = loop(page, address)
        place = page.locator("#panes").bounding_box()
        assert place is not None
        left, top = round(place["x"]), round(place["y"])
        box = left, top, left + round(place["width"]), top + round(place["height"])
        save(frames[1], "annotate-predicted")
        save(frames[3], "annotate-compare")
        save(strip(frames, box), "annotate-strip")
        page.select_option("#other", "")
        wait(page)
        page.set_viewport_size({"width": 390, "height": 760})
        wait(page)
        save(shoot(page), "annotate-phone")
        browser.close()


if __name__ == "__main__":
    main()
