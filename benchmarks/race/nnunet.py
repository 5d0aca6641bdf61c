"""Trains nnU-Net for a given process time and predicts the held-out cases: the program of a `command:` arm.

It runs in an environment of its own that has nnunetv2 2.8.1 (see README.md here). Networks, plans, augmentation, loss
and sampling are nnU-Net's. What differs from its own command: the schedule ends at the budget, all training cases are
trained on, nothing is validated meanwhile, and predictions are not averaged over mirror images.
"""

from __future__ import annotations

import argparse
import copy
import json
import os
import random
import re
import sys
import time
from pathlib import Path
from typing import Any

PLANS = "nnUNetPlans"
WARM_UP, TIMED, FEWEST_TIMED = 2, 20, 3
SAFETY = 0.97
RATES = {"sgd": 1e-2, "adamw": 1e-3}


def main() -> None:
    options = _options()
    cores = sorted(os.sched_getaffinity(0))[-options.threads :]
    os.sched_setaffinity(0, cores)  # nnU-Net's own command would start a thread for every core of the machine
    work = options.out.parent / "nnunet"
    places = {"raw": options.data.parent, "preprocessed": work / "preprocessed", "results": work / "results"}
    os.environ.update({f"nnUNet_{name}": str(folder) for name, folder in places.items()})
    configuration = plan(options, work)
    # Only now: the planner does not accept 0.
    os.environ["nnUNet_n_proc_DA"] = "0"  # noqa: SIM112
    seconds_per_step = time_steps(make_trainer(options, configuration, work), options.seconds)
    steps = max(1, int(SAFETY * options.seconds / seconds_per_step))
    print(f"{seconds_per_step:.3f} s a step: {steps} steps in {options.seconds:g} s", flush=True)
    trainer = make_trainer(options, configuration, work, steps)
    seconds = train(trainer, steps)
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "training.json").write_text(json.dumps({"seconds": seconds, "steps": steps}), encoding="utf-8")
    predict(trainer, options)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path, help="a folder DatasetNNN_NAME of nnU-Net's raw data")
    parser.add_argument("out", type=Path, help="where a label map for each scan of imagesTs goes")
    parser.add_argument("--seconds", type=float, required=True, help="process time of the training")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--configuration", default="3d_fullres", choices=["2d", "3d_fullres"])
    parser.add_argument("--optimizer", default="adamw", choices=list(RATES))
    parser.add_argument("--batch-size", type=int, help="the plan's if not given")
    return parser.parse_args()


def plan(options: argparse.Namespace, work: Path) -> dict[str, Any]:
    """Plans and preprocesses as `nnUNetv2_plan_and_preprocess -np 1`; gives the plans with our batch size."""
    from nnunetv2.experiment_planning.plan_and_preprocess_api import extract_fingerprints, plan_experiments, preprocess

    number = int(re.fullmatch(r"Dataset(\d{3})_.*", options.data.name)[1])  # type: ignore[index]
    extract_fingerprints([number], num_processes=1)
    plan_experiments([number])
    preprocess([number], PLANS, [options.configuration], [1])
    plans = json.loads((work / "preprocessed" / options.data.name / f"{PLANS}.json").read_text(encoding="utf-8"))
    chosen = plans["configurations"][options.configuration]
    print(f"planned: batch size {chosen['batch_size']}, patch {chosen['patch_size']}", flush=True)
    if options.batch_size:
        chosen["batch_size"] = options.batch_size
    return plans


def make_trainer(options: argparse.Namespace, plans: dict[str, Any], work: Path, steps: int = 1000) -> Any:
    """nnU-Net's trainer with its data, before its first step; an epoch is a step, so that the rate falls smoothly."""
    import numpy
    import torch
    from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

    class Trainer(nnUNetTrainer):
        def configure_optimizers(self) -> Any:
            from nnunetv2.training.lr_scheduler.polylr import PolyLRScheduler

            if options.optimizer == "sgd":
                return super().configure_optimizers()
            weights = self.network.parameters()
            optimizer = torch.optim.AdamW(weights, lr=self.initial_lr, weight_decay=self.weight_decay)
            return optimizer, PolyLRScheduler(optimizer, self.initial_lr, self.num_epochs)

    torch.set_num_threads(options.threads)
    for seed in (random.seed, numpy.random.seed, torch.manual_seed):
        seed(options.seed)
    listing = json.loads((options.data / "dataset.json").read_text(encoding="utf-8"))
    own_plans = copy.deepcopy(plans) | {"continue_training": False}
    trainer = Trainer(own_plans, options.configuration, "all", listing, device=torch.device("cpu"))  # type: ignore[arg-type]
    trainer.initial_lr, trainer.num_epochs = RATES[options.optimizer], steps
    trainer.initialize()
    trainer.dataloader_train, trainer.dataloader_val = trainer.get_dataloaders()
    trainer.set_deep_supervision_enabled(True)
    trainer.network.train()
    return trainer


def time_steps(trainer: Any, budget: float) -> float:
    """Process seconds of a training step: the mean of 20, or of fewer where these would take half the budget."""
    started = marks = None
    for step in range(WARM_UP + TIMED):
        if step == WARM_UP:
            started = time.process_time()
        trainer.train_step(next(trainer.dataloader_train))
        if started is not None:
            marks = (time.process_time() - started, step + 1 - WARM_UP)
            if marks[0] > budget / 2 and marks[1] >= FEWEST_TIMED:
                break
    assert marks is not None
    return marks[0] / marks[1]


def train(trainer: Any, steps: int) -> float:
    """Trains; gives the process seconds that it took."""
    started = time.process_time()
    for step in range(steps):
        trainer.lr_scheduler.step(step)
        loss = trainer.train_step(next(trainer.dataloader_train))["loss"]
        if step % max(1, steps // 20) == 0:
            print(f"step {step}/{steps}: loss {float(loss):.3f}", flush=True)
    return time.process_time() - started


def predict(trainer: Any, options: argparse.Namespace) -> None:
    """Writes the label map of each scan of imagesTs."""
    from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor

    trainer.set_deep_supervision_enabled(False)
    trainer.network.eval()
    predictor = nnUNetPredictor(use_mirroring=False, perform_everything_on_device=False, device=trainer.device)
    managers = (trainer.plans_manager, trainer.configuration_manager)
    weights = [trainer.network.state_dict()]
    predictor.manual_initialization(trainer.network, *managers, weights, trainer.dataset_json, "nnUNetTrainer", None)
    scans: dict[str, list[str]] = {}
    for scan in sorted((options.data / "imagesTs").iterdir()):
        case = re.sub(r"_\d{4}(\.nii\.gz)$", "", scan.name)
        scans.setdefault(case, []).append(str(scan))
    predictor.predict_from_files_sequential(list(scans.values()), [str(options.out / case) for case in scans])


if __name__ == "__main__":
    sys.exit(main())
