"""The command that runs all benchmarks: those that can't run are reported, and the others go on."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parents[1] / "benchmarks"

SCRIPTS = {
    "good": "print('| a table |')",
    "missing": "import a_package_that_is_nowhere",
    "without_gpu": "import sys; print('no GPU', file=sys.stderr); sys.exit(77)",
    "slow": "import time; time.sleep(60)",
}


@pytest.fixture
def folder(tmp_path):
    shutil.copy(HERE / "__main__.py", tmp_path)
    (tmp_path / "interleaved.py").write_text("import time\n")
    for name, code in SCRIPTS.items():
        (tmp_path / f"{name}.py").write_text(f'"""A {name} one."""\n\nif __name__ == "__main__":\n    {code}\n')
    return tmp_path


def ran(folder, *words):
    return subprocess.run([sys.executable, str(folder), *words], check=False, capture_output=True, text=True)


def test_what_cannot_run_is_told_and_the_others_go_on(folder):
    done = ran(folder, "--each", "0.05")
    assert done.returncode == 0, done.stderr
    assert "| a table |" in done.stdout
    assert "could not run: ModuleNotFoundError: No module named 'a_package_that_is_nowhere'" in done.stdout
    assert "could not run: no GPU" in done.stdout
    assert "could not run: stopped after 3 s" in done.stdout
    assert "interleaved" not in done.stdout


def test_a_failure_is_one(folder):
    (folder / "bad.py").write_text('"""Bad."""\n\nif __name__ == "__main__":\n    1 / 0\n')
    done = ran(folder, "bad", "good")
    assert (done.returncode, "failed: ZeroDivisionError" in done.stdout, "| a table |" in done.stdout) == (
        1,
        True,
        True,
    )


def test_time_that_is_over(folder):
    assert "not begun: the 0 minutes are over" in ran(folder, "good", "--minutes", "0").stdout
    assert ran(folder, "godo").returncode == 2
    assert ran(folder, "--list").stdout.splitlines()[0] == "good: A good one."
