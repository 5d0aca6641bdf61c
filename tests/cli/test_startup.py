"""What starting up imports: exactly these packages of others, so that it stays quick."""

import subprocess
import sys

import pytest

from inflate3d.cli import COMMANDS

TOLD = """
import sys
before = set(sys.modules)
import contextlib, io
with contextlib.suppress(SystemExit), contextlib.redirect_stdout(io.StringIO()):
    {code}
names = {{name.partition('.')[0] for name in set(sys.modules) - before}}
print(*sorted(names - sys.stdlib_module_names - {{'inflate3d'}}))
"""

COMMAND_LINE = {"numpy", "pydantic", "rich", "tyro", "yaml"}
"""What options, their help and tables need; with what these need in turn."""

NEVER = {
    *("SimpleITK", "blosc2", "jinja2", "lightning", "matplotlib", "monai", "pandas", "pytorch_lightning"),
    *("safetensors", "scipy", "sklearn", "skimage", "timm", "torch", "torchmetrics", "torchvision"),
}
"""What takes long to import, and is needed by no help text."""


def others_imported(code: str) -> set[str]:
    words = [sys.executable, "-c", TOLD.format(code=code)]
    return set(subprocess.run(words, capture_output=True, text=True, check=True).stdout.split())


@pytest.mark.parametrize(
    "code",
    [
        "import inflate3d",
        "import inflate3d; dir(inflate3d); inflate3d.__version__",
        "from inflate3d.cli import main; main(['--help'])",
        "from inflate3d.cli import main; main(['--version'])",
    ],
)
def test_the_package_and_its_overview_import_nothing_of_others(code):
    assert others_imported(code) == set()


@pytest.mark.slow
def test_help_of_the_commands_imports_nothing_heavy():
    code = f"from inflate3d.cli import main\n    for command in {list(COMMANDS)}:\n        "
    code += "with contextlib.suppress(SystemExit):\n            main([command, '--help'])"
    imported = others_imported(code)
    assert imported >= COMMAND_LINE
    assert imported & NEVER == set()
