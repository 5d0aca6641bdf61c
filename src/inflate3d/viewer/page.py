"""The viewer's page: its own files and the scan's, by the names under which a server gives them out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from inflate3d.viewer.images import Image

MOST_MAPS = 2
"""Label maps that stand side by side."""

_HERE = Path(__file__).parent
_ASSETS = {
    "niivue.umd.js": (_HERE / "niivue" / "niivue.umd.js", "text/javascript"),
    "viewer.js": (_HERE / "viewer.js", "text/javascript"),
    "start.js": (_HERE / "start.js", "text/javascript"),
    "viewer.css": (_HERE / "viewer.css", "text/css"),
    "page.css": (_HERE / "page.css", "text/css"),
}

Files = Mapping[str, tuple[bytes, str]]
"""Name to content and media type; the page itself has the name ``""``."""


def asset(name: str) -> str:
    """One of the viewer's own scripts or style sheets, such as ``viewer.js``."""
    return _ASSETS[name][0].read_text(encoding="utf-8")


def page_files(setup: Mapping[str, object], scan: Image, maps: Sequence[Image]) -> Files:
    """All that the page consists of.

    Args:
        setup: See `inflate3d.viewer.images.setup`.
        scan: The scan.
        maps: Label maps, at most two.
    """
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_HERE), autoescape=True, undefined=jinja2.StrictUndefined
    )
    page = environment.get_template("page.html.jinja").render(setup=setup)
    return {
        "": (page.encode(), "text/html"),
        **{name: (path.read_bytes(), kind) for name, (path, kind) in _ASSETS.items()},
        "scan": (scan.content, "application/octet-stream"),
        **{f"map{number}": (each.content, "application/octet-stream") for number, each in enumerate(maps)},
    }
