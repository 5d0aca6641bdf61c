"""Checks the inflation identities on a random sample of timm's backbones, one at a time; resumes where it stopped.

    python scripts/inflation_sweep.py sweep.csv --count 178 --seed 0

Each row of the file is a backbone: its name, image size, the largest relative error of a feature map, and what was
wrong if it can't be inflated. The last lines printed are the table in ``docs/choosing-a-backbone.md``.
"""

from __future__ import annotations

import argparse
import csv
import gc
import random
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import timm
import torch

from inflate3d.errors import Inflate3dError
from inflate3d.models.backbones import nearest_image_size
from inflate3d.models.catalog import check_inflation

_COLUMNS = ("name", "size", "error", "problem")


def main() -> int:
    """Adds what is missing to the file, and prints the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("out", type=Path, help="the CSV file, which is continued if it exists")
    parser.add_argument("--count", type=int, default=178, help="backbones in the sample")
    parser.add_argument("--seed", type=int, default=0, help="of the sample")
    parser.add_argument("--largest", type=float, default=100, help="million parameters of the largest backbone")
    parser.add_argument("--image-size", type=int, default=96, help="pixels; the nearest size that a backbone takes")
    options = parser.parse_args()
    done = _read(options.out)
    for name in _sample(options.count, options.seed, 1e6 * options.largest):
        if name not in {row["name"] for row in done}:
            done.append(_check(name, options.image_size))
            _write(options.out, done)
            print(*done[-1].values(), flush=True)
            gc.collect()
    _print_table(done)
    return 0


def _sample(count: int, seed: int, largest: float) -> Iterator[str]:
    names = timm.list_models()
    random.Random(seed).shuffle(names)  # noqa: S311 - no secret
    taken = 0
    for name in names:
        if taken == count:
            return
        with torch.device("meta"):
            parameters = sum(weight.numel() for weight in timm.create_model(name).parameters())
        if parameters < largest:
            taken += 1
            yield name


def _check(name: str, image_size: int) -> dict[str, str]:
    torch.manual_seed(0)
    try:
        size = nearest_image_size(name, image_size)
        report = check_inflation(name, depth=3, image_size=size)
    except Inflate3dError as error:
        return dict(zip(_COLUMNS, (name, "", "", f"{error.what}: {error.got}"), strict=True))
    size_text = " x ".join(map(str, report.image_size))
    return dict(zip(_COLUMNS, (name, size_text, f"{max(report.errors.values()):.2g}", ""), strict=True))


def _read(path: Path) -> list[dict[str, str]]:
    if not path.exists():
        return []
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def _write(path: Path, rows: list[dict[str, str]]) -> None:
    temporary = path.with_suffix(".part")
    with temporary.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, _COLUMNS)
        writer.writeheader()
        writer.writerows(rows)
    temporary.replace(path)


def _print_table(rows: list[dict[str, str]]) -> None:
    held = [row for row in rows if not row["problem"]]
    print(f"| backbones | {len(rows)} |\n| identities hold | {len(held)} ({len(held) / len(rows):.1%}) |")
    print(f"| largest relative error | {max((float(row['error']) for row in held), default=0):.1g} |")
    for problem, count in Counter(row["problem"] for row in rows if row["problem"]).most_common():
        print(f"| {problem} | {count} |")


if __name__ == "__main__":
    sys.exit(main())
