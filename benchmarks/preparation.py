"""Preparing a dataset: ours against the recipe, and a large CT's seconds on a core.

    python benchmarks/preparation.py                            # a look-alike of Task04 in size
    python benchmarks/preparation.py --dataset data/Task04_Hippocampus
    python benchmarks/preparation.py --workers 4 --rounds 5

Both read the same files with the same number of processes, in turn. Ours checks, measures and plans besides.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from itertools import count
from pathlib import Path

import numpy as np
from generated import write_ct, write_hippocampi
from interleaved import compared, interleave
from recipe import preparation as recipe
from resident import MEGABYTE, peak_bytes

from inflate3d.datasets import Dataset, read_dataset
from inflate3d.preparation.prepare import prepare
from inflate3d.resources import count_cores


def compare(dataset: Dataset, folder: Path, workers: int, rounds: int) -> None:
    """A table of both ways' files, bytes and seconds."""
    number = count()  # each time into a new folder: removing thousands of files takes as long as writing them
    places: dict[str, Path] = {}

    def run_recipe() -> None:
        places["recipe"] = folder / f"recipe{next(number)}"
        recipe.prepare(dataset, places["recipe"], workers)

    def run_ours() -> None:
        places["ours"] = folder / f"ours{next(number)}"
        prepare(dataset, places["ours"], workers=workers)

    timings = interleave({"recipe": run_recipe, "ours": run_ours}, rounds=rounds)
    given = sum(path.stat().st_size for case in dataset.cases for path in (*case.images, case.label) if path)
    print(f"\n{dataset.name}: {len(dataset.cases)} cases, {given / 1e6:.1f} MB, {workers} process(es)\n")
    print("| way | seconds | files | MB | times the dataset |\n| --- | --- | --- | --- | --- |")
    for name, place in places.items():
        files = [path for path in place.rglob("*") if path.is_file()]
        size = sum(path.stat().st_size for path in files)
        print(f"| {name} | {timings.seconds(name):.2f} | {len(files)} | {size / 1e6:.1f} | {size / given:.2f} |")
    print(f"\n{compared(timings, 'recipe', 'ours')}")


def measure_ct(folder: Path) -> None:
    """Prepares one large CT in a process of its own, so that its memory is that of one worker."""
    write_ct(folder, (512, 512, 300))
    subprocess.run([sys.executable, __file__, "--only", str(folder)], check=True)  # noqa: S603 - ourselves


def prepare_only(folder: Path) -> None:
    """Seconds and memory of a dataset in this process, without what it costs to start."""
    dataset = read_dataset(folder)
    with tempfile.TemporaryDirectory(dir=folder) as warm:
        small = write_ct(Path(warm) / "small", (32, 32, 8))
        prepare(small, Path(warm) / "store", workers=1)
    before = peak_bytes()
    started, started_on_core = time.perf_counter(), time.process_time()
    store = prepare(dataset, folder / "store", workers=1)
    seconds, on_core = time.perf_counter() - started, time.process_time() - started_on_core
    more = (peak_bytes() - before) / MEGABYTE
    shape = next(iter(store.cases.values())).shape
    voxels = 3 * np.prod(shape) / 2**20  # two bytes of the scan, one of the labels
    print(f"\n{'×'.join(map(str, shape))} int16 CT with {len(store.plan.classes)} classes, one process\n")
    print("| seconds | seconds on the core | MB of memory | times the voxels' |\n| --- | --- | --- | --- |")
    print(f"| {seconds:.1f} | {on_core:.1f} | {more:.0f} | {more / voxels:.1f} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset", type=Path, help="a prepared-from folder; a generated look-alike if not given")
    parser.add_argument("--workers", type=int, default=min(2, count_cores()))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--no-ct", action="store_true", help="leave the large CT out")
    parser.add_argument("--only", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.only:
        prepare_only(options.only)
        return
    with tempfile.TemporaryDirectory() as folder:
        if options.dataset:
            dataset = read_dataset(options.dataset)
        else:
            dataset = write_hippocampi(Path(folder) / "generated", 260)
        compare(dataset, Path(folder), options.workers, options.rounds)
        if not options.no_ct:
            measure_ct(Path(folder) / "ct")


if __name__ == "__main__":
    main()
