"""The example gives our label map, and needs neither torch nor inflate3d."""

import subprocess
import sys
from pathlib import Path

import nibabel
import numpy as np
import pytest

from inflate3d.datasets.regions import Regions
from inflate3d.export.description import Check, ExportedModel
from inflate3d.inference.predictor import Predictor
from inflate3d.io import read_volume
from inflate3d.preparation.plan import Normalization

EXAMPLE = Path(__file__).parents[2] / "examples" / "onnx_without_torch.py"
ALONE = "import runpy, sys; sys.modules.update(dict.fromkeys(['torch', 'timm', 'monai', 'inflate3d'])); "
ALONE += "sys.argv = sys.argv[1:]; runpy.run_path(sys.argv[0], run_name='__main__')"
"""A module that is None in sys.modules can't be imported."""

PLANS = {
    "own slices": {},
    "resampled": {
        "slice_spacing": 2.2,
        "pixel_spacing": (1.1, 1.3),
        "normalization": (Normalization(kind="case"),),
    },
    "larger than the input": {"pixel_spacing": (0.3, 0.4), "stride": 2, "depth_axis": "coronal"},
    "regions": {"regions": Regions(values={"a": (3, 4), "b": (4,), "c": (90,), "d": (700,), "e": (90, 700)})},
    "regions in an order": {
        "regions": Regions(
            values={"a": (3, 4, 90, 700), "b": (4, 90, 700), "c": (90, 700), "d": (700,), "e": (4,)},
            order=(3, 90, 90, 700, 4),
        )
    },
}


def run_example(folder, scan, out):
    command = [sys.executable, "-c", ALONE, str(EXAMPLE), str(folder), str(scan), str(out)]
    subprocess.run(command, check=True, capture_output=True, text=True)
    return np.asarray(nibabel.Nifti1Image.from_filename(out).dataobj)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "case"), [*zip(PLANS, (1, 3, 1, 3, 1), strict=True)])  # the cases' axes differ
def test_it_gives_our_label_map(name, case, random_model, exported_onnx, phantoms, tmp_path):
    plan = random_model.plan.model_copy(update=PLANS[name])
    folder = tmp_path / "exported"
    folder.mkdir()
    (folder / "model.onnx").symlink_to(exported_onnx / "model.onnx")  # the plan is no part of the network
    described = ExportedModel.of(
        random_model.architecture,
        plan,
        format="onnx",
        weights="float32",
        postprocessing=None,
        check=Check(program="none", largest_difference=0),
    )
    described.write(folder)
    scan = phantoms.cases[case].scan
    model = type(random_model)(random_model.encoder, random_model.architecture)
    model.load_state_dict(random_model.state_dict())
    model.plan = plan
    ours = Predictor(model, device="cpu").predict(read_volume(scan)).labels
    theirs = run_example(folder, scan, tmp_path / "labels.nii.gz")
    assert len(np.unique(ours)) > 1
    assert (theirs != ours).mean() < 1e-4


def test_it_can_not_import_what_it_does_without(tmp_path):
    command = [sys.executable, "-c", ALONE.partition("sys.argv")[0] + "import torch"]
    assert "ModuleNotFoundError" in subprocess.run(command, capture_output=True, text=True, check=False).stderr
