"""TensorBoard, Weights & Biases and MLflow beside ``metrics.csv``: settings, curves, pictures and a final table."""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable
from importlib.util import find_spec
from typing import Any, Protocol, runtime_checkable

import numpy as np
import pytorch_lightning as lightning
from jaxtyping import UInt8

from inflate3d.atomic import write_text
from inflate3d.config import RunConfig
from inflate3d.errors import ConfigError
from inflate3d.run_folder import RunFolder
from inflate3d.training.task import ValidatedSlice

PROJECT = "inflate3d"
"""The project that runs are logged under."""
PICTURES = 4
"""Number of cases of which a slice is shown at each validation."""

COLORS = np.array([(230, 60, 50), (60, 160, 240), (70, 200, 90), (245, 190, 40), (180, 90, 220), (60, 210, 200)])
"""RGB colors of the classes, repeated for more."""


@runtime_checkable
class Board(Protocol):
    """Shows pictures and tables of a training; its logger takes the numbers."""

    logger: Any

    def show_picture(self, name: str, picture: UInt8[np.ndarray, "h w 3"], step: int) -> None: ...

    def show_table(self, name: str, columns: list[str], row: list[float]) -> None:
        """Shows a table with one row."""
        ...


def open_board(config: RunConfig, folder: RunFolder) -> Board | None:
    """The logger that a run asks for, with all settings logged, or None.

    Weights & Biases and MLflow read their own variables: ``WANDB_MODE=offline`` or ``disabled``, and
    ``MLFLOW_TRACKING_URI``; without that MLflow writes ``mlflow.db`` and ``mlflow-files`` into the run's folder. Both
    continue the same entry when a training is resumed.
    """
    name = config.training.logger
    if name == "none":
        return None
    if find_spec(name) is None:
        raise ConfigError(f"{name} is not installed", got=f"--logger {name}", hint=f"pip install 'inflate3d[{name}]'")
    board: Board = _BOARDS[name](folder)
    board.logger.log_hyperparams(_flat(config.model_dump(mode="json")))
    return board


class LogPictures(lightning.Callback):
    """Shows the slice with most foreground of a few validation cases: the scan, its labels, the prediction.

    At the end of the training it shows the last validation's Dice of each class.
    """

    def __init__(self, board: Board, class_names: tuple[str, ...]) -> None:
        self.board, self.class_names = board, class_names
        self._dice: list[float] = []
        self._shown: list[ValidatedSlice] = []

    def on_validation_batch_end(
        self, trainer: lightning.Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int, *_: Any, **__: Any
    ) -> None:
        if len(self._shown) < PICTURES:
            self._shown.append(outputs["slice"])

    def on_validation_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        shown, self._shown = self._shown, []
        if not trainer.is_global_zero:
            return
        for number, one in enumerate(shown):
            self.board.show_picture(f"validation/{number}", draw_slice(one), trainer.global_step)
        names = ["dice", *(f"dice/{name}" for name in self.class_names)]
        self._dice = [float(trainer.callback_metrics[name]) for name in names]

    def on_train_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Shows the final table."""
        if self._dice:
            self.board.show_table("last validation dice", ["mean", *self.class_names], self._dice)


def draw_slice(one: ValidatedSlice) -> UInt8[np.ndarray, "h three_w 3"]:
    """The slice, its labels and the prediction side by side, with classes as colored overlays."""
    gray = (255 * one.image.float().clamp(0, 1)).cpu().numpy()[..., None].repeat(3, axis=2)
    parts = [gray]
    for classes in (one.label.cpu().numpy(), one.predicted.cpu().numpy()):
        colors = COLORS[(classes - 1) % len(COLORS)]
        parts.append(np.where((classes > 0)[..., None], 0.5 * gray + 0.5 * colors, gray))
    return np.concatenate(parts, axis=1).astype(np.uint8)


class _TensorBoard:
    def __init__(self, folder: RunFolder) -> None:
        from pytorch_lightning.loggers import TensorBoardLogger

        self.logger = TensorBoardLogger(folder.root, name="", version="tensorboard")

    def show_picture(self, name: str, picture: UInt8[np.ndarray, "h w 3"], step: int) -> None:
        self.logger.experiment.add_image(name, picture, step, dataformats="HWC")

    def show_table(self, name: str, columns: list[str], row: list[float]) -> None:
        self.logger.experiment.add_text(name, _markdown(columns, row))


class _WeightsAndBiases:
    def __init__(self, folder: RunFolder) -> None:
        from pytorch_lightning.loggers import WandbLogger

        self.logger = WandbLogger(
            project=PROJECT, name=folder.root.name, save_dir=folder.root, id=_run_id(folder), resume="allow"
        )

    def show_picture(self, name: str, picture: UInt8[np.ndarray, "h w 3"], step: int) -> None:
        self.logger.log_image(name, [picture])

    def show_table(self, name: str, columns: list[str], row: list[float]) -> None:
        self.logger.log_table(name, columns=columns, data=[row])


class _MLflow:
    def __init__(self, folder: RunFolder) -> None:
        from pytorch_lightning.loggers import MLFlowLogger

        known = folder.root / "mlflow-id"
        own = folder.root.absolute()
        elsewhere = os.environ.get("MLFLOW_TRACKING_URI")
        self.logger = MLFlowLogger(
            experiment_name=PROJECT,
            run_name=folder.root.name,
            # MLflow 3.17 refuses a folder of files as a store.
            tracking_uri=elsewhere or f"sqlite:///{own / 'mlflow.db'}",
            artifact_location=None if elsewhere else (own / "mlflow-files").as_uri(),
            run_id=known.read_text(encoding="utf-8") if known.exists() else None,
        )
        write_text(known, str(self.logger.run_id))

    def show_picture(self, name: str, picture: UInt8[np.ndarray, "h w 3"], step: int) -> None:
        self.logger.experiment.log_image(self.logger.run_id, picture, f"{name}-{step}.png")

    def show_table(self, name: str, columns: list[str], row: list[float]) -> None:
        self.logger.experiment.log_text(self.logger.run_id, _markdown(columns, row), f"{name}.md")


_BOARDS: dict[str, Callable[[RunFolder], Any]] = {
    "tensorboard": _TensorBoard,
    "wandb": _WeightsAndBiases,
    "mlflow": _MLflow,
}


def _run_id(folder: RunFolder) -> str:
    """The run's id at Weights & Biases, under which a resumed training continues."""
    path = folder.root / "wandb-id"
    if not path.exists():
        write_text(path, secrets.token_hex(8))
    return path.read_text(encoding="utf-8")


def _markdown(columns: list[str], row: list[float]) -> str:
    lines = (columns, ["---"] * len(columns), [f"{value:.4f}" for value in row])
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines)


def _flat(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested settings as one level, named section.setting."""
    flat: dict[str, Any] = {}
    for name, value in values.items():
        flat |= _flat(value, f"{prefix}{name}.") if isinstance(value, dict) else {f"{prefix}{name}": value}
    return flat
