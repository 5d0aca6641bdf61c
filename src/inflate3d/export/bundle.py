"""A model as a MONAI Bundle: a folder that ``python -m monai.bundle`` checks and runs, where inflate3d is installed.

MONAI loads scans, saves label maps and drives the prediction. `build_bundled_network` and `ScanInferer` are what its
configuration takes from here. See MONAI's bundle specification.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import monai
import numpy as np
import torch
from monai.data.meta_tensor import MetaTensor
from monai.inferers.inferer import Inferer
from monai.utils.enums import IgniteInfo
from monai.utils.type_conversion import convert_to_dst_type
from torch import Tensor, nn

from inflate3d.atomic import atomic_folder, atomic_path, write_text
from inflate3d.datasets.writing import check_empty
from inflate3d.errors import DataError
from inflate3d.evaluation.postprocessing.steps import POSTPROCESSING_FILE, Postprocessing, read_postprocessing
from inflate3d.export.card import copy_model_card
from inflate3d.export.network import load_single
from inflate3d.inference.predictor import Model, Predictor
from inflate3d.models.architecture import VolumetricArchitecture
from inflate3d.models.card import CARD, network_in_words
from inflate3d.models.checkpoint import read_description, write_description
from inflate3d.models.segmenter import build_network
from inflate3d.preparation.plan import Plan
from inflate3d.version import __version__
from inflate3d.volume import Volume

SCHEMA = "https://github.com/Project-MONAI/MONAI-extra-test-data/releases/download/0.8.1/meta_schema_20240725.json"
"""MONAI's own, which ``verify_metadata`` downloads."""

WEIGHTS = Path("models") / "model.pt"


def export_bundle(source: Path, out: Path) -> Path:
    """Exports a trained model, of any kind, as a MONAI Bundle.

    Args:
        source: A run's folder, or a model folder.
        out: The new folder; it must be empty or not exist.

    Returns:
        The file with the weights.

    Raises:
        ModelError: There is no model, or it can't be loaded.
        ConfigError: The folder holds several models.
        OutputError: The folder is not empty, or can't be written.

    Examples:
        >>> export_bundle(Path("runs/Liver"), Path("exported")).as_posix()
        'exported/models/model.pt'
    """
    check_empty(out)
    model, plan, folder = load_single(source)
    steps = read_postprocessing((source,), plan.classes, plan.regions)
    with atomic_folder(out) as temporary:
        models, configs, docs = (temporary / name for name in ("models", "configs", "docs"))
        with atomic_path(temporary / WEIGHTS) as file:
            torch.save(model.state_dict(), file)
        write_description(models, model.architecture, plan)
        if steps:
            steps.write(models / POSTPROCESSING_FILE)
        write_text(configs / "metadata.json", _json(_metadata(model, plan)))
        write_text(configs / "inference.json", _json(_inference(plan)))
        write_text(docs / CARD, _readme(model, plan, steps))
        copy_model_card(folder, docs)
    return out / WEIGHTS


def build_bundled_network(folder: str) -> Model:
    """The network of a bundle with random weights, which MONAI replaces by those of ``model.pt``.

    Args:
        folder: The bundle's folder ``models``.
    """
    architecture, plan = read_description(Path(folder))
    network = build_network(architecture)
    network.plan = plan
    return network.eval()


class ScanInferer(Inferer):
    """Predicts whole scans as ``inflate3d predict`` does, post-processing included.

    Args:
        folder: The bundle's folder ``models``.
    """

    def __init__(self, folder: str) -> None:
        super().__init__()
        self._folder = Path(folder)

    def __call__(self, inputs: Tensor, network: nn.Module, *args: Any, **kwargs: Any) -> Tensor:
        """Predicts scans.

        Args:
            inputs: ``(B, C, I, J, K)``, MONAI's tensors with an affine, as its ``LoadImage`` makes them.
            network: That of `build_bundled_network`, with its weights.
            *args: Not used.
            **kwargs: Not used.

        Returns:
            Label values ``(B, 1, I, J, K)``, int32, with the metadata of the scans.

        Raises:
            DataError: A scan has no affine, or does not fit the network.
        """
        predictor = Predictor(network, device=str(inputs.device))  # type: ignore[arg-type]
        plan = predictor.plan
        steps = read_postprocessing((self._folder,), plan.classes, plan.regions) or Postprocessing()
        labels = [torch.from_numpy(_predict(predictor, scan, steps).astype(np.int32))[None] for scan in inputs]
        return convert_to_dst_type(torch.stack(labels), inputs, dtype=torch.int32)[0]


def _predict(predictor: Predictor, scan: Tensor, steps: Postprocessing) -> np.ndarray:
    if not isinstance(scan, MetaTensor):
        raise DataError("scan has no affine", expected="a MetaTensor", got=type(scan).__name__)
    volume = Volume(scan.cpu().numpy(), scan.affine.cpu().numpy().astype(np.float64))
    labels = predictor.predict(volume, depth_filter=steps.depth_filter).labels
    return steps.apply(labels, volume.spacing) if steps.classes else labels


def _json(values: dict[str, Any]) -> str:
    return json.dumps(values, indent=2) + "\n"


