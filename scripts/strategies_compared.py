"""Does it pay to choose the next case? Simulates annotation with each strategy, on a labeled dataset.

    python scripts/strategies_compared.py DATASET STORE OUT --encoder tf_efficientnet_lite0 --weights WEIGHTS

For each seed, a pool is drawn from the training cases of the dataset's split. Four cases of it are labeled at first,
the same ones for every strategy; a network is trained on them, and predicts the rest of the pool; the strategy adds
four cases; and so on, up to 24. Each network is scored on the same held-out cases. Printed are Dice by number of
labeled cases, and each strategy less `foreground-random` with 95 % intervals over seeds and cases.

Every finished training is a JSON file in OUT, so that the script can be stopped and started again at any time.
`--table` only prints what is there.
"""

from __future__ import annotations

import argparse
import json
import math
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch

from inflate3d.annotation.strategies import STRATEGIES, Candidate, order_cases
from inflate3d.atomic import write_text
from inflate3d.config import DataConfig, InflatedConfig, RunConfig, TrainingConfig
from inflate3d.datasets import Case, Dataset, Split, read_dataset
from inflate3d.datasets.splits import choose_split
from inflate3d.evaluation.metrics import dice, overlap_counts
from inflate3d.evaluation.statistics import estimate, group_values
from inflate3d.evaluation.tables import show_estimate
from inflate3d.inference.predictor import Predictor
from inflate3d.preparation.store import Store
from inflate3d.preparation.verify import check_case
from inflate3d.run_folder import RunFolder
from inflate3d.training.run import train

BASELINE = "foreground-random"


def main() -> None:
    options = _options()
    dataset, store = read_dataset(options.dataset), Store(options.store)
    split = choose_split(DataConfig(), store.groups, store.splits)
    simulation = Simulation(options, dataset, store, split)
    if not options.table:
        for seed in options.seeds:
            for strategy in options.strategies:
                simulation.run(strategy, seed)
    simulation.print_table()


