"""The training step and the validation step."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import pytorch_lightning as lightning
import torch
from jaxtyping import Float, Integer
from torch import Tensor

from inflate3d.config import RunConfig
from inflate3d.evaluation.metrics import CaseDice
from inflate3d.inference.predictor import Predictor
from inflate3d.models.segmenter import Segmenter
from inflate3d.models.volumetric import VolumetricSegmenter
from inflate3d.preparation.plan import Plan
from inflate3d.preparation.store import Store
from inflate3d.training.loss import make_loss
from inflate3d.training.optimization import make_optimizer, make_schedule
from inflate3d.windows.augment import augment_batch
from inflate3d.windows.datamodule import WindowBatch
from inflate3d.windows.resample import field_sides, normalize

Augment: TypeAlias = Callable[[Tensor, Tensor, torch.Generator], tuple[Tensor, Tensor]]
"""Changes images and labels of a training batch, see `inflate3d.train`."""


class ValidatedSlice(NamedTuple):
    """The slice with most foreground of a validated scan, on its own pixel grid.

    Attributes:
        image: Its first modality, intensities from 0 to 1, ``(h, w)``.
    """

    image: Float[Tensor, "h w"]
    label: Integer[Tensor, "h w"]
    predicted: Integer[Tensor, "h w"]


class SegmentationTask(lightning.LightningModule):
    """Trains an inflated network on windows, or a 3D network on patches.

    Args:
        store: The prepared cases, to read those that are validated on.
        augment: The user's own augmentation, after the built-in one.

    Attributes:
        after_slice: Called after each slice of a validation; an error that it raises ends the training.
    """

    def __init__(
        self,
        model: Segmenter | VolumetricSegmenter,
        config: RunConfig,
        plan: Plan,
        store: Store,
        watched: Sequence[str],
        augment: Augment | None = None,
    ) -> None:
        super().__init__()
        self.model, self.config, self.plan, self.augment = model, config, plan, augment
        self.planes = plan.plane_plans
        self.loss = make_loss(config.training, plan.members)
        self.store, self.rows = store, {case: row for row, case in enumerate(watched)}
        self.after_slice: Callable[[], object] = lambda: None
        self.case_dice = CaseDice(len(watched), len(plan.classes), plan.members)

    def training_step(self, batch: WindowBatch, batch_idx: int) -> Tensor:
        generator = self._seed(batch_idx)
        settings, size = self.config.augmentation, self.model.architecture.image_size
        fields, flips = self._fields(batch, size), [plane.flips for plane in self.planes]
        windows, labels = augment_batch(batch, fields, size, settings, flips, generator)
        if self.augment is not None:
            windows, labels = self.augment(windows, labels, generator)

        logits = slice_logits(self.model(windows).float())
        loss = self.loss(logits, labels)
        self.log("loss", loss, batch_size=len(windows))
        return loss

    def on_validation_epoch_start(self) -> None:
        """Prepares to predict scans with the defaults of `inflate3d predict`."""
        self.predictor = Predictor(self.model, device=str(self.device))

    def validation_step(self, case: str, batch_idx: int) -> dict[str, ValidatedSlice]:
        """Predicts a whole scan and counts overlaps on its own pixels; returns its slice with most foreground."""
        scan, labels = self.store.scan(case), torch.from_numpy(self.store.labels(case))
        most = int((labels > 0).sum((1, 2)).argmax())
        shown = torch.empty(0)
        with torch.autocast(self.device.type, enabled=False):  # the precision is the predictor's
            for index, (predicted, label) in enumerate(zip(self.predictor.classes(scan), labels, strict=True)):
                self.case_dice.update(self.rows[case], predicted, label.to(self.device))
                if index == most:
                    shown = predicted.cpu()
                self.after_slice()
        voxels = torch.from_numpy(scan.voxels[:1, [most]].astype(np.float32))
        image = normalize(voxels[None], torch.tensor([self.store.cases[case].ranges[:1]]))
        return {"slice": ValidatedSlice(image[0, 0, 0], labels[most].long(), shown.long())}

    def _fields(self, batch: WindowBatch, size: tuple[int, int]) -> Tensor:
        """Height and width in millimeters of what the model's input shows, ``(B, 2)``."""
        spacing = self.plan.pixel_spacing
        if not isinstance(self.model, VolumetricSegmenter):
            fields = torch.stack([field_sides(batch.sides, size, plane.pixel_spacing) for plane in self.planes])
            return fields[batch.axes, torch.arange(len(batch.axes))]
        pixels = batch.sides / batch.extents if spacing is None else batch.sides.new_tensor([spacing])
        return batch.sides.new_tensor([size]) * pixels.expand_as(batch.sides)

    def on_validation_epoch_end(self) -> None:
        """Logs each class's Dice in native space, averaged over the validation cases."""
        per_case = self.case_dice.compute()
        self.case_dice.reset()
        for number, name in enumerate(self.plan.class_names[1:], start=1):
            self.log(f"dice/{name}", float(torch.nanmean(per_case[:, number])), sync_dist=False)
        self.log("dice", float(torch.nanmean(torch.nanmean(per_case[:, 1:], dim=1))), sync_dist=False)

    def configure_optimizers(self) -> Any:
        optimizer = make_optimizer(self.model, self.config.training)
        schedule = make_schedule(optimizer, self.config.training)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def _seed(self, batch_idx: int) -> torch.Generator:
        """Makes all randomness of this step depend only on the seed and the step.

        A resumed training then does what the undisturbed one would have done; nothing has to be saved for it.
        """
        part = batch_idx % self.trainer.accumulate_grad_batches
        number = (self.global_step * self.trainer.accumulate_grad_batches + part) * self.trainer.world_size
        seeds = np.random.SeedSequence((self.config.training.seed, number + self.global_rank))
        seed = int(seeds.generate_state(1, np.uint64)[0] >> 1)
        torch.manual_seed(seed)  # dropout and stochastic depth
        return torch.Generator(self.device).manual_seed(seed)


def slice_logits(logits: Float[Tensor, "b k *s h w"]) -> Float[Tensor, "b k _ h w"]:
    """Adds an axis of slices to a window's logits, which those of patches have."""
    return logits if logits.ndim == 5 else logits[:, :, None]
