"""Dice, HD95 and NSD of a large case with many classes: ours against MONAI's, same values, time and memory.

    python benchmarks/metrics.py [--shape 300 512 512] [--classes 14] [--monai-classes 2] [--rounds 1]

A made-up abdomen: ellipsoids of the size of organs, predicted a little too large, shifted and rippled. Each program
works in a process of its own with one thread, whose CPU time is taken. MONAI gets one class at a time, since all at
once would take tens of gigabytes, and only the first few of them, since each takes long; the ratio is that of the same
classes. Memory is the most that the process held beyond both label maps.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
import warnings
from collections.abc import Callable

import numpy as np
from resident import MEGABYTE, peak_bytes

SPACING, TOLERANCE = (1.0, 0.78, 0.78), 2.0
MEASURES = ("dice", "hd95", "nsd")
Values = dict[str, np.ndarray]


def label_maps(shape: tuple[int, int, int], classes: int) -> tuple[np.ndarray, np.ndarray]:
    """A label map and its prediction, class numbers in bytes."""
    random = np.random.default_rng(0)
    label, prediction = np.zeros(shape, np.uint8), np.zeros(shape, np.uint8)
    size = np.array(shape) * SPACING
    for number in range(1, classes + 1):
        radii = random.uniform(0.04, 0.3, 3) * size.min()
        center = random.uniform(0.3, 0.7, 3) * size
        _draw(label, number, center, radii, ripple=0.0)
        _draw(prediction, number, center + 1.5, 1.03 * radii, ripple=0.05)
    return label, prediction


def _draw(labels: np.ndarray, number: int, center: np.ndarray, radii: np.ndarray, ripple: float) -> None:
    first = np.maximum(0, ((center - 1.1 * radii) / SPACING).astype(int))
    last = np.minimum(labels.shape, ((center + 1.1 * radii) / SPACING).astype(int) + 2)
    box = tuple(slice(low, high) for low, high in zip(first, last, strict=True))
    places = [
        (np.arange(low, high) * step - middle) / radius
        for low, high, step, middle, radius in zip(first, last, SPACING, center, radii, strict=True)
    ]
    y, z = np.ix_(*places[1:])
    for plane, x in zip(labels[box], places[0], strict=True):  # one at a time: memory is measured from here on
        plane[x**2 + y**2 + z**2 + ripple * np.sin(20 * (x + y + z)) <= 1] = number


def ours(label: np.ndarray, prediction: np.ndarray, classes: int) -> Values:
    import torch

    from inflate3d.evaluation.metrics import dice, overlap_counts
    from inflate3d.evaluation.shapes import shape_measures

    counts = overlap_counts(torch.from_numpy(prediction), torch.from_numpy(label), classes + 1)
    return {
        "dice": dice(counts)[1:].numpy(),
        **shape_measures(prediction, label, SPACING, classes, TOLERANCE, ("hd95", "nsd")),
    }


def monais(label: np.ndarray, prediction: np.ndarray, classes: int) -> Values:
    import torch
    from monai.metrics.hausdorff_distance import compute_hausdorff_distance
    from monai.metrics.meandice import compute_dice
    from monai.metrics.surface_dice import compute_surface_dice

    how = {"include_background": True, "spacing": list(SPACING)}
    rows = []
    for number in range(1, classes + 1):
        masks = [torch.from_numpy(values == number)[None, None] for values in (prediction, label)]
        rows.append(
            [
                float(compute_dice(*masks)),
                float(compute_hausdorff_distance(*masks, percentile=95, **how)),
                float(compute_surface_dice(*masks, [TOLERANCE], use_subvoxels=True, **how)),
            ]
        )
    return dict(zip(MEASURES, np.array(rows).T, strict=True))


WAYS: dict[str, Callable[[np.ndarray, np.ndarray, int], Values]] = {"inflate3d": ours, "MONAI": monais}


def measure(way: str, shape: tuple[int, int, int], taken: int) -> dict[str, object]:
    """Times one way in this process, with the first of the classes."""
    import torch

    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    WAYS[way](*label_maps((20, 24, 24), 2), 2)  # what is imported is not counted
    maps = label_maps(shape, taken)
    before, started = peak_bytes(), time.process_time()
    values = WAYS[way](*maps, taken)
    seconds = time.process_time() - started  # one thread: what else runs on the machine counts little
    return {
        "seconds": seconds,
        "megabytes": (peak_bytes() - before) / MEGABYTE,
        "values": {name: each.tolist() for name, each in values.items()},
    }


def _in_a_process(way: str, taken: int, arguments: argparse.Namespace) -> dict:
    words = ["--way", way, "--taken", taken, "--shape", *arguments.shape]
    done = subprocess.run(  # noqa: S603 - ourselves
        [sys.executable, __file__, *map(str, words)], check=True, stdout=subprocess.PIPE, text=True
    )
    return json.loads(done.stdout)


def compare(arguments: argparse.Namespace) -> None:
    """Measures both ways in turn, and prints a table."""
    few = arguments.monai_classes
    ways = list(dict.fromkeys([("inflate3d", arguments.classes), ("inflate3d", few), ("MONAI", few)]))
    rounds = [{each: _in_a_process(*each, arguments) for each in ways} for _ in range(arguments.rounds)]
    print(f"{'×'.join(map(str, arguments.shape))} voxels, one thread\n")
    print("| | classes | CPU seconds | memory beyond the label maps |\n| --- | --- | --- | --- |")
    for each in ways:
        seconds, megabytes = (statistics.median(one[each][name] for one in rounds) for name in ("seconds", "megabytes"))
        print(f"| {each[0]} | {each[1]} | {seconds:.1f} | {megabytes:,.0f} MB |")
    ours, theirs = ("inflate3d", few), ("MONAI", few)
    ratio = statistics.median(each[theirs]["seconds"] / each[ours]["seconds"] for each in rounds)
    values = [rounds[0][each]["values"] for each in (ours, theirs)]
    apart = {name: np.abs(np.subtract(*(each[name] for each in values))).max() for name in MEASURES}
    said = ", ".join(f"{name} {most:.1g}" for name, most in apart.items())
    print(f"\nMONAI takes {ratio:.1f} times as long for the same {few} classes. Largest differences: {said}.")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", type=int, nargs=3, default=(300, 512, 512))
    parser.add_argument("--classes", type=int, default=14)
    parser.add_argument("--monai-classes", type=int, default=2, help="how many of them MONAI is timed with")
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--way", choices=WAYS, help=argparse.SUPPRESS)
    parser.add_argument("--taken", type=int, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.way:
        print(json.dumps(measure(arguments.way, tuple(arguments.shape), arguments.taken)))
    else:
        compare(arguments)