class Simulation:
    """One dataset, all strategies."""

    def __init__(self, options: argparse.Namespace, dataset: Dataset, store: Store, split: Split) -> None:
        self.options, self.dataset, self.store = options, dataset, store
        self.cases = {case.id: case for case in dataset.cases}
        self.pool_of_all = split.train
        held_out = sorted(split.held_out)
        self.test = [held_out[place] for place in _spread(len(held_out), options.test)]
        self.sizes = range(options.start, options.most + 1, options.add)

    def run(self, strategy: str, seed: int) -> None:
        """All sizes of a strategy and a seed; those that are done are read."""
        draw = np.random.default_rng(seed)
        pool = sorted(
            draw.choice(self.pool_of_all, min(self.options.pool, len(self.pool_of_all)), replace=False).tolist()
        )
        labeled = sorted(draw.choice(pool, self.options.start, replace=False).tolist())
        for size in self.sizes:
            done = self.trained(strategy, seed, labeled, pool)
            candidates = [Candidate(name, name in labeled, _with_nan(done["confidence"].get(name))) for name in pool]
            order = order_cases(strategy, candidates, seed=1000 * seed + size)
            labeled = sorted([*labeled, *order[: self.options.add]])

    def file(self, strategy: str, seed: int, size: int) -> Path:
        name = "start" if size == self.options.start else f"{strategy}-{size:02d}"
        return self.options.out / f"seed-{seed}" / f"{name}.json"

    def trained(self, strategy: str, seed: int, labeled: list[str], pool: list[str]) -> dict[str, Any]:
        """Trains on the labeled cases; scores the test cases; predicts the rest of the pool."""
        file = self.file(strategy, seed, len(labeled))
        if file.exists():
            found = json.loads(file.read_text(encoding="utf-8"))
            assert found["labeled"] == labeled, f"{file} is of another simulation"
            return found
        with TemporaryDirectory() as folder:
            predictor = self._train(Path(folder), labeled, seed)
            scores = {name: self._dice(predictor, self.cases[name]) for name in self.test}
            last = len(labeled) + self.options.add > self.options.most
            rest = [] if last else [name for name in pool if name not in labeled]
            confidence = {name: self._confidence(predictor, self.cases[name]) for name in rest}
        done = {"labeled": labeled, "dice": scores, "confidence": confidence}
        write_text(file, json.dumps(done, indent=1) + "\n")
        print(f"{file}: Dice {np.nanmean(np.array(list(scores.values()), float)):.4f}", flush=True)
        return done

    def _train(self, folder: Path, labeled: list[str], seed: int) -> Predictor:
        Split(tuple(labeled), (self.test[0],), source="simulated").write(folder / "split.json")
        size, steps = self.options.image_size, self.options.steps
        config = RunConfig(
            dataset=self.dataset.root,
            store=self.store.folder,
            data=DataConfig(split=str(folder / "split.json")),
            model=InflatedConfig(
                encoder=self.options.encoder, weights=self.options.weights, depth=1, image_size=(size, size)
            ),
            training=TrainingConfig(
                steps=steps,
                batch_size=self.options.batch_size,
                seed=seed,
                precision="32",
                accelerator="cpu",
                workers=0,
                validation_cases=1,
                validate_every=steps,
            ),
        )
        run = RunFolder(folder / "run")
        train(config, run, self.store)
        return Predictor.load(run.root, device="cpu", slice_step=self.options.slice_step)

    def _dice(self, predictor: Predictor, case: Case) -> list[float | None]:
        scan, label = check_case(case, predictor.plan.apply_to(self.dataset))
        maps = (predictor.predict(scan).labels, label.array[0])
        ours, truth = (torch.from_numpy(predictor.plan.number_classes(each).astype(np.int64)) for each in maps)
        values = dice(overlap_counts(ours, truth, len(predictor.plan.classes)))[1:].tolist()
        return [None if math.isnan(value) else value for value in values]

    def _confidence(self, predictor: Predictor, case: Case) -> dict[str, float | None]:
        scan, _ = check_case(case, predictor.plan.apply_to(self.dataset))
        confidence = predictor.predict(scan, confidence=True).confidence
        assert confidence is not None
        return confidence.to_dict()["classes"]

    def print_table(self) -> None:
        """Dice by number of labeled cases, over the seeds that all strategies have finished."""
        done = [
            seed for seed in self.options.seeds if all(self._scores(name, seed) for name in self.options.strategies)
        ]
        print(f"seeds finished by all: {done}; {len(self.test)} held-out cases: {', '.join(self.test)}")
        if not done:
            return
        groups = [self.cases[name].group or name for name in self.test]
        found = {
            name: np.array([self._scores(name, seed) for seed in done], float) for name in self.options.strategies
        }  # (seeds, sizes, cases, classes)
        columns = [*map(str, self.sizes), f"mean of {self.sizes[1]} to {self.sizes[-1]}"]
        print(f"\n| | {' | '.join(columns)} |\n|{' --- |' * (len(columns) + 1)}")
        for name, scores in found.items():
            less = np.zeros_like(scores) if name == BASELINE else scores - found[BASELINE]
            means = [np.nanmean(scores[:, place]) for place in range(len(self.sizes))]
            cells = [f"{value:.4f}" for value in (*means, np.mean(means[1:]))]
            print(f"| `{name}` | {' | '.join(cells)} |")
            if name != BASELINE:
                parts = [*less.swapaxes(0, 1), less[:, 1:].mean(axis=1)]
                estimates = [estimate(group_values(part, groups)) for part in parts]
                shown = [show_estimate(each.value, each.low, each.high, 4, "+") for each in estimates]
                print(f"| less `{BASELINE}` | {' | '.join(shown)} |")

    def _scores(self, strategy: str, seed: int) -> list[list[list[float]]] | None:
        files = [self.file(strategy, seed, size) for size in self.sizes]
        if not all(file.exists() for file in files):
            return None
        read = [json.loads(file.read_text(encoding="utf-8"))["dice"] for file in files]
        nan = math.nan
        return [[[nan if v is None else v for v in each[name]] for name in self.test] for each in read]


def _with_nan(values: dict[str, float | None] | None) -> dict[str, float] | None:
    if values is None:
        return None
    return {name: math.nan if value is None else value for name, value in values.items()}


def _spread(count: int, wanted: int) -> list[int]:
    """Evenly spread places, pairs of neighbors together, so that both phases of a patient are taken."""
    pairs = np.linspace(0, count // 2 - 1, min(wanted, count) // 2).round().astype(int).tolist()
    return [place for pair in pairs for place in (2 * pair, 2 * pair + 1)]


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    for name in ("dataset", "store", "out"):
        parser.add_argument(name, type=Path)
    parser.add_argument("--encoder", required=True)
    parser.add_argument("--weights", required=True)
    parser.add_argument(
        "--strategies", nargs="+", default=[BASELINE, *(name for name in STRATEGIES if name != BASELINE)]
    )
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    numbers = {"start": 4, "add": 4, "most": 24, "pool": 48, "test": 20, "steps": 60, "batch-size": 8, "image-size": 64}
    for name, value in {**numbers, "slice-step": 1}.items():
        parser.add_argument(f"--{name}", type=int, default=value)
    parser.add_argument("--table", action="store_true", help="only print what is finished")
    return parser.parse_args()


if __name__ == "__main__":
    main()
