"""How to keep a scan on the disk: our compressed slices, a numpy memmap, and a file for each slice.

    python benchmarks/store_format.py                                    # generated scans
    python benchmarks/store_format.py --dataset data/Task04_Hippocampus --dataset data/sarcoma_mr

The access is the training's: windows of five whole slices at random places of random cases, each file opened anew. The
files lie in the system's cache; from a disk or a network the smaller ones gain. Seconds are those of the core.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import blosc2
import numpy as np
from generated import write_ct, write_hippocampi

from inflate3d.datasets import read_dataset
from inflate3d.io import read_volume
from inflate3d.orientation import Orientation
from inflate3d.preparation.arrays import StoredSlices, write_slices

DEPTH = 5


class Format(NamedTuple):
    """A way to keep an array ``(1, D, H, W)``.

    Attributes:
        write: Writes it under a path.
        read: Reads slices, from the first up to but without the last.
    """

    write: Callable[[Path, np.ndarray], object]
    read: Callable[[Path, int, int], np.ndarray]


def _write_slice_files(folder: Path, array: np.ndarray) -> None:
    folder.mkdir()
    for index in range(array.shape[1]):
        np.save(folder / f"{index}.npy", array[:, index])


def _read_slice_files(folder: Path, first: int, last: int) -> np.ndarray:
    return np.stack([np.load(folder / f"{index}.npy") for index in range(first, last)], axis=1)


def _write_npy(path: Path, array: np.ndarray) -> None:
    with path.open("wb") as file:
        np.save(file, array)


def _read_memmap(path: Path, first: int, last: int) -> np.ndarray:
    return np.array(np.load(path, mmap_mode="r")[:, first:last])


def _blosc(codec: blosc2.Codec, level: int, filter_: blosc2.Filter) -> Format:
    def write(path: Path, array: np.ndarray) -> None:
        together = max(1, min(array.shape[1], 2**18 // max(1, array[:, 0].nbytes)))
        compressed = blosc2.asarray(
            array,
            chunks=(len(array), together, *array.shape[2:]),
            cparams={"codec": codec, "clevel": level, "filters": [filter_], "filters_meta": [0], "nthreads": 1},
        )
        path.write_bytes(compressed.to_cframe())

    return Format(write, lambda path, first, last: blosc2.open(str(path), mode="r")[:, first:last])


FORMATS = {
    "ours": Format(
        lambda path, array: write_slices(path, array, "image"),
        lambda path, first, last: StoredSlices(path).read(first, last - 1),
    ),
    "blosc2 zstd 1, shuffle": _blosc(blosc2.Codec.ZSTD, 1, blosc2.Filter.SHUFFLE),
    "blosc2 zstd 1, bitshuffle": _blosc(blosc2.Codec.ZSTD, 1, blosc2.Filter.BITSHUFFLE),
    "blosc2 zstd 5, shuffle": _blosc(blosc2.Codec.ZSTD, 5, blosc2.Filter.SHUFFLE),
    "blosc2 lz4, bitshuffle": _blosc(blosc2.Codec.LZ4, 5, blosc2.Filter.BITSHUFFLE),
    "numpy memmap": Format(_write_npy, _read_memmap),
    "a .npy file for each slice": Format(_write_slice_files, _read_slice_files),
}


def compare(name: str, scans: Sequence[np.ndarray], given: int, windows: int, rounds: int) -> None:
    """Prints a table of the formats."""
    print(f"\n{name}: {len(scans)} scan(s), {given / 1e6:.1f} MB as .nii.gz\n")
    print("| format | MB | times .nii.gz | written, MB/s | windows/s | ms a window |")
    print("| --- | --- | --- | --- | --- | --- |")
    with tempfile.TemporaryDirectory() as folder:
        places = {
            way: [Path(folder) / f"{number}-{at}" for at in range(len(scans))] for number, way in enumerate(FORMATS)
        }
        speeds = {way: _write(way, places[way], scans) for way in FORMATS}
        taken = {way: [] for way in FORMATS}
        for round_ in range(rounds):
            for way in FORMATS:
                taken[way].append(_read(way, places[way], scans, windows, seed=round_))
        for way in FORMATS:
            files = [file for path in places[way] for file in (path.iterdir() if path.is_dir() else [path])]
            size = sum(file.stat().st_size for file in files)
            seconds = float(np.median(taken[way])) / windows
            print(
                f"| {way} | {size / 1e6:.1f} | {size / given:.2f} | {speeds[way] / 1e6:.0f} | {1 / seconds:.0f} "
                f"| {1e3 * seconds:.2f} |"
            )


def _write(way: str, paths: Sequence[Path], scans: Sequence[np.ndarray]) -> float:
    """Bytes of voxels a second of the core."""
    started = time.process_time()
    for path, scan in zip(paths, scans, strict=True):
        FORMATS[way].write(path, scan)
    return sum(scan.nbytes for scan in scans) / (time.process_time() - started)


def _read(way: str, paths: Sequence[Path], scans: Sequence[np.ndarray], windows: int, seed: int) -> float:
    random = np.random.default_rng(seed)
    started = time.process_time()
    for _ in range(windows):
        at = int(random.integers(len(scans)))
        first = int(random.integers(max(1, scans[at].shape[1] - DEPTH)))
        FORMATS[way].read(paths[at], first, first + DEPTH)
    return time.process_time() - started


def load(folder: Path, most: int) -> tuple[list[np.ndarray], int]:
    """Scans of a dataset in the model's frame, and the bytes of their files."""
    cases = read_dataset(folder).cases[:most]
    volumes = [read_volume(case.scan) for case in cases]
    arrays = [Orientation.of(volume.affine, "axial").apply(volume.array) for volume in volumes]
    return [np.ascontiguousarray(array) for array in arrays], sum(case.scan.stat().st_size for case in cases)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset", type=Path, action="append", default=[])
    parser.add_argument("--most", type=int, default=40, help="scans of a dataset")
    parser.add_argument("--windows", type=int, default=60)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    blosc2.set_nthreads(1)
    with tempfile.TemporaryDirectory() as name:
        folders = list(options.dataset)
        if not folders:
            folders.append(write_hippocampi(Path(name) / "hippocampi", options.most).root)
        folders.append(write_ct(Path(name) / "ct", (512, 512, 60)).root)
        for folder in folders:
            compare(folder.name, *load(folder, options.most), options.windows, options.rounds)


if __name__ == "__main__":
    main()
