"""Everything that a run decides, as frozen data: typed, checked, saved beside what it made.

The command line reads these models as flags, a run's folder keeps them as ``config.yaml``.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import tyro
import yaml
from pydantic import AfterValidator, Field

from inflate3d.atomic import write_text
from inflate3d.errors import ConfigError
from inflate3d.paper_encoders import resolved_weights
from inflate3d.settings import FrozenModel, parse_settings, read_yaml

Inflation = Literal["center", "average", "random"]
Target = Literal["center", "all"]
LoggerName = Literal["none", "tensorboard", "wandb", "mlflow"]
DecoderName = Literal["fpn-lite", "upernet", "setr-pup", "conv-transpose", "unetr"]
Precision = Literal["32", "bf16-mixed", "16-mixed"]
Network = Literal["inflated", "unetr", "swin-unetr", "segresnet", "dynunet"]

Seed = Annotated[int, Field(ge=0, lt=2**32)]
"""What numpy takes."""

PRETRAINED_LAYER_DECAY = 0.75
"""For encoders that start from 2D weights: `docs/results.md` has what flat learning rates cost."""

PATCH_BATCH = 2
"""3D patches in a batch if the user does not say, as nnU-Net has it."""


class Proposals(FrozenModel):
    """What a dataset's plan proposes for its training, taken where the user does not say."""

    depth: int = 5
    """Slices in a window."""
    batch_size: int = 16
    """Windows in a batch."""
    accumulate: int = 1
    """Batches whose gradients are added up for one step."""
    foreground_fraction: float = 0.5
    """Part of the windows that are drawn by class."""
    steps: int = 2000
    """Optimizer steps."""

    def for_network(self, network: Network) -> Proposals:
        """These for windows; for a 3D network smaller batches, since a patch is as large as many windows."""
        if network == "inflated":
            return self
        return self.model_copy(update={"batch_size": PATCH_BATCH, "accumulate": 1})


class DataConfig(FrozenModel):
    """What to train on."""

    split: str = "auto"
    """Who is held out: folds, own (the dataset's), paper, or a JSON file; own where there is one, else folds."""
    fold: int = Field(default=0, ge=0)
    """Which of the folds is held out for validation."""
    folds: Annotated[int, tyro.conf.arg(name="split-folds")] = Field(default=5, ge=2)
    """How many folds the cases are split into."""
    split_seed: Seed = 12345
    """Seed of the split; the default gives nnU-Net's folds."""
    training_cases: int | None = Field(default=None, ge=1)
    """Learn from so many of the training cases only, drawn at random; who is held out stays as it is."""
    training_cases_seed: Seed = 0
    """Seed of that draw; a smaller number's cases are among a larger number's."""


class _ModelSettings(FrozenModel):
    """What a user and a run say of the network alike."""

    network: Network = "inflated"
    """The kind of network: an inflated 2D backbone, or a 3D one to compare with, of MONAI's (dynunet is nnU-Net's)."""
    patch_size: tuple[int, int, int] | None = None
    """Patch of a 3D network in voxels (slices, rows, columns); from the median scan if not given."""
    network_width: int | None = Field(default=None, ge=1)
    """Channels of a 3D network's first level; its authors' choice if not given."""
    encoder: str = "vit_small_patch16_224"
    """The 2D backbone, by its timm name; `inflate3d encoders` lists them."""
    weights: str = "timm"
    """Where its 2D weights come from: timm (its hub), none (random), or a file."""
    inflation: Inflation = "center"
    """How the first convolution is spread over the window's slices; random starts it anew, all else pre-trained."""
    target: Target = "center"
    """Which slices of a window are learned: the center one, or all; the center one is what is predicted."""
    image_size: tuple[int, int] | None = None
    """In-plane size in pixels (rows, columns) that slices are resized to; the plan's if not given."""
    decoder: DecoderName = "fpn-lite"
    """What turns feature maps into a label map: fpn-lite (light, for small structures too) or one of the paper's."""
    decoder_channels: int | None = Field(default=None, ge=8)
    """Width of the decoder; 128, or the paper's width for upernet, setr-pup and conv-transpose, if not given."""
    detail_channels: int | None = Field(default=None, ge=0)
    """Width of the full-resolution path that brings small structures back, 0 for none; fpn-lite has 16, others none."""
    input_scaling: Literal["pretrained", "unit"] = "pretrained"
    """Intensities as the 2D weights were trained on, or 0 to 1 as in the paper."""


def _odd(depth: int) -> int:
    if depth % 2 == 0:
        raise ValueError(f"must be odd, so that a window has a center slice; try {depth - 1} or {depth + 1}")
    return depth


