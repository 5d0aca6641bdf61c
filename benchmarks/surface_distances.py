"""HD95 and NSD of one large class: ours against MONAI's, same values, time and memory, each in a process of its own.

    python benchmarks/surface_distances.py

Two balls of 140 mm, moved by 3 voxels, in a box of 18 million voxels (1.5×0.9×0.9 mm), one thread.
"""

from __future__ import annotations

import resource
import subprocess
import sys
import time
import warnings

import numpy as np
import torch

SPACING, RADIUS, SHIFT, TOLERANCE = (1.5, 0.9, 0.9), 140.0, 3, 2.0


def balls() -> np.ndarray:
    sides = [2 * int(RADIUS / step) + 3 for step in SPACING]
    places = [(np.arange(size) - size // 2) * step for size, step in zip(sides, SPACING, strict=True)]
    inside = sum(np.square(place) for place in np.ix_(*places)) <= RADIUS**2
    return np.stack([np.pad(inside, ((0, 0), (0, 0), ends)) for ends in ((0, SHIFT), (SHIFT, 0))])


def ours(first: np.ndarray, second: np.ndarray) -> tuple[float, float]:
    from inflate3d.evaluation.surfaces import surface_scores

    hd95, nsd = surface_scores(first.astype(np.uint8), second.astype(np.uint8), 2, SPACING, TOLERANCE)[0]
    return hd95, nsd


def monais(first: np.ndarray, second: np.ndarray) -> tuple[float, float]:
    from monai.metrics.hausdorff_distance import compute_hausdorff_distance
    from monai.metrics.surface_dice import compute_surface_dice

    masks = [torch.from_numpy(mask)[None, None] for mask in (first, second)]
    how = {"include_background": True, "spacing": list(SPACING)}
    hd95 = compute_hausdorff_distance(*masks, percentile=95, **how)
    return float(hd95), float(compute_surface_dice(*masks, [TOLERANCE], use_subvoxels=True, **how))


def measure(name: str) -> None:
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    masks = balls()
    way = {"ours": ours, "MONAI": monais}[name]
    way(masks[0, 98:104], masks[1, 98:104])  # what is imported is not counted
    before, started = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.perf_counter()
    hd95, nsd = way(*masks)
    more = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    seconds = time.perf_counter() - started
    print(f"{name:5}  HD95 {hd95:.4f} mm, NSD {nsd:.4f}, {seconds:5.1f} s, {more:5.0f} MB more than before")


if __name__ == "__main__":
    if len(sys.argv) > 1:
        measure(sys.argv[1])
    else:
        for name in ("ours", "MONAI"):
            subprocess.run([sys.executable, __file__, name], check=True)  # noqa: S603 - ourselves
