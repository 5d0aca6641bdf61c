"""Gives mutated files to every reader: each has to succeed, or to refuse them with one of our errors.

``python scripts/fuzz.py --files 100000`` is for the night; findings are kept as files, and end it with exit code 1.

Mutation knows the formats, but not which lines of a reader it reaches: ``scripts/fuzz_guided.py`` does.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
import time
from collections import Counter
from functools import partial
from pathlib import Path

import torch
from fuzzing import sandbox
from fuzzing.mutants import prepare_seeds, write_mutant
from fuzzing.readers import read
from fuzzing.seeds import FORMATS

from inflate3d.errors import Inflate3dError

_SHARES = {
    "nifti": 3,
    "nrrd": 3,
    "metaimage": 3,
    "dicom": 2,
    "dicom-objects": 4,
    "model": 2,
    "weights": 2,
    "store": 2,
    "network": 0.1,
}
"""How many files of a format there are to one of the others; building a network takes long."""


def main() -> int:
    options = _parsed()
    torch.set_num_threads(1)
    shares = {name: _SHARES.get(name, 1.0) for name in options.formats}
    found = 0
    columns = ("format", "files", "read", "refused", "findings", "ms a file", "slowest, s", "most memory, MiB")
    print(f"| {' | '.join(columns)} |\n|{' --- |' * len(columns)}", flush=True)
    for name, share in shares.items():
        count = max(1, round(options.files * share / sum(shares.values())))
        found += _fuzz(name, range(options.first, options.first + count), options.seed, options.keep)
    print(f"{found} findings" + (f", kept in {options.keep}" if found else ""))
    return 1 if found else 0


def _fuzz(name: str, numbers: range, seed: int, keep: Path) -> int:
    """Runs one format, prints its row, and keeps its findings; gives how many there are."""
    prepare_seeds(name)
    write, began = partial(_write, name, seed), time.perf_counter()
    counts: Counter[str] = Counter()
    slowest, most, seen = 0.0, 0, Counter[str]()
    for result in sandbox.run(numbers, write, partial(read, name), Inflate3dError):
        if isinstance(result, sandbox.Outcome):
            counts["read" if result.is_read else "refused"] += 1
            slowest, most = max(slowest, result.seconds), max(most, result.added)
            continue
        counts["findings"] += 1
        kind = _kind(result)
        if not seen[kind]:
            print(f"{name} {result.number}: {result.what}\n{result.details}", file=sys.stderr)
        if seen[kind] < 3:
            _keep(name, seed, result, keep)
        seen[kind] += 1
    each = 1000 * (time.perf_counter() - began) / len(numbers)
    print(
        f"| {name} | {len(numbers)} | {counts['read']} | {counts['refused']} | {counts['findings']} | {each:.1f} "
        f"| {slowest:.2f} | {most >> 20} |",
        flush=True,
    )
    return counts["findings"]


def _write(name: str, seed: int, number: int, folder: Path) -> Path:
    return write_mutant(name, number, seed, folder)


def _kind(finding: sandbox.Finding) -> str:
    """Alike for findings of one cause, as far as their places in the source tell."""
    places = [line for line in finding.details.splitlines() if line.strip().startswith("File ")]
    last = finding.details.strip().splitlines()[-1].partition(":")[0] if places else finding.what
    return hashlib.sha256("".join([finding.what, last, *places[-2:]]).encode()).hexdigest()


def _keep(name: str, seed: int, finding: sandbox.Finding, keep: Path) -> None:
    folder = keep / f"{name}-{seed}-{finding.number}"
    (folder / "files").mkdir(parents=True, exist_ok=True)
    path = write_mutant(name, finding.number, seed, folder / "files")
    words = {"format": name, "what": finding.what, "details": finding.details, "read": str(path)}
    (folder / "finding.json").write_text(json.dumps(words, indent=1))
    print(f"  kept: {folder}", file=sys.stderr, flush=True)


def _parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", type=int, default=2000, help="mutated files in all")
    parser.add_argument("--seed", type=int, default=0, help="equal seeds give equal files")
    parser.add_argument("--first", type=int, default=0, help="number of the first file of each format")
    parser.add_argument("--formats", nargs="+", choices=FORMATS, default=FORMATS, help="only these")
    parser.add_argument("--keep", type=Path, default=Path("fuzz-findings"), help="where findings are kept")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