Depth = Annotated[int, Field(ge=1), AfterValidator(_odd)]


class ModelConfig(_ModelSettings):
    """The network."""

    depth: Depth = Proposals().depth
    """Slices in a window; odd. 1 is the plain 2D network."""
    stride: int | None = Field(default=None, ge=1)
    """Steps from one slice of a window to the next; the plan's if not given."""

    @property
    def resolved_weights(self) -> str:
        """Where the 2D weights come from, see `inflate3d.paper_encoders.resolved_weights`."""
        return resolved_weights(self.encoder, self.weights)

    @property
    def pretrained(self) -> bool:
        """Whether there is an encoder that starts from 2D weights."""
        return self.network == "inflated" and self.resolved_weights != "none"


class ModelOptions(_ModelSettings):
    """The network, as a user asks for it."""

    depth: Depth | None = None
    """Slices in a window; odd, 1 is the plain 2D network; the plan's, mostly 5, if not given."""

    def decided(self, proposals: Proposals) -> ModelConfig:
        """With the plan's choice where the user does not say."""
        return ModelConfig(**_filled(self, proposals))


class AugmentationConfig(FrozenModel):
    """Random changes of the training windows; geometry acts in plane, alike on all slices of a window."""

    augment_probability: float = Field(default=0.8, ge=0, le=1)
    """How often a window's geometry is changed at all."""
    max_zoom: float = Field(default=1.4, ge=1)
    """Zoom between 1 / max_zoom and max_zoom."""
    max_rotation: float = Field(default=20.0, ge=0, le=180)
    """In-plane rotation in degrees, either way."""
    max_shift: float = Field(default=0.1, ge=0, le=1)
    """In-plane shift as a part of the slice's size, either way."""
    flip_probability: float = Field(default=0.2, ge=0, le=1)
    """How often a window is mirrored along each axis on which the plan allows it."""
    intensity_probability: float = Field(default=0.5, ge=0, le=1)
    """How often each of the intensity changes below acts."""
    max_intensity_scale: float = Field(default=0.25, ge=0, lt=1)
    """Intensities are multiplied by 1 - x to 1 + x."""
    max_intensity_shift: float = Field(default=0.1, ge=0)
    """Added to intensities that run from 0 to 1, either way."""
    max_noise: float = Field(default=0.05, ge=0)
    """Largest standard deviation of the Gaussian noise."""
    max_gamma: float = Field(default=1.5, ge=1)
    """Exponent between 1 / max_gamma and max_gamma."""


class _TrainingSettings(FrozenModel):
    """What a user and a run say of the training alike."""

    learning_rate: float = Field(default=1e-3, gt=0)
    """Peak learning rate of the decoder."""
    encoder_learning_rate: float = Field(default=1e-4, gt=0)
    """Peak learning rate of the encoder."""
    freeze: Literal["none", "encoder", "body"] = "none"
    """What of the pre-trained encoder stays as it is: nothing, all, or all but its first convolution (body)."""
    weight_decay: float = Field(default=0.05, ge=0)
    """AdamW's weight decay; norms, biases and embeddings have none."""
    warmup_steps: int = Field(default=20, ge=0)
    """Steps over which the learning rate rises linearly; a tenth of all steps at most."""
    decay: Literal["linear", "cosine"] = "cosine"
    """How it falls to zero after that."""
    loss: Literal["dice-ce", "dice-focal", "ce"] = "dice-ce"
    """The loss, from MONAI."""
    gradient_clip: float = Field(default=1.0, ge=0)
    """Largest norm of the gradient; 0 is no limit."""
    precision: Precision = "32"
    """Number format of the arithmetic."""
    compile: bool = False
    """Compile the network by torch.compile: the first steps take minutes, the others may take less time."""
    checkpoint_activations: bool = False
    """Compute the encoder's activations twice instead of keeping them: less memory, more time."""
    validate_every: int | None = Field(default=None, ge=1)
    """Steps between validations, rounded so that the last one falls on the last steps; a fifth of all if not given."""
    validation_cases: int | None = Field(default=20, ge=1)
    """At most so many held-out cases are watched while training (evaluation always takes all)."""
    seed: Seed = 0
    """Seed of weights, windows and augmentation."""
    deterministic: bool = False
    """On a GPU, compute so that the same seed gives the same bits, which takes longer; a CPU always does."""
    accelerator: Literal["auto", "cpu", "gpu", "mps"] = "auto"
    """Device to train on."""
    devices: int = Field(default=1, ge=1)
    """How many of them, on each node; every one takes a batch of its own."""
    nodes: int = Field(default=1, ge=1)
    """Machines that train together; start the command by torchrun or srun for more than one (docs/cluster.md)."""
    logger: LoggerName = "none"
    """What shows settings, curves and pictures beside metrics.csv; each needs its extra, such as inflate3d[wandb]."""
    workers: int | None = Field(default=None, ge=0)
    """Processes that read windows; 0 on a CPU, up to 8 beside a GPU, if not given."""


