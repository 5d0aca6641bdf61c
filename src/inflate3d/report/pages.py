"""Templates of pages, in which no name can become markup, with a policy that blocks loading anything else."""

from __future__ import annotations

import base64
import hashlib
import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from inflate3d.config import InflatedConfig, ModelConfig
from inflate3d.evaluation.scores import Scores, show
from inflate3d.version import __version__

if TYPE_CHECKING:
    from jinja2 import Environment

_HERE = Path(__file__).parent


def render(template: str, *, title: str, scripts: Sequence[str] = (), **values: object) -> str:
    """Renders a page from a template."""
    shared = {"title": title, "scripts": scripts, "version": __version__, "policy": _policy(scripts)}
    return environment(_HERE).get_template(template).render(**shared, **values)


def environment(folder: Path) -> Environment:
    """The templates of a folder, with autoescaping."""
    import jinja2

    made = jinja2.Environment(
        loader=jinja2.FileSystemLoader(folder),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters["plural"] = plural
    return made


def script(name: str) -> str:
    """One of the pages' own scripts, such as ``sort.js``."""
    return (_HERE / name).read_text(encoding="utf-8")


def _policy(scripts: Sequence[str]) -> str:
    """The content security policy: only what is on the page. Scripts are allowed by their hashes."""
    digests = [hashlib.sha256(script.encode()).digest() for script in scripts]
    hashes = " ".join(f"'sha256-{base64.b64encode(digest).decode('ascii')}'" for digest in digests)
    allowed = f"script-src {hashes}; " if scripts else ""
    return f"default-src 'none'; {allowed}img-src data: blob:; style-src 'unsafe-inline'"


def plural(count: int, word: str) -> str:
    """Such as ``1 case`` and ``2 cases``."""
    return f"{count} {word}" if count == 1 else f"{count} {word}s"


def network_in_words(model: ModelConfig) -> str:
    """What was trained, as the subject of a sentence, with a trailing comma where it needs one."""
    if not isinstance(model, InflatedConfig):
        return f"{model.network}, a 3D network of MONAI's,"
    windows = f"windows of {model.depth} slices" if model.depth > 1 else "single slices"
    named = model.resolved_weights
    if named == "none":
        return f"{model.encoder} with random weights, on {windows},"
    weights = "2D weights that timm publishes" if named == "timm" else f"2D weights from {named}"
    return f"{model.encoder} with {weights}, inflated to {windows} ({model.inflation}),"


def time_in_words(seconds: float) -> str:
    """Such as ``1 h 5 min``."""
    if math.isnan(seconds):
        return "an unknown time"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"


def interval_in_words(scores: Scores) -> str:
    """The interval of the mean Dice; empty if there is none."""
    found = scores.summaries["dice"].mean
    return "" if math.isnan(found.low) else f"95 % interval {show(found.low, 3)} to {show(found.high, 3)}"
