"""Settings of the data, the augmentation and the optimization."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

import tyro
from pydantic import Field

from inflate3d.config.model import InflatedConfig, VolumetricConfig
from inflate3d.settings import FrozenModel, Planned, planned

Precision = Literal["32", "bf16-mixed", "16-mixed"]
LoggerName = Literal["none", "tensorboard", "wandb", "mlflow"]
Schedule = Literal["full", "adaptive"]
Runtime = Literal["torch", "onnxruntime", "openvino", "auto"]
TrainingPrecision = Literal["auto", "32", "bf16-mixed", "16-mixed"]

Seed = Annotated[int, Field(ge=0, lt=2**32)]
"""The range that numpy accepts."""

PRETRAINED_STEM_FACTOR = 0.032
"""For encoders that start from 2D weights: `docs/results.md` has what flat learning rates cost."""

PATCH_BATCH = 2
"""Default number of 3D patches in a batch, as in nnU-Net: a patch is as large as many windows."""

RATES = {"inflated": 1e-3, "dynunet": 1e-3, "segresnet": 3e-4, "swin-unetr": 2e-4, "unetr": 1e-4}
"""Default peak learning rates, of an inflated network's decoder or of a 3D network; transformers take lower ones."""

ENCODER_SETTINGS = ("encoder_learning_rate", "stem_rate_factor", "freeze", "freeze_layers", "checkpoint_activations")
"""Training settings of a pre-trained encoder, which 3D networks don't have."""


class TrainingDefaults(FrozenModel):
    """Training settings that the plan chose for a dataset."""

    depth: int = 5
    """Slices in a window."""
    batch_size: int = 16
    """Windows in a batch."""
    accumulate: int = 1
    """Batches whose gradients are added up for one step."""
    foreground_fraction: float = 0.5
    """Fraction of the windows that are sampled by class."""
    steps: int = 2000
    """Optimizer steps."""


class DataConfig(FrozenModel):
    """The training data: split, fold, and number of cases.

    Examples:
        >>> DataConfig(fold=2, training_cases=20).num_folds
        5
    """

    common: ClassVar = ("split", "fold", "training_cases")

    split: str = "auto"
    """Split: folds, own (the dataset's), paper, or a JSON file. auto: own if there is one, otherwise folds."""
    fold: int = Field(default=0, ge=0)
    """The fold to hold out for validation."""
    num_folds: int = Field(default=5, ge=2)
    """Number of folds."""
    split_seed: Seed = 12345
    """Seed of the split; the default gives nnU-Net's folds."""
    training_cases: int | None = Field(default=None, ge=1)
    """Use at most N training cases, drawn at random; held-out cases stay the same."""
    training_cases_seed: Seed = 0
    """Seed of that draw; smaller sets are subsets of larger ones."""


class AugmentationConfig(FrozenModel):
    """Random augmentation of training windows; spatial changes are in-plane and the same for all slices of a window.

    Examples:
        >>> AugmentationConfig(max_rotation=0, max_zoom=1).max_shift
        0.1
    """

    common: ClassVar = ()

    augment_probability: float = Field(default=0.8, ge=0, le=1)
    """Probability that a window's geometry is augmented."""
    max_zoom: float = Field(default=1.4, ge=1)
    """Zoom between 1 / max_zoom and max_zoom."""
    max_rotation: float = Field(default=20.0, ge=0, le=180)
    """Maximum in-plane rotation in degrees, in either direction."""
    max_shift: float = Field(default=0.1, ge=0, le=1)
    """Maximum in-plane shift as a fraction of the slice's size, in either direction."""
    flip_probability: float = Field(default=0.2, ge=0, le=1)
    """Probability of a flip along each axis on which the plan allows it."""
    intensity_probability: float = Field(default=0.5, ge=0, le=1)
    """Probability of each of the intensity changes below."""
    max_intensity_scale: float = Field(default=0.25, ge=0, lt=1)
    """Intensities are multiplied by 1 - x to 1 + x."""
    max_intensity_shift: float = Field(default=0.1, ge=0)
    """Maximum shift of intensities, which range from 0 to 1, in either direction."""
    max_noise: float = Field(default=0.05, ge=0)
    """Largest standard deviation of the Gaussian noise."""
    max_gamma: float = Field(default=1.5, ge=1)
    """Exponent between 1 / max_gamma and max_gamma."""


