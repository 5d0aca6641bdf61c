"""Dice and CPU seconds of a run's held-out cases: all slices against the adaptive schedule, 32 against 8 bits.

    inflate3d export RUN exported --format openvino --int8
    python benchmarks/held_out.py RUN [--int8 exported] [--cases 52]

One thread. The ways take turns, case by case; times are CPU seconds of the process, from the stored scan to the label
map on its grid. Without a run there is nothing to measure.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

import numpy as np
import torch

from inflate3d.config import RunConfig
from inflate3d.datasets.splits import Split
from inflate3d.evaluation.metrics import CaseDice
from inflate3d.export.files import onnx_bytes
from inflate3d.export.runtimes import OpenVino
from inflate3d.inference.predictor import Predictor
from inflate3d.inference.runtime import ForeignSegmenter
from inflate3d.models.segmenter import Segmenter, load_model
from inflate3d.preparation.store import Store
from inflate3d.run_folder import RunFolder

FIRST = "torch, all slices"


def main(run: RunFolder, int8: Path | None, most: int) -> None:
    torch.set_num_threads(1)
    model = load_model(run.root)
    assert isinstance(model, Segmenter) and model.plan is not None
    foreign = {"OpenVINO, float32, all slices": OpenVino(onnx_bytes(model))}
    if int8:
        foreign["OpenVINO, int8, all slices"] = OpenVino(int8 / "model.xml")
    ways = {
        FIRST: Predictor(model, device="cpu"),
        "torch, adaptive": Predictor(model, device="cpu", schedule="adaptive"),
        **{name: Predictor(ForeignSegmenter(model, network), device="cpu") for name, network in foreign.items()},
    }
    store = Store(RunConfig.read(run.config).store)
    cases = Split.read(run.split).held_out[:most]
    dice = {name: CaseDice(len(cases), len(model.plan.classes), model.plan.members) for name in ways}
    seconds = {name: np.zeros(len(cases)) for name in ways}
    for row, case in enumerate(cases):
        labels, scan = store.labels(case), store.scan(case)
        for name, predictor in ways.items():
            started = time.process_time()
            predicted = torch.stack(list(predictor.classes(scan)))
            seconds[name][row] = time.process_time() - started
            dice[name].update(row, predicted, torch.from_numpy(labels))
    means = {name: each.compute()[:, 1:].nanmean(1).numpy() for name, each in dice.items()}
    print(f"{len(cases)} held-out cases of {model.plan.dataset}, {model.architecture.encoder}\n")
    print("| | CPU seconds a case | times as fast (quartiles) | mean Dice | difference | largest loss of a case |")
    print("| --- | --- | --- | --- | --- | --- |")
    for name in ways:
        low, middle, high = np.percentile(seconds[FIRST] / seconds[name], [25, 50, 75])
        lost = means[name] - means[FIRST]
        print(
            f"| {name} | {np.median(seconds[name]):.2f} | {middle:.2f} ({low:.2f} to {high:.2f}) "
            f"| {np.nanmean(means[name]):.4f} | {np.nanmean(lost):+.4f} | {-np.nanmin(lost):.4f} |"
        )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", nargs="?", type=Path)
    parser.add_argument("--int8", type=Path)
    parser.add_argument("--cases", type=int, default=1000)
    options = parser.parse_args()
    if options.run is None:
        print("it needs a trained run: python benchmarks/held_out.py RUN", file=sys.stderr)
        sys.exit(77)
    main(RunFolder(options.run), options.int8, options.cases)
