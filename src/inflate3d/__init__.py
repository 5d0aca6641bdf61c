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
    "AugmentationConfig": "config",
    "DataConfig": "config",
    "Dataset": "datasets",
    "Encoder": "models.encoders",
    "FoldsFolder": "run_folder",
    "Inflate3dError": "errors",
    "InflatedConfig": "config",
    "VolumetricConfig": "config",
    "Plan": "preparation.plan",
    "PlanOptions": "preparation.plan_options",
    "Postprocessing": "evaluation.postprocessing.steps",
    "Prediction": "inference.prediction",
    "Predictor": "inference.predictor",
    "RunConfig": "config",
    "RunFolder": "run_folder",
    "Scores": "evaluation.scores",
    "Segmenter": "models.segmenter",
    "Store": "preparation.store",
    "TrainingConfig": "config",
    "Volume": "volume",
    "check_inflation": "models.catalog",
    "create_encoder": "models.encoders",
    "create_model": "models.segmenter",
    "evaluate_run": "inference.runs",
    "inflate_stem": "models.inflation",
    "list_encoders": "models.catalog",
    "load_model": "models.segmenter",
    "predict_files": "inference.batch",
    "prepare": "preparation.prepare",
    "read_dataset": "datasets",
    "register_decoder": "models.decoders",
    "read_volume": "io",
    "score_label_maps": "evaluation.label_maps",
    "train": "training.run",
    "write_labels": "io",
    "write_volume": "io",
}

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
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
