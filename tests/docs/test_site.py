"""The site: every page is in its menu, every public name and command in its reference, and it builds strictly."""

import importlib.util
import inspect
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import Any

import pytest
import yaml

import inflate3d
from inflate3d.cli import COMMANDS

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"


def leaves(menu: Any) -> Iterator[str]:
    """The pages of a menu, at any depth."""
    if isinstance(menu, str):
        yield menu
    for entry in menu.values() if isinstance(menu, dict) else menu if isinstance(menu, list) else ():
        yield from leaves(entry)


def test_the_menu_holds_every_page_once():
    settings = yaml.safe_load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"))
    pages = [path.relative_to(DOCS).as_posix() for path in DOCS.rglob("*.md")]
    assert sorted(leaves(settings["nav"])) == sorted(pages)


def test_the_reference_holds_every_public_name_once():
    page = (DOCS / "reference/python.md").read_text(encoding="utf-8")
    named = re.findall(r"^::: inflate3d\.(\w+)$", page, re.MULTILINE)
    assert sorted(named) == sorted(inflate3d.__all__)


@pytest.mark.parametrize("name", inflate3d.__all__)
def test_public_methods_have_docstrings(name):
    members = vars(getattr(inflate3d, name)).items() if inspect.isclass(getattr(inflate3d, name)) else ()
    public = {key: each for key, each in members if not key.startswith("_")}
    methods = {
        key: each
        for key, each in public.items()
        if inspect.isroutine(each) or isinstance(each, (property, cached_property))
    }
    assert [key for key, each in methods.items() if not each.__doc__] == []


def test_the_reference_lists_every_command(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "scripts"))
    reference = importlib.import_module("command_reference")
    sections = re.findall(r"^## (\S+)\n\n.+\n\n```text\nusage: inflate3d (\S+) ", reference.command_reference(), re.M)
    assert sections == [(name, name) for name in COMMANDS]
    assert reference.MARK in (DOCS / "reference/commands.md").read_text(encoding="utf-8")
    shown = reference.help_of("train")
    assert "--image-size" in shown and "Slices per window" in shown
    assert not set("│╭╰\x1b") & set(shown)


@pytest.mark.skipif(importlib.util.find_spec("mkdocs") is None, reason="`make docs` installs what builds the site")
def test_the_site_builds_strictly_and_loads_nothing_from_the_network(tmp_path):
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path)]
    built = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, check=False, env={**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    )
    assert built.returncode == 0, built.stderr
    for page in tmp_path.rglob("*.html"):
        text = page.read_text(encoding="utf-8")
        assert not re.findall(r"(?:src=|<link[^>]+href=)\"?https?:", text), page
