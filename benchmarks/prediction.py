"""Seconds and memory to predict a CT: ours against MONAI's sliding windows and nnU-Net's own predictor.

    python benchmarks/prediction.py                  # a part of the scan by turns, brought up to the whole of it
    python benchmarks/prediction.py --whole          # the whole scan, each in a process of its own; peak memory
    python benchmarks/prediction.py --large          # ours alone: 512×512×1000 voxels, 100 classes, a small network
    python benchmarks/prediction.py --large --regions  # 104 regions that may overlap, 512×512×600 voxels; see below
    python benchmarks/prediction.py --whole --device cuda

The scan has 512×512 pixels of 0.78 mm and slices of 5 mm. Ours is the default network, ViT-S/16 with fpn-lite, and the
same with ViT-B/16, the paper's size; both see 512×512 pixels and five slices. nnU-Net's network is the default one of a
3d_fullres plan for such slices, without mirroring. MONAI's networks see the scan at 1.5×1.5×2 mm, their published
examples' spacing; going there and back is not counted. All have 14 classes and random weights. nnU-Net has to be
installed for its row: pip install nnunetv2.

With --large --regions the network sees images of 128×128 pixels for all 600 slices, which takes a fraction of
the time, and 512×512 for 24 of them: logits of full size, of which the same number are held for any number of slices.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Callable, Sequence

import numpy as np
import torch
from interleaved import compared, interleave
from recipe.prediction import Sliding, monai_network, nnunet_network
from resident import forget_peak, peak_bytes, resident_bytes

from inflate3d.datasets.regions import Regions
from inflate3d.inference.predictor import Predictor
from inflate3d.models.encoders import create_encoder
from inflate3d.models.segmenter import Segmenter, create_model
from inflate3d.preparation.plan import Normalization, Plan
from inflate3d.volume import Volume

SHAPE, SPACING, CLASSES = (28, 512, 512), (5.0, 0.78, 0.78), 14
MONAI_SPACING = (2.0, 1.5, 1.5)
SLICES_OF_A_PART = 5
OURS = {
    "inflate3d": ("vit_small_patch16_224", "32"),
    "inflate3d, bf16-mixed": ("vit_small_patch16_224", "bf16-mixed"),
    "inflate3d, ViT-B/16": ("vit_base_patch16_224", "32"),
    "inflate3d, ViT-B/16, bf16-mixed": ("vit_base_patch16_224", "bf16-mixed"),
}
"""Encoder and precision by name; the others are held against the first."""
FIRST = next(iter(OURS))
OTHERS = ("nnU-Net", "UNETR", "SwinUNETR")
MISSING = "nnU-Net is not installed, so its row is left out: pip install nnunetv2"


def plan(classes: int, image_size: tuple[int, int]) -> Plan:
    return Plan(
        dataset="benchmark",
        modalities=("CT",),
        classes={number: f"class {number}" for number in range(classes)},
        merged={},
        depth_axis="axial",
        image_size=image_size,
        normalization=(Normalization(kind="clip", low=-175, high=250),),
        flips=(False, False, False),
        reasons={},
    )


def our_model(encoder: str, classes: int = CLASSES, size: int = 512) -> Segmenter:
    model = create_model(encoder=create_encoder(encoder, depth=5, image_size=size, weights="none"), num_classes=classes)
    model.plan = plan(classes, (size, size))
    return model


def our_predictor(name: str, device: str) -> Predictor:
    encoder, precision = OURS[name]
    return Predictor(our_model(encoder), device=device, precision=precision)


def ct(shape: tuple[int, int, int]) -> Volume:
    """Noise, in the order that NIfTI files have."""
    slices, rows, columns = shape
    voxels = np.random.default_rng(0).integers(-1000, 1000, (slices, columns, rows), np.int16)
    return Volume(voxels.transpose(2, 1, 0)[None], np.diag([*SPACING[:0:-1], SPACING[0], 1.0]))


def sliding_of(name: str) -> tuple[Sliding, tuple[int, int, int]]:
    """A baseline, and the shape in which it sees the scan."""
    if name == "nnU-Net":
        return nnunet_network(CLASSES), SHAPE
    slices, rows, columns = (
        round(size * own / new) for size, own, new in zip(SHAPE, SPACING, MONAI_SPACING, strict=True)
    )
    return monai_network(name, CLASSES), (slices, rows, columns)


def ways_for_a_part(device: str, names: Sequence[str]) -> tuple[dict[str, Callable[[], object]], dict[str, float]]:
    """For each name a part of the work, and how many such parts the scan has."""
    part = ct((SLICES_OF_A_PART, *SHAPE[1:]))
    predictors = {name: our_predictor(name, device) for name in OURS}
    ways: dict[str, Callable[[], object]] = {
        name: lambda predictor=predictor: predictor.predict(part) for name, predictor in predictors.items()
    }
    parts = dict.fromkeys(ways, SHAPE[0] / SLICES_OF_A_PART)
    for name in names:
        try:
            sliding, shape = sliding_of(name)
        except ImportError:
            print(MISSING, file=sys.stderr)
            continue
        patch = torch.randn(1, *sliding.patch)
        ways[name] = lambda sliding=sliding, patch=patch: sliding.predict(patch, torch.device(device))
        parts[name] = sliding.patches(shape)
    return ways, parts


def by_parts(device: str, rounds: int, names: Sequence[str]) -> None:
    ways, parts = ways_for_a_part(device, names)
    timings = interleave(ways, rounds=rounds, warm=rounds > 1)
    print(f"| prediction of a CT of {'×'.join(map(str, SHAPE))} voxels | parts | s a part | s a scan | times ours |")
    print("| --- | --- | --- | --- | --- |")
    for name in ways:
        seconds = timings.seconds(name)
        times = timings.ratio(name, FIRST) * parts[name] / parts[FIRST]
        print(f"| {name} | {parts[name]:g} | {seconds:.2f} | {seconds * parts[name]:.1f} | {times:.2f} |")
    for name in list(ways)[1:]:
        print(f"a part: {compared(timings, name, FIRST)}")


def measure_whole(name: str, device: str) -> None:
    """Predicts the whole scan in this process; prints seconds and bytes above weights and scan."""
    if name in OURS:
        predictor, scan = our_predictor(name, device), ct(SHAPE)
        print(json.dumps(_measured(lambda: predictor.predict(scan), device)))
        return
    sliding, shape = sliding_of(name)
    voxels = torch.randn(1, *shape)
    sliding.network.to(device)
    print(json.dumps(_measured(lambda: sliding.predict(voxels, torch.device(device)), device)))


def with_regions(model: Segmenter) -> Segmenter:
    """Each output becomes a region: of a value of its own, and of one that it shares with a neighbor."""
    numbers = range(1, model.architecture.num_classes + 1)
    regions = Regions(values={f"region {number}": (number, 150 + number // 2) for number in numbers})
    assert model.plan is not None
    classes = {0: "background", **regions.name_values()}
    model.plan = model.plan.model_copy(update={"classes": classes, "regions": regions})
    return model


def measure_large(slices: int, size: int, *, regions: bool) -> None:
    """A small network with 100 classes or 104 regions: what is held besides the weights and the scan."""
    model = our_model("resnet10t", classes=104 if regions else 100, size=size)
    model = with_regions(model) if regions else model
    predictor = Predictor(model, device="cpu")
    predictor.predict(ct((5, 64, 64)))  # what torch and its libraries take once
    scan = ct((slices, 512, 512))
    print(json.dumps(_measured(lambda: predictor.predict(scan), "cpu")))


def _measured(work: Callable[[], object], device: str) -> dict[str, float]:
    on_gpu = torch.device(device).type == "cuda"
    if on_gpu:
        before = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
    else:
        forget_peak()  # that of building the network
        before = resident_bytes()
    started = time.perf_counter()
    work()
    if on_gpu:
        torch.cuda.synchronize()
    seconds = time.perf_counter() - started
    peak = torch.cuda.max_memory_allocated() if on_gpu else peak_bytes()
    return {"seconds": seconds, "gigabytes": (peak - before) / 1e9}


def in_a_process(*words: str) -> dict[str, float] | None:
    command = [sys.executable, __file__, *words]
    done = subprocess.run(command, check=False, stdout=subprocess.PIPE, text=True)  # noqa: S603 - ourselves
    return json.loads(done.stdout.splitlines()[-1]) if done.returncode == 0 else None


def whole(device: str) -> None:
    print("| prediction of a whole CT | s | GB above weights and scan | times ours |\n| --- | --- | --- | --- |")
    ours = None
    for name in (*OURS, *OTHERS):
        figures = in_a_process("--one", name, "--device", device)
        if figures is None:
            print(f"| {name} | did not run | | |")
            continue
        ours = ours or figures
        times = figures["seconds"] / ours["seconds"]
        print(f"| {name} | {figures['seconds']:.1f} | {figures['gigabytes']:.2f} | {times:.2f} |", flush=True)


def memory(runs: tuple[tuple[int, int], ...], *, regions: bool) -> None:
    """Of ours, by slices and image size; a voxel more costs a byte of the label map, so the rest can be foretold."""
    outputs = "104 regions" if regions else "100 classes"
    print(f"| ours, 512×512×slices voxels, {outputs} | s | GB above weights and scan |\n| --- | --- | --- |")
    for slices, size in runs:
        figures = in_a_process("--slices", str(slices), "--size", str(size), *["--regions"] * regions)
        assert figures is not None
        row = f"{slices} slices, images of {size}×{size}"
        print(f"| {row} | {figures['seconds']:.1f} | {figures['gigabytes']:.2f} |", flush=True)
    if runs[-1][0] < 1000 and not regions:
        most = figures["gigabytes"] + (1000 - runs[-1][0]) * 512 * 512 / 1e9
        print(f"| 1000 slices, by the label map that is larger | | at most {most:.2f} |")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--whole", action="store_true", help="predict the whole scan, each in its own process")
    parser.add_argument("--large", action="store_true", help="512×512×1000 voxels and 100 classes, ours alone")
    parser.add_argument("--regions", action="store_true", help="with --large: 104 regions, 512×512×600 voxels")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--against", nargs="*", choices=OTHERS, default=OTHERS)
    parser.add_argument("--threads", type=int, help="torch's, all cores if not given")
    parser.add_argument("--one", choices=(*OURS, *OTHERS), help=argparse.SUPPRESS)
    parser.add_argument("--slices", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--size", type=int, default=512, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.threads:
        torch.set_num_threads(options.threads)
    if options.one:
        measure_whole(options.one, options.device)
    elif options.slices:
        measure_large(options.slices, options.size, regions=options.regions)
    elif options.whole:
        whole(options.device)
    elif options.large:
        memory(((600, 128), (24, 512)) if options.regions else ((1000, 512),), regions=options.regions)
    else:
        by_parts(options.device, options.rounds, options.against)
        memory(((16, 512),), regions=False)
