"""The settings of a run, as frozen data: typed, checked, and saved with the run.

They are the options of the command line, and ``config.yaml`` in a run's folder. None leaves a setting to the dataset's
plan: `RunConfig.resolve` replaces it once, before the training.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, TypeAlias, TypeVar

import tyro
import yaml
from pydantic import AfterValidator, Discriminator, Field, Tag, model_validator

from inflate3d.atomic import write_text
from inflate3d.errors import ConfigError
from inflate3d.named_encoders import resolved_weights
from inflate3d.settings import FrozenModel, parse_settings, read_yaml

T = TypeVar("T")

if TYPE_CHECKING:
    Planned: TypeAlias = Annotated[T, None]
else:

    class Planned:
        """A setting that may be None until it is resolved; readers of resolved settings see its own type."""

        def __class_getitem__(cls, kind: Any) -> Any:
            return kind | None


def planned(**limits: Any) -> Any:
    """Default of a `Planned` setting: None, which leaves it to the plan."""
    return Field(default=None, **limits)


Inflation = Literal["center", "average", "random"]
Planes = Literal["one", "all"]
DepthMixing = Literal["none", "decoder"]
LoggerName = Literal["none", "tensorboard", "wandb", "mlflow"]
DECODERS = ("fpn-lite", "upernet", "setr-pup", "conv-transpose", "unetr")
"""The package's decoders."""

REGISTERED_DECODERS: set[str] = set()
"""Names that :func:`inflate3d.register_decoder` added in this process."""


def _known_decoder(name: str) -> str:
    if name not in DECODERS and name not in REGISTERED_DECODERS:
        known = ", ".join((*DECODERS, *sorted(REGISTERED_DECODERS)))
        raise ValueError(f"must be one of {known}, or a name given to inflate3d.register_decoder before")
    return name


DecoderName = Annotated[str, AfterValidator(_known_decoder)]
Precision = Literal["32", "bf16-mixed", "16-mixed"]
Schedule = Literal["full", "adaptive"]
Runtime = Literal["torch", "onnxruntime", "openvino", "auto"]
TrainingPrecision = Literal["auto", "32", "bf16-mixed", "16-mixed"]
Volumetric = Literal["unetr", "swin-unetr", "segresnet", "dynunet"]
Network = Literal["inflated", "unetr", "swin-unetr", "segresnet", "dynunet"]

Seed = Annotated[int, Field(ge=0, lt=2**32)]
"""The range that numpy accepts."""

_MOST_CHANNELS = 1 << 16
"""Width of a layer; wider ones don't fit into any memory."""

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


def _odd(depth: int) -> int:
    if depth % 2 == 0:
        raise ValueError(f"must be odd, so that a window has a center slice; try {depth - 1} or {depth + 1}")
    return depth


Depth = Annotated[int, Field(ge=1, lt=10_000), AfterValidator(_odd)]


