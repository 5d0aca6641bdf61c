"""What all pictures share: colors, a canvas without a window, PNG files in memory, and what they may replace."""

from __future__ import annotations

import base64
import io
from pathlib import Path
from typing import TYPE_CHECKING, Literal, cast

import numpy as np

from inflate3d.errors import OutputError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

Theme = Literal["light", "dark"]
"""The color theme of the page around a plot."""

PALETTE = (
    "#e69f00", "#56b4e9", "#1fc795", "#f0e442", "#e08dbb", "#f0672e", "#5b86f5",
    "#ee8866", "#99ddff", "#bbcc33", "#aaaa00", "#ffaabb",
)  # fmt: skip
"""Colors that color-blind readers can distinguish, and bright enough on gray scans: after Okabe and Ito's seven
(2008) and Tol's light ones (2018). More classes repeat them."""

DASHES = ("solid", (0.0, (4.0, 1.5)), (0.0, (1.2, 1.2)), (0.0, (5.0, 1.2, 1.2, 1.2)))
"""Line styles of the classes: classes of the same color differ in style."""

DPI = 100

PAPER = {"light": "#ffffff", "dark": "#1d2125"}
MARK = "inflate3d"
"""Identifies our files: a picture's ``Software`` and a page's ``generator``."""

INK = {"light": "#22262b", "dark": "#e4e7ea"}


def class_color(number: int) -> str:
    """Color of class ``number``, from 1 on, as ``#rrggbb``."""
    return PALETTE[(number - 1) % len(PALETTE)]


def class_dashes(number: int) -> str | tuple[float, tuple[float, ...]]:
    """Line style of class ``number``, from 1 on, in matplotlib's notation."""
    return DASHES[(number - 1) // len(PALETTE) % len(DASHES)]


def new_figure(width: float, height: float, *, scale: float = 1.0, color: str = "black") -> Figure:
    """An empty figure; width and height are inches of 100 pixels times ``scale``."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), dpi=DPI * scale, facecolor=color)
    FigureCanvasAgg(figure)
    return figure


def png(figure: Figure) -> bytes:
    """A figure as PNG with 256 colors: a third of the size, and enough for gray and outlines."""
    from PIL import Image, PngImagePlugin

    file = io.BytesIO()
    mark = PngImagePlugin.PngInfo()
    mark.add_text("Software", MARK)
    canvas = cast("FigureCanvasAgg", figure.canvas)
    canvas.draw()
    picture = Image.fromarray(np.asarray(canvas.buffer_rgba())).convert("RGB")
    picture.quantize(256, dither=Image.Dither.NONE).save(file, format="png", optimize=True, pnginfo=mark)
    return file.getvalue()


def short_text(text: str, most: int = 90) -> str:
    """Text of limited length, with matplotlib's math escaped."""
    return (text if len(text) <= most else text[: most - 1] + "…").replace("$", r"\$")


def check_replaceable(file: Path, *, overwrite: bool = False) -> None:
    """Raises an error if a picture or page would replace a file that inflate3d did not write.

    Args:
        overwrite: Whether it may replace any file.
    """
    if file.is_file() and not overwrite and not is_ours(file):
        raise OutputError(
            "this file was not written by inflate3d, so it is kept",
            hint="give --overwrite to replace it, or move it away",
            file=file,
        )


def is_ours(file: Path) -> bool:
    """Whether inflate3d wrote a PNG file or a page."""
    from PIL import Image, UnidentifiedImageError

    try:
        if file.suffix.lower() != ".png":
            with file.open("rb") as opened:
                return f'<meta name="generator" content="{MARK}">'.encode() in opened.read(1024)
        with Image.open(file) as picture:
            return picture.info.get("Software") == MARK
    except (OSError, UnidentifiedImageError, ValueError, SyntaxError):
        return False


def data_address(picture: bytes) -> str:
    """A PNG file as a data URL."""
    return f"data:image/png;base64,{base64.b64encode(picture).decode('ascii')}"


def small_address(picture: bytes) -> str:
    """A scan's PNG as a data URL of about a sixth of the size: as WebP, which changes values slightly."""
    from PIL import Image

    file = io.BytesIO()
    with Image.open(io.BytesIO(picture)) as opened:
        opened.convert("RGB").save(file, format="webp", quality=80)
    return f"data:image/webp;base64,{base64.b64encode(file.getvalue()).decode('ascii')}"


def plain_axes(axes: Axes, theme: Theme) -> None:
    """Keeps only the left and lower axis, a pale grid and small numbers, in the theme's color."""
    ink = INK[theme]
    axes.patch.set_alpha(0)
    axes.grid(color=ink, alpha=0.15)
    axes.tick_params(which="both", colors=ink, labelsize=8)
    for side, spine in axes.spines.items():
        spine.set_visible(side in ("left", "bottom"))
        spine.set_color(ink)
