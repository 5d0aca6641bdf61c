"""What the package imports is declared in pyproject.toml, and what is declared is imported."""

import ast
import re
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

import inflate3d

ROOT = Path(inflate3d.__file__).parent
PROJECT = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text(encoding="utf-8"))["project"]

ONLY_OTHERS_IMPORT = {"einops"}
"""MONAI's SwinUNETR, which does not declare it."""

LOADED_BY_NAME = {
    "tensorboard",
    "wandb",
    "mlflow",
    "aiohttp",
    "s3fs",
    "gcsfs",
    "onnx",
    "onnxscript",
    "python-multipart",
}
"""Lightning's loggers, fsspec's file systems, what torch exports with, and what FastAPI reads forms with."""


def names(requirements):
    return {re.split(r"[^\w.-]", each, maxsplit=1)[0].lower() for each in requirements}


def imported():
    found = set()
    for path in ROOT.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                found |= {name.name.partition(".")[0] for name in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module:
                found.add(node.module.partition(".")[0])
    known = packages_distributions()
    return {known[name][0].lower() for name in found - set(sys.stdlib_module_names) - {"inflate3d"}}


def test_declared_is_imported():
    extras = PROJECT["optional-dependencies"]
    users = names(each for extra, some in extras.items() if extra not in ("dev", "docs") for each in some)
    needed = names(PROJECT["dependencies"])
    assert imported() == (needed | users) - ONLY_OTHERS_IMPORT - LOADED_BY_NAME