class InflatedConfig(FrozenModel):
    """An inflated 2D backbone with a decoder.

    Examples:
        >>> InflatedConfig(encoder="resnet18", weights="none", depth=3).decoder
        'fpn-lite'
    """

    common: ClassVar = ("encoder", "weights", "depth", "planes", "image_size", "decoder")

    network: tyro.conf.Fixed[Literal["inflated"]] = "inflated"
    """The kind of network."""
    encoder: str = "vit_small_patch16_224"
    """The 2D backbone, by its timm name; `inflate3d encoders` lists them."""
    weights: str = "timm"
    """Its 2D weights: timm (downloaded), none (random), a file, or the folder of an earlier run to start from."""
    inflation: Inflation = "center"
    """How the first convolution is spread over the window's slices; random reinitializes only this layer."""
    depth: Planned[Depth] = planned()
    """Slices per window, odd; 1 is the plain 2D network. None: the plan's, usually 5."""
    stride: Annotated[Planned[int], tyro.conf.Suppress] = planned(ge=1)
    """Steps from one slice of a window to the next. None: the plan's."""
    planes: Planes = "one"
    """Planes of the slices: one, or all three with averaged predictions (for nearly isotropic voxels)."""
    depth_mixing: DepthMixing = "none"
    """Let the decoder's features of neighboring slices mix along the depth; each slice is encoded by itself."""
    slab: int = Field(default=8, ge=2, le=1_000)
    """Neighboring slices that a training sample has with depth mixing; the batch size is a multiple of it."""
    image_size: tuple[int, int] | None = None
    """In-plane size in pixels (rows, columns) that slices are resized to. None: the plan's."""
    decoder: DecoderName = "fpn-lite"
    """Decoder: fpn-lite (light, also good for small structures) or one of the paper's."""
    decoder_channels: int | None = Field(default=None, ge=8, le=_MOST_CHANNELS)
    """Width of the decoder. None: 128, or the paper's for upernet, setr-pup and conv-transpose."""
    detail_channels: int | None = Field(default=None, ge=0, le=_MOST_CHANNELS)
    """Width of the full-resolution path for small structures; 0 disables it. None: 16 for fpn-lite, otherwise 0."""
    input_scaling: Literal["pretrained", "unit"] = "pretrained"
    """Intensities normalized as for the 2D weights, or from 0 to 1 as in the paper."""

    @model_validator(mode="after")
    def _check_depth(self) -> InflatedConfig:
        if self.depth_mixing != "none" and self.depth not in (None, 1):
            raise ValueError("depth mixing needs --depth 1: neighbors come in through the features")
        return self

    @property
    def resolved_weights(self) -> str:
        """Where the 2D weights come from, see `inflate3d.named_encoders.resolved_weights`."""
        return resolved_weights(self.encoder, self.weights)

    @property
    def pretrained(self) -> bool:
        """Whether the encoder starts from 2D weights."""
        return self.resolved_weights != "none"

    def resolve(self, defaults: TrainingDefaults) -> InflatedConfig:
        """Fills in the depth. Stride and image size come from the plan, see `inflate3d.training.build.plan_run`."""
        if self.depth is not None:
            return self
        return self.model_copy(update={"depth": defaults.depth if self.depth_mixing == "none" else 1})


class VolumetricConfig(FrozenModel):
    """A 3D network of MONAI, for comparison (dynunet is nnU-Net's).

    Examples:
        >>> VolumetricConfig(network="dynunet", patch_size=(16, 128, 128)).pretrained
        False
    """

    common: ClassVar = ("patch_size", "network_width")

    network: tyro.conf.Fixed[Volumetric]
    """The kind of network."""
    patch_size: tuple[int, int, int] | None = None
    """Patch in voxels (slices, rows, columns). None: from the median scan."""
    network_width: int | None = Field(default=None, ge=1, le=_MOST_CHANNELS)
    """Channels of the first level. None: the network's default."""

    pretrained: ClassVar = False

    def resolve(self, defaults: TrainingDefaults) -> VolumetricConfig:
        """Returns the settings as they are: patch size and width are chosen with the median scan and the network."""
        return self


def model_type(network: str) -> type[InflatedConfig] | type[VolumetricConfig]:
    """The class of settings for a kind of network."""
    return InflatedConfig if network == "inflated" else VolumetricConfig


def _kind(model: Any) -> str:
    network = model.get("network", "inflated") if isinstance(model, dict) else getattr(model, "network", None)
    return "inflated" if network == "inflated" else "volumetric"


ModelConfig: TypeAlias = Annotated[
    Annotated[InflatedConfig, Tag("inflated")] | Annotated[VolumetricConfig, Tag("volumetric")], Discriminator(_kind)
]
"""The network, by ``network``: settings of the other kind are refused."""


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
    """AdamW's beta2; for trainings of a few hundred steps a smaller value, such as 0.98, may be better."""
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
    """Number format; auto: bf16-mixed if the GPU (for inflated networks also the CPU) computes in it."""
    compile: bool = False
    """Compile the network with torch.compile: the first steps take minutes, the others may be faster."""
    checkpoint_activations: bool = False
    """Recompute the encoder's activations instead of keeping them: less memory, more time."""
    validate_every: int | None = Field(default=None, ge=1)
    """Steps between validations; the last step is always validated. None: a fifth of all."""
    validation_cases: int | None = Field(default=20, ge=1)
    """Validate on at most N held-out cases while training (evaluation takes all)."""
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
    """Steps of the finished training that this one extends: the learning rate's schedule starts anew there."""

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


