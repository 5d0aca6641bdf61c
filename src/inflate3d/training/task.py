"""What a training step and a validation step do."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import pytorch_lightning as lightning
import torch
from jaxtyping import Float, Integer
from torch import Tensor

from inflate3d.config import RunConfig
from inflate3d.evaluation.metrics import CaseDice, mean_over_defined
from inflate3d.models.segmenter import Segmenter
from inflate3d.models.volumetric import VolumetricSegmenter
from inflate3d.preparation.plan import Plan
from inflate3d.training.loss import make_loss
from inflate3d.training.optimization import make_optimizer, make_schedule
from inflate3d.windows.augment import augment_batch
from inflate3d.windows.datamodule import WindowBatch
from inflate3d.windows.patches import PlaneGrid, plane_grid
from inflate3d.windows.resample import (
    field_matrices,
    field_sides,
    normalize,
    resample_logits,
    resample_windows,
)
from inflate3d.windows.sliding import plane_sides, volume_logits
from inflate3d.windows.windows import center_logits

Augment: TypeAlias = Callable[[Tensor, Tensor, torch.Generator], tuple[Tensor, Tensor]]
"""Changes images and labels of a training batch, see `inflate3d.train`."""


class ValidatedSlice(NamedTuple):
    """A slice that was predicted in a validation, on its own pixel grid.

    Attributes:
        case: Number of its case among those of the store.
        image: Its first modality, intensities from 0 to 1, ``(h, w)``.
        label: Class numbers.
        predicted: The same.
    """

    case: int
    image: Float[Tensor, "h w"]
    label: Integer[Tensor, "h w"]
    predicted: Integer[Tensor, "h w"]


class SegmentationTask(lightning.LightningModule):
    """Trains an inflated network on windows, or a 3D network on patches.

    Args:
        model: The network.
        config: The run's configuration.
        plan: How its scans became samples.
        cases: All ids of the store in order; a batch names its cases by their numbers in it.
        watched: Ids of the cases that are validated on.
        augment: The user's own augmentation, after the built-in one.
    """

    def __init__(
        self,
        model: Segmenter | VolumetricSegmenter,
        config: RunConfig,
        plan: Plan,
        cases: Sequence[str],
        watched: Sequence[str],
        augment: Augment | None = None,
    ) -> None:
        super().__init__()
        self.model, self.config, self.plan, self.augment = model, config, plan, augment
        self.loss = make_loss(config.training)
        self.rows = {cases.index(case): row for row, case in enumerate(watched)}
        self.case_dice = CaseDice(len(watched), len(plan.classes))

    def training_step(self, batch: WindowBatch, batch_idx: int) -> Tensor:
        """Normalize, augment and resize the samples, predict, compare."""
        generator = self._seed(batch_idx)
        settings, size = self.config.augmentation, self.model.architecture.image_size
        fields = self._fields(batch, size)
        windows, labels = augment_batch(batch, fields, size, settings, self.plan.flips, generator)
        if self.augment is not None:
            windows, labels = self.augment(windows, labels, generator)

        logits = slice_logits(self.model(windows).float())
        loss = self.loss(logits, labels)
        self.log("loss", loss, batch_size=len(windows))
        return loss

    def validation_step(self, batch: WindowBatch, batch_idx: int) -> dict[str, list[ValidatedSlice]]:
        """Predict every slice on its own pixel grid and count overlaps by case."""
        if isinstance(self.model, VolumetricSegmenter):
            slices = self._predict_scan(self.model, batch)
        else:
            slices = self._predict_windows(self.model, batch)
        for one in slices:
            self.case_dice.update(self.rows[one.case], one.predicted, one.label)
        return {"slices": slices}

    def _predict_windows(self, model: Segmenter, batch: WindowBatch) -> list[ValidatedSlice]:
        size = model.architecture.image_size
        fields = field_sides(batch.sides, size, self.plan.pixel_spacing)
        windows = normalize(batch.windows, batch.ranges)
        center = windows.shape[2] // 2
        resampled = resample_windows(windows, field_matrices(batch.sides, fields), size, batch.extents)
        logits = center_logits(model(resampled).float())
        slices = []
        for row, (height, width) in enumerate(batch.extents.long().tolist()):
            one = slice(row, row + 1)
            own = resample_logits(logits[one], (height, width), batch.sides[one], fields[one])
            image, label = (array[:height, :width] for array in (windows[row, 0, center], batch.labels[row, 0]))
            slices.append(ValidatedSlice(int(batch.cases[row]), image, label, own.argmax(1)[0]))
        return slices

    def _predict_scan(self, model: VolumetricSegmenter, batch: WindowBatch) -> list[ValidatedSlice]:
        """One whole scan, as it is predicted later."""
        grid = self._plane_grid(batch)
        logits = volume_logits(
            model,
            batch.windows[0],
            batch.ranges[0],
            batch.sides,
            grid,
            patch_size=model.architecture.patch_size,
            device=self.device,
            batch_size=self.config.training.batch_size,
        )
        (rows, columns), fields, case = batch.labels.shape[2:], plane_sides(grid), int(batch.cases[0])
        images = normalize(batch.windows[:, :1], batch.ranges[:, :1])[0, 0]
        slices = []
        for index, (image, label) in enumerate(zip(images, batch.labels[0], strict=True)):
            own = resample_logits(logits[None, :, index], (rows, columns), batch.sides.cpu(), fields)
            slices.append(ValidatedSlice(case, image, label, own.argmax(1)[0].to(label.device)))
        return slices

    def _fields(self, batch: WindowBatch, size: tuple[int, int]) -> Tensor:
        """Height and width in millimeters of what the model's input shows, ``(B, 2)``."""
        spacing = self.plan.pixel_spacing
        if not isinstance(self.model, VolumetricSegmenter):
            return field_sides(batch.sides, size, spacing)
        pixels = batch.sides / batch.extents if spacing is None else batch.sides.new_tensor([spacing])
        return batch.sides.new_tensor([size]) * pixels.expand_as(batch.sides)

    def _plane_grid(self, batch: WindowBatch) -> PlaneGrid:
        rows, columns = batch.labels.shape[2:]
        height, width = batch.sides[0].tolist()
        return plane_grid((rows, columns), (height / rows, width / columns), self.plan.pixel_spacing)

    def on_validation_epoch_end(self) -> None:
        """Mean over the watched cases of each class's Dice in native space."""
        per_case = self.case_dice.compute()
        self.case_dice.reset()
        for number, name in enumerate(self.plan.class_names[1:], start=1):
            self.log(f"dice/{name}", mean_over_defined(per_case[:, number]), sync_dist=False)
        self.log("dice", mean_over_defined(torch.nanmean(per_case[:, 1:], dim=1)), sync_dist=False)

    def configure_optimizers(self) -> Any:
        """AdamW, its learning rate set anew at each step."""
        optimizer = make_optimizer(self.model, self.config.training)
        schedule = make_schedule(optimizer, self.config.training)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def _seed(self, batch_idx: int) -> torch.Generator:
        """Makes all that is random in this step depend on the seed and the step alone.

        A resumed training then does what the undisturbed one would have done; nothing has to be saved for it.
        """
        part = batch_idx % self.trainer.accumulate_grad_batches
        number = (self.global_step * self.trainer.accumulate_grad_batches + part) * self.trainer.world_size
        seeds = np.random.SeedSequence((self.config.training.seed, number + self.global_rank))
        seed = int(seeds.generate_state(1, np.uint64)[0] >> 1)
        torch.manual_seed(seed)  # dropout and stochastic depth
        return torch.Generator(self.device).manual_seed(seed)


def slice_logits(logits: Float[Tensor, "b k *s h w"]) -> Float[Tensor, "b k _ h w"]:
    """Gives logits of one slice for each window an axis of slices, as those of patches have."""
    return logits if logits.ndim == 5 else logits[:, :, None]
