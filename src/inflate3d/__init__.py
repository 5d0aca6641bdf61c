"""inflate3d gives 2D pre-trained vision backbones a third dimension, for 3D medical image segmentation.

Names are imported when they are first used, so that ``import inflate3d`` itself is quick.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from inflate3d.version import __version__ as __version__

if TYPE_CHECKING:
    from inflate3d.config import (
        AugmentationConfig,
        DataConfig,
        InflatedConfig,
        RunConfig,
        TrainingConfig,
        VolumetricConfig,
    )
    from inflate3d.datasets import Dataset, read_dataset
    from inflate3d.errors import Inflate3dError
    from inflate3d.evaluation.label_maps import score_label_maps
    from inflate3d.evaluation.postprocessing.steps import Postprocessing
    from inflate3d.evaluation.scores import Scores
    from inflate3d.inference.batch import predict_files
    from inflate3d.inference.prediction import Prediction
    from inflate3d.inference.predictor import Predictor
    from inflate3d.inference.runs import evaluate_run
    from inflate3d.io import read_volume, write_labels, write_volume
    from inflate3d.models.catalog import check_inflation, list_encoders
    from inflate3d.models.decoders import register_decoder
    from inflate3d.models.encoders import Encoder, create_encoder
    from inflate3d.models.inflation import inflate_stem
    from inflate3d.models.segmenter import Segmenter, create_model, load_model
    from inflate3d.preparation.plan import Plan
    from inflate3d.preparation.plan_options import PlanOptions
    from inflate3d.preparation.prepare import prepare
    from inflate3d.preparation.store import Store
    from inflate3d.run_folder import FoldsFolder, RunFolder
    from inflate3d.training.run import train
    from inflate3d.volume import Volume

_HOMES = {
    "config": "AugmentationConfig DataConfig InflatedConfig RunConfig TrainingConfig VolumetricConfig",
    "datasets": "Dataset read_dataset",
    "errors": "Inflate3dError",
    "evaluation.label_maps": "score_label_maps",
    "evaluation.postprocessing.steps": "Postprocessing",
    "evaluation.scores": "Scores",
    "inference.batch": "predict_files",
    "inference.prediction": "Prediction",
    "inference.predictor": "Predictor",
    "inference.runs": "evaluate_run",
    "io": "read_volume write_labels write_volume",
    "models.catalog": "check_inflation list_encoders",
    "models.decoders": "register_decoder",
    "models.encoders": "Encoder create_encoder",
    "models.inflation": "inflate_stem",
    "models.segmenter": "Segmenter create_model load_model",
    "preparation.plan": "Plan",
    "preparation.plan_options": "PlanOptions",
    "preparation.prepare": "prepare",
    "preparation.store": "Store",
    "run_folder": "FoldsFolder RunFolder",
    "training.run": "train",
    "volume": "Volume",
}
_MODULES = {name: module for module, names in _HOMES.items() for name in names.split()}

__all__ = [
    "AugmentationConfig",
    "DataConfig",
    "Dataset",
    "Encoder",
    "FoldsFolder",
    "Inflate3dError",
    "InflatedConfig",
    "Plan",
    "PlanOptions",
    "Postprocessing",
    "Prediction",
    "Predictor",
    "RunConfig",
    "RunFolder",
    "Scores",
    "Segmenter",
    "Store",
    "TrainingConfig",
    "Volume",
    "VolumetricConfig",
    "check_inflation",
    "create_encoder",
    "create_model",
    "evaluate_run",
    "inflate_stem",
    "list_encoders",
    "load_model",
    "predict_files",
    "prepare",
    "read_dataset",
    "read_volume",
    "register_decoder",
    "score_label_maps",
    "train",
    "write_labels",
    "write_volume",
]


def __getattr__(name: str) -> object:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
