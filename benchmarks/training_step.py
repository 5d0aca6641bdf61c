"""A training step of ours against the recipe's: BEiT-base, the same batch of random windows, turn by turn.

    python benchmarks/training_step.py                  # 224², two windows; about five minutes on two cores
    python benchmarks/training_step.py --image-size 512
    python benchmarks/training_step.py --device cuda --image-size 512

Reading and augmenting are not counted. Operations are those that the network needs, three times those of its forward
pass; the machine's rate is that of a product of large matrices, taken in the same rounds. Peak memory is that of a
process that makes two steps, without what torch takes to be loaded.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import warnings

import torch
from interleaved import Timings, compared, interleave
from resident import peak_bytes, resident_bytes
from training_steps import NUM_CLASSES, WAYS, Trainer, make_trainer, random_batch, synchronise

from inflate3d.models.flops import measure_cost

MATRIX = {"cpu": 2048, "cuda": 8192}
"""Side of the matrices that tell the machine's rate."""
GIB = 2**30


def parse() -> argparse.Namespace:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--image-size", type=int, default=224)
    options.add_argument("--batch-size", type=int, default=2)
    options.add_argument("--rounds", type=int, default=3)
    options.add_argument("--device", default="cpu")
    options.add_argument("--threads", type=int, help="all cores if not given")
    options.add_argument("--no-memory", action="store_true", help="leave out the processes that measure memory")
    options.add_argument("--memory-of", choices=list(WAYS), help=argparse.SUPPRESS)
    return options.parse_args()


def time_ways(options: argparse.Namespace) -> Timings:
    device = torch.device(options.device)
    batch = random_batch(options.batch_size, options.image_size, device)
    trainers: dict[tuple[str, bool], Trainer] = {}
    ways = {}
    for name, way in WAYS.items():
        key = (way.decoder, way.recipe)
        if key not in trainers:
            trainers[key] = make_trainer(way, options.image_size, device)
        ways[name] = lambda trainer=trainers[key], way=way: trainer.step(batch, way.precision)
    for precision in (torch.float32, torch.bfloat16):
        side = MATRIX[device.type]
        matrix = torch.randn(side, side, device=device).to(precision)
        ways[str(precision)] = lambda matrix=matrix: (matrix @ matrix, synchronise(device))
    return interleave(ways, rounds=options.rounds)


def measure_memory(name: str, options: argparse.Namespace) -> int:
    """Bytes at the peak of two steps, in this process."""
    device = torch.device(options.device)
    before = resident_bytes()
    trainer = make_trainer(WAYS[name], options.image_size, device)
    batch = random_batch(options.batch_size, options.image_size, device)
    for _ in range(2):  # the optimizer's state is made by the first
        trainer.step(batch, WAYS[name].precision)
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    return peak_bytes() - before


def memory_of(name: str) -> int:
    """The same of a fresh process, by this command's own options."""
    command = [sys.executable, __file__, *sys.argv[1:], "--memory-of", name]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)  # noqa: S603 - ourselves


def print_table(timings: Timings, options: argparse.Namespace) -> None:
    side = MATRIX[torch.device(options.device).type]
    print("| step | seconds | times as fast | peak memory, GiB | GFLOP/s | of the matrix rate |")
    print("| --- | --- | --- | --- | --- | --- |")
    for name, way in WAYS.items():
        cost = measure_cost("beit", image_size=options.image_size, num_classes=NUM_CLASSES, decoder=way.decoder)
        operations = 3 * options.batch_size * cost.model
        seconds = timings.seconds(name)
        share = timings.ratio(str(way.precision), name) * operations / (2 * side**3)
        memory = "" if options.no_memory else f"{memory_of(name) / GIB:.1f}"
        rates = f"{operations / seconds / 1e9:.0f} | {share:.0%}"
        print(f"| {name} | {seconds:.3g} | {timings.ratio('recipe', name):.2f} | {memory} | {rates} |", flush=True)
    for precision in (torch.float32, torch.bfloat16):
        rate = 2 * side**3 / timings.seconds(str(precision)) / 1e9
        print(f"\nMatrices of {side}² in {str(precision).removeprefix('torch.')}: {rate:.0f} GFLOP/s")


def main() -> None:
    warnings.simplefilter("ignore")
    options = parse()
    if options.threads:
        torch.set_num_threads(options.threads)
    if options.memory_of:
        print(json.dumps(measure_memory(options.memory_of, options)))
        return
    size, threads = options.image_size, torch.get_num_threads()
    print(
        f"{options.batch_size} windows of 5×{size}×{size}, {NUM_CLASSES} classes; {options.device}, {threads} threads\n"
    )
    timings = time_ways(options)
    print_table(timings, options)
    print()
    for name in WAYS:
        if name != "recipe":
            print(f"- {compared(timings, 'recipe', name)}")


if __name__ == "__main__":
    main()
