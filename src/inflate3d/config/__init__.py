"""The settings of a run, as frozen data: typed, checked, and saved with the run.

They are the options of the command line, and ``config.yaml`` in a run's folder. None leaves a setting to the dataset's
plan: `RunConfig.resolve` replaces it once, before the training.
"""

from inflate3d.config.model import (
    DECODERS,
    REGISTERED_DECODERS,
    DecoderName,
    Depth,
    DepthMixing,
    InflatedConfig,
    Inflation,
    ModelConfig,
    Network,
    Planes,
    Volumetric,
    VolumetricConfig,
    model_type,
)
from inflate3d.config.run import (
    RunConfig,
    check_encoder_settings,
    differing,
)
from inflate3d.config.training import (
    ENCODER_SETTINGS,
    AugmentationConfig,
    DataConfig,
    Precision,
    Runtime,
    Schedule,
    Seed,
    TrainingConfig,
    TrainingDefaults,
    TrainingPrecision,
)

__all__ = [
    "DECODERS",
    "ENCODER_SETTINGS",
    "REGISTERED_DECODERS",
    "AugmentationConfig",
    "DataConfig",
    "DecoderName",
    "Depth",
    "DepthMixing",
    "InflatedConfig",
    "Inflation",
    "ModelConfig",
    "Network",
    "Planes",
    "Precision",
    "RunConfig",
    "Runtime",
    "Schedule",
    "Seed",
    "TrainingConfig",
    "TrainingDefaults",
    "TrainingPrecision",
    "Volumetric",
    "VolumetricConfig",
    "check_encoder_settings",
    "differing",
    "model_type",
]
