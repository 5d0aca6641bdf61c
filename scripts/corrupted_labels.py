"""Does `inflate3d suspects` find corrupted label maps? Corrupts 5 % of a dataset's, in six ways, and counts.

    python scripts/corrupted_labels.py make DATASET FOLDER       # a copy of the dataset, and FOLDER/corrupted.json
    inflate3d train FOLDER --folds all ...
    inflate3d suspects RUN
    python scripts/corrupted_labels.py count FOLDER RUN          # how many of the first 20 are corrupted ones

Ways: shifted along each axis by a tenth of the label's extent, at least by 3 voxels; flipped left to right; the first
two classes swapped; the slice with the most labels erased; dilated by two voxels; the label map of another case.
"""

from __future__ import annotations

import argparse
import csv
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
from scipy import ndimage

from inflate3d.datasets import Case, Dataset, read_dataset
from inflate3d.io import read_labels, write_labels

SHARE = 0.05
FIRST = 20


def shifted(labels: np.ndarray, other: np.ndarray, values: list[int]) -> np.ndarray:
    extents = [np.ptp(places) + 1 for places in np.nonzero(labels)]
    return ndimage.shift(labels, [max(3, round(extent / 10)) for extent in extents], order=0)


def flipped(labels: np.ndarray, other: np.ndarray, values: list[int]) -> np.ndarray:
    return labels[::-1]


def swapped(labels: np.ndarray, other: np.ndarray, values: list[int]) -> np.ndarray:
    first, second = values[:2]
    return np.where(labels == first, second, np.where(labels == second, first, labels))


def slice_missing(labels: np.ndarray, other: np.ndarray, values: list[int]) -> np.ndarray:
    torn = labels.copy()
    torn[:, :, np.count_nonzero(labels, axis=(0, 1)).argmax()] = 0
    return torn


def dilated(labels: np.ndarray, other: np.ndarray, values: list[int]) -> np.ndarray:
    grown = ndimage.grey_dilation(labels, footprint=ndimage.generate_binary_structure(3, 1))
    grown = ndimage.grey_dilation(grown, footprint=ndimage.generate_binary_structure(3, 1))
    return np.where(labels > 0, labels, grown)


def of_another(labels: np.ndarray, other: np.ndarray, values: list[int]) -> np.ndarray:
    """The other case's label map, cropped or padded about the center."""
    placed = np.zeros_like(labels)
    sizes = [min(own, theirs) for own, theirs in zip(labels.shape, other.shape, strict=True)]
    here, there = (
        tuple(
            slice((side - size) // 2, (side - size) // 2 + size) for side, size in zip(each.shape, sizes, strict=True)
        )
        for each in (labels, other)
    )
    placed[here] = other[there]
    return placed


WAYS: dict[str, Callable[[np.ndarray, np.ndarray, list[int]], np.ndarray]] = {
    "shifted": shifted,
    "flipped": flipped,
    "class swap": swapped,
    "slice missing": slice_missing,
    "dilated": dilated,
    "other case's": of_another,
}


def make(dataset: Dataset, folder: Path, seed: int) -> None:
    """Copies the dataset, and corrupts some of its label maps."""
    shutil.copytree(dataset.root, folder)
    copy = read_dataset(folder)
    draw = np.random.default_rng(seed)
    count = round(SHARE * len(copy.cases))
    drawn = [copy.cases[place] for place in draw.permutation(len(copy.cases))[: count + 1]]
    ways = list(WAYS) * (count // len(WAYS) + 1)
    done = {}
    for case, way, other in zip(drawn[:count], ways, drawn[1:], strict=False):
        _corrupt(case, dataset, way, other)
        done[case.id] = way
    (folder / "corrupted.json").write_text(json.dumps(done, indent=1) + "\n")
    print(f"{len(done)} of {len(copy.cases)} label maps corrupted: {folder / 'corrupted.json'}")


def _corrupt(case: Case, original: Dataset, way: str, other: Case) -> None:
    """Writes a corrupted label map in place of the copy's; the other's comes from the untouched dataset."""
    labels_of = {each.id: each.label for each in original.cases}
    own, theirs = (read_labels(labels_of[each.id]).array[0] for each in (case, other))  # type: ignore[arg-type]
    values = [value for value in original.classes if value != 0]
    corrupted = WAYS[way](own, theirs, values)
    assert case.label is not None
    assert not np.array_equal(corrupted, own)
    write_labels(case.label, np.ascontiguousarray(corrupted), like=case.label)


def count(folder: Path, run: Path) -> None:
    """Prints at which rank each corrupted label map is, and how many are among the first."""
    corrupted = json.loads((folder / "corrupted.json").read_text(encoding="utf-8"))
    with (run / "suspects" / "suspects.csv").open(encoding="utf-8", newline="") as file:
        ranks = {row["case"]: int(row["rank"]) for row in csv.DictReader(file)}
    print("| corrupted how | rank of each |\n| --- | --- |")
    for way in WAYS:
        places = sorted(ranks[case] for case in corrupted if corrupted[case] == way)
        print(f"| {way} | {', '.join(map(str, places))} |")
    found = sum(ranks[case] <= FIRST for case in corrupted)
    print(f"\nof {len(corrupted)} corrupted label maps among {len(ranks)}, {found} are among the first {FIRST}")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("what", choices=["make", "count"])
    parser.add_argument("first", type=Path, metavar="DATASET or FOLDER")
    parser.add_argument("second", type=Path, metavar="FOLDER or RUN")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    if options.what == "make":
        make(read_dataset(options.first), options.second, options.seed)
    else:
        count(options.first, options.second)


if __name__ == "__main__":
    main()