def _check_slabs(model: InflatedConfig | VolumetricConfig, training: TrainingConfig) -> None:
    """Checks that a batch is made of whole slabs.

    Raises:
        ConfigError: It is not.
    """
    if isinstance(model, VolumetricConfig) or model.depth_mixing == "none" or training.batch_size is None:
        return
    if training.batch_size % model.slab:
        raise ConfigError(
            "the batch size is not a multiple of the slab",
            expected=f"a multiple of {model.slab} slices",
            got=training.batch_size,
            hint="change --batch-size or --slab",
        )


def check_encoder_settings(model: InflatedConfig | VolumetricConfig, training: TrainingConfig) -> None:
    """Rejects settings of a pre-trained encoder for a 3D network, which has none."""
    if isinstance(model, InflatedConfig):
        return
    idle = {name: TrainingConfig.model_fields[name].default for name in ENCODER_SETTINGS}
    given = {name: getattr(training, name) for name in ENCODER_SETTINGS if getattr(training, name) != idle[name]}
    if given and given != {"stem_rate_factor": 1.0}:  # which is what resolving gives
        raise ConfigError(
            "a 3D network has no pre-trained encoder",
            expected=f"no settings of an encoder with --network {model.network}",
            got=", ".join(f"{name} {value}" for name, value in given.items()),
        )


class RunConfig(FrozenModel):
    """All settings of a run; together with its data, enough to train it again.

    Examples:
        >>> config = RunConfig(
        ...     dataset="data/Task09_Spleen",
        ...     store="prepared/Task09_Spleen",
        ...     model=InflatedConfig(encoder="resnet18", depth=3),
        ...     training=TrainingConfig(steps=500),
        ... )
        >>> config.model.inflation
        'center'
        >>> config.training.batch_size is None  # left to the plan
        True
    """

    dataset: Path
    """The dataset's folder."""
    store: Path
    """Folder of its preprocessed cases."""
    data: DataConfig = DataConfig()
    model: ModelConfig = InflatedConfig()
    augmentation: AugmentationConfig = AugmentationConfig()
    training: TrainingConfig = TrainingConfig()

    @model_validator(mode="after")
    def _check_sections(self) -> RunConfig:
        check_encoder_settings(self.model, self.training)
        _check_slabs(self.model, self.training)
        return self

    def resolve(self, defaults: TrainingDefaults) -> RunConfig:
        """Replaces each None by the plan's choice; resolving twice changes nothing.

        Raises:
            ConfigError: Settings contradict each other.
        """
        check_encoder_settings(self.model, self.training)
        _check_slabs(self.model, self.training)
        model = self.model.resolve(defaults)
        return self.model_copy(update={"model": model, "training": self.training.resolve(defaults, model)})

    def write(self, path: Path) -> None:
        """Writes the configuration as YAML, atomically.

        Raises:
            OutputError: The file can't be written.
        """
        write_text(path, yaml.safe_dump(self.model_dump(mode="json"), sort_keys=False))

    @classmethod
    def read(cls, path: Path) -> RunConfig:
        """Reads a file of :meth:`write`.

        Raises:
            ConfigError: The file is missing, is not YAML, or holds an unknown key or an invalid value.
        """
        return parse_settings(cls, read_yaml(path), file=path)

    def check_unchanged(self, path: Path) -> None:
        """Checks that the configuration in ``path`` is the same as this one; only the data may have moved.

        Raises:
            ConfigError: Its settings differ, or the file can't be read.
        """
        before = RunConfig.read(path)
        changed = differing(before, self)
        if not changed:
            return
        raise ConfigError(
            "the settings differ from those that the run was started with",
            expected=", ".join(f"{name} {old}" for name, (old, _) in changed.items()),
            got=", ".join(f"{name} {new}" for name, (_, new) in changed.items()),
            file=path,
            hint="give the same options again, or choose another folder with --run or --out",
        )


def differing(before: RunConfig, after: RunConfig) -> dict[str, tuple[Any, Any]]:
    """Settings that differ, by name, with both values; paths and precision "auto" do not count."""
    if after.training.precision == "auto":
        kept = {"precision": before.training.precision}
        after = after.model_copy(update={"training": after.training.model_copy(update=kept)})
    old, new = (config.model_dump(exclude={"dataset", "store"}) for config in (before, after))
    return {
        name: (values.get(name), new[section].get(name))
        for section, values in old.items()
        for name in (*values, *(name for name in new[section] if name not in values))
        if values.get(name) != new[section].get(name)
    }
