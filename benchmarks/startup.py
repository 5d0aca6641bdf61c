"""Start-up: ``import inflate3d`` and ``inflate3d --help`` against ``python -c pass``, each a process of its own.

python benchmarks/startup.py [--rounds 15]
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Callable
from functools import partial

from interleaved import interleave

NOTHING = "python -c pass"
COMMAND = "import sys; from inflate3d.cli import main; sys.exit(main({words!r}))"
"""What the installed script ``inflate3d`` does."""

PROGRAMS = {
    NOTHING: "pass",
    "import inflate3d": "import inflate3d",
    "inflate3d --help": COMMAND.format(words=["--help"]),
    "inflate3d train --help": COMMAND.format(words=["train", "--help"]),
    "inflate3d evaluate --help": COMMAND.format(words=["evaluate", "--help"]),
}
LIMITS = {"import inflate3d": 0.3, "inflate3d --help": 0.5}
"""Seconds that are promised."""


def _program(code: str) -> Callable[[], object]:
    words = [sys.executable, "-c", code]
    return partial(subprocess.run, words, check=True, stdout=subprocess.DEVNULL)


def main(rounds: int) -> None:
    timings = interleave({name: _program(code) for name, code in PROGRAMS.items()}, rounds=rounds)
    print("| | seconds | promised | times `python -c pass` (lowest to highest) |\n| --- | --- | --- | --- |")
    for name in PROGRAMS:
        low, high = timings.ratio_range(name, NOTHING)
        limit = f"{LIMITS[name]} s" if name in LIMITS else ""
        ratio = f"{timings.ratio(name, NOTHING):.1f} ({low:.1f} to {high:.1f})" if name != NOTHING else ""
        print(f"| `{name}` | {timings.seconds(name):.3f} | {limit} | {ratio} |")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=15)
    main(parser.parse_args().rounds)
