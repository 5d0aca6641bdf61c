"""What the pages are made with: templates that take no name for markup, and a policy by which nothing else loads."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from pathlib import Path

from inflate3d import __version__
from inflate3d.report.words import plural

_HERE = Path(__file__).parent


def render(template: str, *, title: str, scripts: Sequence[str] = (), viewer_style: str = "", **values: object) -> str:
    """Makes a page of a template.

    Args:
        template: Its file's name.
        title: The page's, for the browser's tab.
        scripts: What the page runs.
        viewer_style: Style sheet of a viewer in the page.
        **values: What else the template names.
    """
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_HERE),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["plural"] = plural
    shared = {"title": title, "scripts": scripts, "viewer_style": viewer_style, "version": __version__}
    return environment.get_template(template).render(policy=_policy(scripts), **shared, **values)


def script(name: str) -> str:
    """One of the pages' own scripts, such as ``sort.js``."""
    return (_HERE / name).read_text(encoding="utf-8")


def _policy(scripts: Sequence[str]) -> str:
    """What the page may load: what is in it. Scripts are named by their hashes, so that no other one runs."""
    digests = [hashlib.sha256(script.encode()).digest() for script in scripts]
    hashes = " ".join(f"'sha256-{base64.b64encode(digest).decode('ascii')}'" for digest in digests)
    allowed = f"script-src {hashes}; " if scripts else ""
    carried = "connect-src data: blob:; " if len(scripts) > 1 else ""
    return f"default-src 'none'; {allowed}{carried}img-src data: blob:; style-src 'unsafe-inline'"