def _metadata(model: Model, plan: Plan) -> dict[str, Any]:
    """``metadata.json``: what MONAI's schema requires, and what the network takes and gives."""
    network = model.architecture
    names = plan.regions.names if plan.regions else plan.class_names
    size: Sequence[int | str]
    scored: Sequence[int | str]
    if isinstance(network, VolumetricArchitecture):
        size = scored = network.patch_size
    elif network.depth_mixing == "none":
        size, scored = (network.depth, *network.image_size), network.image_size
    else:
        size = scored = ("*", *network.image_size)  # any number of slices
    image = {"type": "image", "dtype": "float32", "is_patch_data": True}
    task = f"Segmentation of {', '.join(plan.targets)} in {', '.join(plan.modalities)}"
    return {
        "schema": SCHEMA,
        "version": "1.0.0",
        "changelog": {"1.0.0": f"exported by inflate3d {__version__}"},
        "monai_version": monai.__version__,
        "pytorch_version": torch.__version__.partition("+")[0],
        "numpy_version": np.__version__,
        "required_packages_version": {
            "inflate3d": __version__,
            "nibabel": version("nibabel"),
            "pytorch-ignite": IgniteInfo.OPT_IMPORT_VERSION,
        },
        "name": plan.dataset,
        "task": task,
        "description": f"{task}. {network_in_words(network)}",
        "authors": "not stated",
        "copyright": "not stated",
        "intended_use": "Research. Not a medical device: not approved for diagnosis or treatment.",
        "network_data_format": {
            "inputs": {
                "image": image
                | {
                    "format": "magnitude",
                    "modality": ", ".join(plan.modalities),
                    "num_channels": len(plan.modalities),
                    "spatial_shape": size,
                    "value_range": [0, 1],
                    "channel_def": _numbered(plan.modalities),
                }
            },
            "outputs": {
                "pred": image
                | {
                    "format": "classes" if plan.regions else "labels",
                    "num_channels": len(names),
                    "spatial_shape": scored,
                    "value_range": [],
                    "channel_def": _numbered(names),
                }
            },
            "post_processed_outputs": {
                "pred": {
                    "type": "image",
                    "format": "segmentation",
                    "num_channels": 1,
                    "spatial_shape": ["*", "*", "*"],
                    "dtype": "int32",
                    "value_range": [0, max(plan.classes)],
                    "is_patch_data": False,
                    "channel_def": {str(value): name for value, name in plan.classes.items()},
                }
            },
        },
    }


def _numbered(names: tuple[str, ...]) -> dict[str, str]:
    return {str(number): name for number, name in enumerate(names)}


def _inference(plan: Plan) -> dict[str, Any]:
    """``inference.json``: the names are those that MONAI's programs look for."""
    channels = len(plan.modalities)
    first = "@dataset_dir + '/*.nii*'" if channels == 1 else "@dataset_dir + '/*_0000.nii*'"
    images = f"[f.replace('_0000.nii', f'_{{c:04d}}.nii') for c in range({channels})]" if channels > 1 else "f"
    models = "$@bundle_root + '/models'"
    return {
        "imports": ["$import glob", "$import numpy"],
        "bundle_root": ".",
        "dataset_dir": "scans",
        "output_dir": "$@bundle_root + '/eval'",
        "device": "$torch.device('cuda:0' if torch.cuda.is_available() else 'cpu')",
        "ckpt_path": f"$@bundle_root + '/{WEIGHTS.as_posix()}'",
        "datalist": f"$[{{'image': {images}}} for f in sorted(glob.glob({first}))]",
        "network_def": {"_target_": f"{__name__}.build_bundled_network", "folder": models},
        "network": "$@network_def.to(@device)",
        "preprocessing": {
            "_target_": "Compose",
            "transforms": [{"_target_": "LoadImaged", "keys": "image", "ensure_channel_first": True}],
        },
        "dataset": {"_target_": "Dataset", "data": "@datalist", "transform": "@preprocessing"},
        "dataloader": {"_target_": "DataLoader", "dataset": "@dataset", "batch_size": 1},
        "inferer": {"_target_": f"{__name__}.ScanInferer", "folder": models},
        "postprocessing": {
            "_target_": "Compose",
            "transforms": [
                {
                    "_target_": "SaveImaged",
                    "keys": "pred",
                    "output_dir": "@output_dir",
                    "output_postfix": "",
                    "separate_folder": False,
                    "resample": False,
                    "output_dtype": f"$numpy.{np.min_scalar_type(max(plan.classes)).name}",
                }
            ],
        },
        "handlers": [{"_target_": "CheckpointLoader", "load_path": "@ckpt_path", "load_dict": {"model": "@network"}}],
        "evaluator": {
            "_target_": "SupervisedEvaluator",
            "device": "@device",
            "val_data_loader": "@dataloader",
            "network": "@network",
            "inferer": "@inferer",
            "postprocessing": "@postprocessing",
            "val_handlers": "@handlers",
        },
        "run": ["$@evaluator.run()"],
    }


def _readme(model: Model, plan: Plan, steps: Postprocessing | None) -> str:
    several = len(plan.modalities) > 1
    named = f"`case_0000.nii.gz`, `case_0001.nii.gz`: {', '.join(plan.modalities)}" if several else "`case.nii.gz`"
    return f"""# {plan.dataset}, a MONAI Bundle

{network_in_words(model.architecture)}

**Not a medical device.** This model is for research. It is not approved for diagnosis or treatment.

    pip install inflate3d pytorch-ignite fire
    python -m monai.bundle run --config_file configs/inference.json --dataset_dir SCANS --output_dir LABELS

runs it in this folder, on NIfTI files ({named}). The label maps are those of `inflate3d predict`.
Their values: {", ".join(f"{value} {name}" for value, name in plan.classes.items())}.
Post-processing: {steps.in_words() if steps else "none"}.
"""
