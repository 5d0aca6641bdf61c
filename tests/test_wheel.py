"""The wheel, installed by itself in a fresh environment that borrows only what inflate3d depends on."""

import os
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src" / "inflate3d"


class Installed:
    """An environment with the wheel in it."""

    def __init__(self, folder: Path) -> None:
        self.bin = folder / "bin"
        self.package = Path(self._ask_for_purelib()) / "inflate3d"
        self.away = folder / "away"
        self.away.mkdir()

    def run(self, *words: object) -> str:
        """What a program of the environment prints, run away from the source and without its path."""
        environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
        command = [str(self.bin / str(words[0])), *map(str, words[1:])]
        done = subprocess.run(command, cwd=self.away, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def _ask_for_purelib(self) -> str:
        code = "import sysconfig; print(sysconfig.get_path('purelib'))"
        return subprocess.run([self.bin / "python", "-c", code], capture_output=True, text=True, check=True).stdout[:-1]


@pytest.fixture(scope="module")
def installed(tmp_path_factory) -> Installed:
    root = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(root)]
    subprocess.run(build, cwd=ROOT, capture_output=True, check=True)
    (wheel,) = root.glob("*.whl")
    venv.create(root / "fresh", with_pip=False)
    environment = Installed(root / "fresh")
    pip = [sys.executable, "-m", "pip", "--python", str(environment.bin / "python"), "install", "--quiet"]
    subprocess.run([*pip, "--no-deps", "--no-index", str(wheel)], capture_output=True, check=True)
    # Paths in a .pth file come after the environment's own packages, and .pth files in them are not followed: the
    # editable install of the source is not found.
    borrowed = "\n".join({sysconfig.get_path("purelib"), sysconfig.get_path("platlib")})
    (environment.package.parent / "borrowed.pth").write_text(borrowed + "\n", encoding="utf-8")
    return environment


def test_it_imports_from_its_own_files(installed):
    assert installed.run("python", "-c", "import inflate3d; print(inflate3d.__file__)").strip() == str(
        installed.package / "__init__.py"
    )


def test_every_file_of_the_package_is_in_it(installed):
    files, expected = (
        {path.relative_to(root) for path in root.rglob("*") if path.is_file() and path.suffix != ".pyc"}
        for root in (installed.package, SOURCE)
    )
    assert files == expected
    assert {Path("presets/auto.yaml"), Path("models/card.md.jinja"), Path("viewer/niivue/niivue.umd.js")} <= files


def test_its_command_runs(installed):
    assert "predict" in installed.run("inflate3d", "--help")


@pytest.mark.slow
def test_it_predicts(installed, tiny_run, phantoms):
    scan = phantoms.cases[0].scan
    installed.run("inflate3d", "predict", tiny_run.model, scan, "labels", "--device", "cpu")
    assert [path.name for path in (installed.away / "labels").glob("*.nii.gz")] == [scan.name]
