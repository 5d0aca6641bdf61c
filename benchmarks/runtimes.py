"""CPU seconds of a batch of windows by torch, onnxruntime and OpenVINO, in 32 bits, and by torch in bf16.

    python benchmarks/runtimes.py [--encoder vit_small_patch14_dinov2] [--image-size 112] [--windows 8] [--rounds 5]

Random weights, one thread. They take turns; times are CPU seconds of the process, which other work on the machine
disturbs less than the clock's. It needs the extra `export`.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import torch
from torch import Tensor

from inflate3d.export.files import onnx_bytes
from inflate3d.export.network import example_windows
from inflate3d.export.runtimes import RUNTIMES, largest_difference
from inflate3d.models.encoders import create_encoder
from inflate3d.models.segmenter import Segmenter, create_model

FIRST = "torch, float32"


def in_bfloat16(model: Segmenter, windows: Tensor) -> Tensor:
    with torch.autocast("cpu", torch.bfloat16):
        return model(windows)


def cpu_seconds(way: Callable[[Tensor], Tensor], windows: Tensor) -> float:
    started = time.process_time()
    way(windows)
    return time.process_time() - started


@torch.inference_mode()
def main(encoder: str, image_size: int, count: int, rounds: int) -> None:
    torch.set_num_threads(1)
    model = create_model(
        encoder=create_encoder(encoder, depth=5, image_size=image_size, weights="none"), num_classes=3
    ).eval()
    started = time.process_time()
    file = onnx_bytes(model)
    print(f"{encoder}, {image_size}×{image_size}, {count} windows; exported in {time.process_time() - started:.0f} s\n")
    others = {name: runtime(file) for name, runtime in RUNTIMES.items()}
    ways: dict[str, Callable[[Tensor], Tensor]] = {
        FIRST: model,
        **{f"{name}, float32": network for name, network in others.items()},
        "torch, bf16": lambda windows: in_bfloat16(model, windows),
    }
    differences = {f"{name}, float32": largest_difference(model, network) for name, network in others.items()}
    windows = example_windows(model, count)
    for way in ways.values():
        way(windows)
    taken = [{name: cpu_seconds(way, windows) for name, way in ways.items()} for _ in range(rounds)]
    print("| | CPU seconds | times as fast as torch in float32 (lowest to highest) | difference of logits |")
    print("| --- | --- | --- | --- |")
    for name in ways:
        ratios = [each[FIRST] / each[name] for each in taken]
        spread = f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"
        apart = f"{differences[name]:.1e}" if name in differences else ""
        print(f"| {name} | {statistics.median(each[name] for each in taken):.2f} | {spread} | {apart} |")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--encoder", default="vit_small_patch14_dinov2")
    parser.add_argument("--image-size", type=int, default=112)
    parser.add_argument("--windows", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    main(options.encoder, options.image_size, options.windows, options.rounds)
