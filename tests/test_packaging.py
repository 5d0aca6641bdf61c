"""The recipe and the image, which are not built here, follow pyproject.toml."""

import re
import tomllib
from pathlib import Path

import yaml

from inflate3d.version import __version__

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
RECIPE = yaml.safe_load((ROOT / "packaging" / "conda" / "recipe.yaml").read_text(encoding="utf-8"))

CONDA_NAMES = {
    "torch": "pytorch",
    "blosc2": "python-blosc2",
    "msgpack": "msgpack-python",
    "matplotlib": "matplotlib-base",
}
"""Packages that have another name on conda-forge than on PyPI."""


def test_the_recipe_requires_what_the_project_requires():
    required = {re.split(r"(?=[<>=])", each, maxsplit=1)[0].lower(): each for each in PROJECT["dependencies"]}
    expected = {
        f"{CONDA_NAMES.get(name, name)} {re.split('(?=[<>=])', each, maxsplit=1)[1]}" for name, each in required.items()
    }
    python, *run = RECIPE["requirements"]["run"]
    assert python.startswith("python ")
    assert set(run) == expected


def test_the_recipe_has_our_version_and_command():
    assert RECIPE["context"]["version"] == __version__
    (script,) = PROJECT["scripts"].items()
    assert RECIPE["build"]["python"]["entry_points"] == [" = ".join(script)]


def test_the_image_installs_what_is_there():
    text = (ROOT / "Dockerfile").read_text(encoding="utf-8")
    for line in re.findall(r"^COPY (?!--from)(.+) \S+$", text, re.MULTILINE):
        for name in line.split():
            assert (ROOT / name).exists(), name
    assert re.findall(r'^ENTRYPOINT \["(.+)"\]', text, re.MULTILINE) == list(PROJECT["scripts"])