class TrainingConfig(FrozenModel):
    """The optimization: steps, batches, learning rates, loss, device.

    Examples:
        >>> training = TrainingConfig(steps=500, precision="bf16-mixed")
        >>> training.seed, training.batch_size is None  # None: left to the dataset's plan
        (0, True)
    """

    common: ClassVar = ("steps", "batch_size", "learning_rate", "precision", "seed", "devices")

    steps: Planned[int] = planned(ge=1, le=10**9)
    """Optimizer steps. None: the plan's."""
    batch_size: Planned[int] = planned(ge=2, le=10**6)
    """Windows in a batch, per device. None: what fits the memory, by the plan."""
    accumulate: Planned[int] = planned(ge=1, le=10**6)
    """Batches whose gradients are added up for one step. None: 1 with --batch-size, else the plan's."""
    foreground_fraction: Planned[float] = planned(ge=0, le=1)
    """Fraction of windows whose center slice is sampled to contain a class. None: the plan's."""
    learning_rate: Planned[float] = planned(gt=0)
    """Peak learning rate of the decoder, or of a 3D network. None: 0.001, or the 3D network's own."""
    encoder_learning_rate: float = Field(default=1e-4, gt=0)
    """Peak learning rate of the encoder's last layer."""
    stem_rate_factor: Planned[float] = planned(gt=0, le=1)
    """Learning rate of the encoder's first layer relative to its last one. None: 0.032 if pre-trained, otherwise 1."""
    freeze: Literal["none", "encoder", "body"] = "none"
    """Part of the pre-trained encoder to freeze: none, all of it, or all but its first convolution (body)."""
    freeze_layers: int = Field(default=0, ge=0)
    """Number of first encoder layers to freeze, stem included; saves time and memory."""
    beta2: float = Field(default=0.999, gt=0, lt=1)
    """AdamW's beta2; for runs of a few hundred steps a smaller value, such as 0.98, may be better."""
    weight_decay: float = Field(default=0.05, ge=0)
    """AdamW's weight decay; norms, biases and embeddings have none."""
    warmup_steps: Planned[int] = planned(ge=0)
    """Steps of linear warm-up, at most a tenth of all. None: 20; for 3D networks a twentieth of all."""
    decay: Literal["linear", "cosine"] = "cosine"
    """How the learning rate decays to zero after the warm-up."""
    loss: Literal["dice-ce", "dice-focal", "ce"] = "dice-ce"
    """The loss: soft Dice plus cross-entropy, Dice plus focal (MONAI's), or cross-entropy alone."""
    gradient_clip: float = Field(default=1.0, ge=0)
    """Largest norm of the gradient; 0 is no limit."""
    precision: TrainingPrecision = "auto"
    """Number format; auto: bf16-mixed if the device is faster in it (3D networks on a CPU: 32)."""
    compile: bool = False
    """Compile the network with torch.compile: the first steps take minutes, the others may be faster."""
    checkpoint_activations: bool = False
    """Recompute the encoder's activations instead of keeping them: less memory, more time."""
    validate_every: int | None = Field(default=None, ge=1)
    """Steps between validations; the last step is always validated. None: a fifth of all."""
    validation_cases: int | None = Field(default=20, ge=1)
    """Validate on at most N held-out cases while training (evaluation uses all)."""
    keep: Literal["last", "best"] = "last"
    """Weights to keep: the last ones, or those of the best validation (needs a split with test cases)."""
    seed: Seed = 0
    """Seed of weights, windows and augmentation."""
    deterministic: bool = False
    """On a GPU, compute deterministically, so that the same seed gives the same bits, but slower; CPUs always do."""
    accelerator: Literal["auto", "cpu", "gpu", "mps"] = "auto"
    """Device to train on."""
    devices: int = Field(default=1, ge=1)
    """Number of devices per node; each processes its own batch."""
    nodes: int = Field(default=1, ge=1)
    """Machines that train together; more than one needs torchrun or srun (docs/cluster.md)."""
    logger: LoggerName = "none"
    """Experiment tracker for settings, curves and pictures; needs an extra, such as inflate3d[wandb]."""
    workers: int | None = Field(default=None, ge=0)
    """Loader processes per device. None: 0 on a CPU, up to 8 per GPU."""
    extended_from: Annotated[int, tyro.conf.Suppress] = Field(default=0, ge=0)
    """Steps of the finished training that this one extends: the learning-rate schedule restarts there."""

    def resolve(self, defaults: TrainingDefaults, model: InflatedConfig | VolumetricConfig) -> TrainingConfig:
        """Replaces each None by the plan's or the network's choice."""
        inflated = isinstance(model, InflatedConfig)
        steps = defaults.steps if self.steps is None else self.steps
        values: dict[str, Any] = {
            "steps": steps,
            "learning_rate": RATES[model.network],
            "warmup_steps": 20 if inflated else steps // 20,
            "batch_size": _slices_in_batch(defaults.batch_size, model) if inflated else PATCH_BATCH,
            "accumulate": defaults.accumulate if inflated and self.batch_size is None else 1,
            "foreground_fraction": defaults.foreground_fraction,
            "stem_rate_factor": PRETRAINED_STEM_FACTOR if model.pretrained else 1.0,
        }
        return self.model_copy(update={name: value for name, value in values.items() if getattr(self, name) is None})


def _slices_in_batch(most: int, model: InflatedConfig) -> int:
    """The plan's batch size; with depth mixing as many whole slabs as it has room for."""
    return most if model.depth_mixing == "none" else max(1, most // model.slab) * model.slab
