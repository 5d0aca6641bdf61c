"""Weights and arithmetic in 8 bits, calibrated on training cases and accepted by the Dice of the held-out ones."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import nn

from inflate3d.config import RunConfig
from inflate3d.datasets.splits import Split
from inflate3d.errors import ModelError
from inflate3d.evaluation.metrics import CaseDice
from inflate3d.export.description import Int8Check
from inflate3d.export.files import onnx_bytes
from inflate3d.export.runtimes import OpenVino, without_statistics
from inflate3d.inference.networks import WindowScorer
from inflate3d.inference.predictor import Predictor
from inflate3d.inference.runtime import ForeignSegmenter
from inflate3d.inference.scan import FramedScan
from inflate3d.models.segmenter import Segmenter
from inflate3d.preparation.store import Store
from inflate3d.progress import Progress, silent
from inflate3d.run_folder import RunFolder

MOST_LOST = 0.002
"""Mean Dice of the held-out cases that 8 bits may cost."""

CALIBRATION_WINDOWS = 128


def quantize(model: Segmenter, run: RunFolder, file: Path, *, progress: Progress = silent) -> Int8Check:
    """Writes the network in 8 bits as OpenVINO's files.

    Args:
        model: The run's network, on the CPU, in eval mode.
        run: The run; its store is where its configuration says.
        file: The ``.xml`` file.
        progress: Shows the progress.

    Raises:
        ModelError: The mean Dice of the held-out cases falls by `MOST_LOST` or more, or there are none.
        DataError: The store can't be read.
    """
    with without_statistics():
        import openvino

    store, split = Store(RunConfig.read(run.config).store), Split.read(run.split)
    if not split.held_out:
        raise ModelError("8-bit export is checked by the Dice of held-out cases, and the run has none", file=run.split)
    openvino.save_model(_quantized(model, store, split.train), str(file), compress_to_fp16=False)
    before, after = (
        _mean_dice(network, store, split.held_out, progress, words)
        for network, words in ((model, "scoring in 32 bits"), (ForeignSegmenter(model, OpenVino(file)), "in 8 bits"))
    )
    if not before - after < MOST_LOST:
        raise ModelError(
            "the network loses too much accuracy in 8 bits",
            expected=f"less than {MOST_LOST:g} of the mean Dice of {len(split.held_out)} held-out cases",
            got=f"{before - after:.4f}, from {before:.4f} to {after:.4f}",
            hint="export without --int8",
            file=run.root,
        )
    return Int8Check(cases=len(split.held_out), dice_float32=before, dice_int8=after)


def _quantized(model: Segmenter, store: Store, cases: Sequence[str]) -> Any:
    """The network in 8 bits by NNCF's post-training quantization."""
    with without_statistics():
        import nncf
        import openvino

    network = openvino.Core().read_model(onnx_bytes(model))
    windows = list(_calibration_windows(model, store, cases))
    is_transformer = any(isinstance(module, nn.LayerNorm) for module in model.encoder.modules())
    return nncf.quantize(
        network,
        nncf.Dataset(windows),
        subset_size=len(windows),
        model_type=nncf.ModelType.TRANSFORMER if is_transformer else None,
    )


def _calibration_windows(
    model: Segmenter, store: Store, cases: Sequence[str]
) -> Iterator[Float[np.ndarray, "1 c d h w"]]:
    """Evenly spread windows of evenly spread cases, along each plane."""
    assert model.plan is not None
    scorer = WindowScorer(model, model.plan.plane_plans[0])
    chosen = [cases[number] for number in _spread(len(cases), CALIBRATION_WINDOWS)]
    each = -(-CALIBRATION_WINDOWS // len(chosen))
    for case in chosen:
        scan = FramedScan.of(store.scan(case), torch.device("cpu"))
        for center in _spread(scan.slices, each):
            yield scorer.windows(scan, np.array([center])).numpy()


def _spread(count: int, most: int) -> list[int]:
    """At most ``most`` of the numbers below ``count``, evenly spread."""
    return np.unique(np.linspace(0, count - 1, most).round().astype(int)).tolist()


def _mean_dice(network: Segmenter, store: Store, cases: Sequence[str], progress: Progress, words: str) -> float:
    predictor = Predictor(network, device="cpu")
    dice = CaseDice(len(cases), len(predictor.plan.classes), predictor.plan.members)
    for row, case in enumerate(progress(iter(cases), len(cases), words)):
        labels = torch.from_numpy(store.labels(case))
        for predicted, label in zip(predictor.classes(store.scan(case)), labels, strict=True):
            dice.update(row, predicted, label)
    return float(torch.nanmean(torch.nanmean(dice.compute()[:, 1:], dim=1)))
