"""Runs every benchmark of this folder, one after another: ``python benchmarks`` or ``make bench``.

Each is a script that prints its own table. One that can't run here (a package or a GPU is missing) is reported with the
reason, and the others go on. Without names, all run; with names, such as ``metrics startup``, only those.
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).parent
CANNOT_RUN = 77
"""Exit code of a script that can't run here, as automake's tests have it; its last line on stderr says why."""

MISSING = ("ModuleNotFoundError:", "ImportError:")


@dataclass(frozen=True)
class Outcome:
    """How a script ended.

    Attributes:
        script: Its name.
        seconds: How long it took.
        failure: Why there is no table; empty if there is one.
        excused: Whether it could not run here, rather than failed.
    """

    script: str
    seconds: float
    failure: str = ""
    excused: bool = False


def benchmarks() -> dict[str, Path]:
    """Scripts by name: files of this folder that do something when they are run."""
    files = [file for file in sorted(HERE.glob("*.py")) if file != Path(__file__)]
    return {file.stem: file for file in files if '\nif __name__ == "__main__":' in file.read_text(encoding="utf-8")}


def run(name: str, file: Path, limit: float) -> Outcome:
    """Runs a script, its table shown as it comes; it and all its processes are stopped after ``limit`` seconds."""
    started = time.monotonic()
    process = subprocess.Popen(  # noqa: S603 - our own scripts
        [sys.executable, str(file)], stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    try:
        _, errors = process.communicate(timeout=limit)
    except subprocess.TimeoutExpired:
        _stop(process)
        return Outcome(name, time.monotonic() - started, f"stopped after {limit:.0f} s", excused=True)
    except BaseException:
        _stop(process)
        raise
    seconds = time.monotonic() - started
    if process.returncode == 0:
        return Outcome(name, seconds)
    reason = (errors.strip().splitlines() or [f"exit code {process.returncode}"])[-1]
    excused = process.returncode == CANNOT_RUN or reason.startswith(MISSING)
    if not excused:
        print(errors, file=sys.stderr)
    return Outcome(name, seconds, reason, excused)


def _stop(process: subprocess.Popen[str]) -> None:
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()


def main(names: list[str], *, minutes: float, each: float) -> int:
    """Runs the named benchmarks, or all; 1 if one failed for another reason than that it can't run here."""
    scripts = benchmarks()
    if unknown := [name for name in names if name not in scripts]:
        print(f"no such benchmark: {unknown[0]}; there are {', '.join(scripts)}", file=sys.stderr)
        return 2
    ends, outcomes = time.monotonic() + 60 * minutes, []
    for name in names or scripts:
        print(f"\n## {name}\n", flush=True)
        left = ends - time.monotonic()
        late = Outcome(name, 0.0, f"not begun: the {minutes:g} minutes are over", excused=True)
        outcomes.append(run(name, scripts[name], min(60 * each, left)) if left > 0 else late)
        if outcomes[-1].failure:
            print(f"no table: {outcomes[-1].failure}", flush=True)
    _conclude(outcomes)
    return int(any(each.failure and not each.excused for each in outcomes))


def _conclude(outcomes: list[Outcome]) -> None:
    print("\n## all\n\n| benchmark | seconds | |\n| --- | --- | --- |")
    for each in outcomes:
        said = f"{'could not run' if each.excused else 'failed'}: {each.failure}" if each.failure else "done"
        print(f"| {each.script} | {each.seconds:.0f} | {said} |")
    print(f"| **all** | {sum(each.seconds for each in outcomes):.0f} | |", flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", help="which to run; all if not given")
    parser.add_argument("--list", action="store_true", help="tell what there is, and run nothing")
    parser.add_argument("--minutes", type=float, default=15, help="for all; what is not begun by then is left out")
    parser.add_argument("--each", type=float, default=6, help="minutes for one; it is stopped then")
    arguments = parser.parse_args()
    if arguments.list:
        for name, file in benchmarks().items():
            print(f"{name}: {file.read_text(encoding='utf-8').splitlines()[0].strip(chr(34))}")
        sys.exit(0)
    sys.exit(main(arguments.names, minutes=arguments.minutes, each=arguments.each))