class TrainingConfig(_TrainingSettings):
    """How it is trained."""

    steps: int = Field(default=Proposals().steps, ge=1)
    """Optimizer steps."""
    batch_size: int = Field(default=Proposals().batch_size, ge=2)
    """Windows in a batch (per device)."""
    accumulate: int = Field(default=Proposals().accumulate, ge=1)
    """Batches whose gradients are added up for one step."""
    foreground_fraction: float = Field(default=Proposals().foreground_fraction, ge=0, le=1)
    """Part of the windows that are drawn so that the center slice holds a class, each class alike."""
    layer_decay: float = Field(default=1.0, gt=0, le=1)
    """Each of the encoder's layers learns so much slower than the one after it; 1 is all alike."""


class TrainingOptions(_TrainingSettings):
    """How it is trained, as a user asks for it."""

    steps: int | None = Field(default=None, ge=1)
    """Optimizer steps; the plan's if not given."""
    batch_size: int | None = Field(default=None, ge=2)
    """Windows in a batch (per device); what fits the memory, by the plan, if not given."""
    accumulate: int | None = Field(default=None, ge=1)
    """Batches whose gradients are added up for one step; 1 beside --batch-size, else the plan's, if not given."""
    foreground_fraction: float | None = Field(default=None, ge=0, le=1)
    """Part of the windows that are drawn so that the center slice holds a class; the plan's if not given."""
    layer_decay: float | None = Field(default=None, gt=0, le=1)
    """Each encoder layer learns so much slower than the next, 1 is all alike; 0.75 if pre-trained, else 1."""

    def decided(self, proposals: Proposals, model: ModelConfig) -> TrainingConfig:
        """With the plan's choices where the user does not say, and those that the network asks for."""
        if self.batch_size is not None:
            proposals = proposals.model_copy(update={"accumulate": 1})
        values = _filled(self, proposals)
        if self.layer_decay is None:
            values["layer_decay"] = PRETRAINED_LAYER_DECAY if model.pretrained else 1.0
        return TrainingConfig(**values)


def _filled(options: FrozenModel, proposals: Proposals) -> dict[str, Any]:
    """The options' values; a proposal for each of its fields that is open, and no other."""
    values = options.model_dump()
    return {name: getattr(proposals, name, None) if value is None else value for name, value in values.items()}


class RunConfig(FrozenModel):
    """All of a run: enough, with its data, to train it again."""

    dataset: Path
    """The dataset's folder."""
    store: Path
    """Where its prepared cases lie."""
    data: DataConfig = DataConfig()
    model: ModelConfig = ModelConfig()
    augmentation: AugmentationConfig = AugmentationConfig()
    training: TrainingConfig = TrainingConfig()

    def write(self, path: Path) -> None:
        """Writes the configuration as YAML, atomically.

        Raises:
            OutputError: The file can't be written.
        """
        write_text(path, yaml.safe_dump(self.model_dump(mode="json"), sort_keys=False))

    @classmethod
    def read(cls, path: Path) -> RunConfig:
        """Reads what :meth:`write` wrote.

        Raises:
            ConfigError: The file is missing, is not YAML, or holds a key or a value that is not known.
        """
        return parse_settings(cls, read_yaml(path), file=path)

    def check_unchanged(self, path: Path) -> None:
        """Makes sure that a run which was started with the configuration in ``path`` is this very run.

        Raises:
            ConfigError: It was started with other settings, or the file can't be read.
        """
        before = RunConfig.read(path)
        if before == self:
            return
        differing = _differing(before.model_dump(), self.model_dump())
        raise ConfigError(
            "the run was started with other settings",
            expected=", ".join(f"{name} {old}" for name, (old, _) in differing.items()),
            got=", ".join(f"{name} {new}" for name, (_, new) in differing.items()),
            file=path,
            hint="give the same options again, or choose another folder by --run or --out",
        )


def _differing(before: dict[str, Any], after: dict[str, Any]) -> dict[str, tuple[Any, Any]]:
    found: dict[str, tuple[Any, Any]] = {}
    for name, old in before.items():
        if isinstance(old, dict):
            found |= _differing(old, after[name])
        elif old != after[name]:
            found[name] = (old, after[name])
    return found
