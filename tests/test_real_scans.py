"""The whole job on real scans, where they lie beside the checkout."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from nibabel import nifti1

from inflate3d.cli import main
from inflate3d.evaluation.scores import Scores

ENCODER = "vit_small_patch14_dinov2"


@pytest.fixture
def hippocampi(shared: Path, tmp_path: Path) -> Path:
    """Six cases of MSD Task04, in the Decathlon's layout."""
    source, folder = shared / "data" / "Task04_Hippocampus", tmp_path / "Task04_Hippocampus"
    listing = json.loads((source / "dataset.json").read_text(encoding="utf-8"))
    listing["training"] = listing["training"][:6]
    for entry in listing["training"]:
        for name in entry.values():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source / name, folder / name)
    (folder / "dataset.json").write_text(json.dumps(listing))
    return folder


@pytest.mark.slow
@pytest.mark.real
def test_the_whole_job_on_real_scans(hippocampi: Path, shared: Path, tmp_path: Path) -> None:
    weights = shared / "weights" / f"{ENCODER}.safetensors"
    run, out, store = tmp_path / "run", tmp_path / "out", tmp_path / "store"
    scan = sorted((hippocampi / "imagesTr").iterdir())[0]
    train = f"train {hippocampi} --store {store} --run {run} --encoder {ENCODER} --weights {weights}"
    small = "--image-size 56 56 --steps 3 --batch-size 4 --validation-cases 1 --validate-every 3 --accelerator cpu"
    assert main(f"{train} {small}".split()) == 0
    assert main(["evaluate", str(run)]) == 0
    assert main(["predict", str(run), str(scan), str(out)]) == 0

    scores = Scores.read(run / "evaluation")
    assert len(scores.cases) == 2
    assert scores.classes == ("Anterior", "Posterior")
    given, written = nifti1.load(scan), nifti1.load(out / scan.name)
    assert written.shape == given.shape
    assert np.array_equal(np.asarray(written.affine), np.asarray(given.affine))
    assert set(np.unique(np.asanyarray(written.dataobj))) <= {0, 1, 2}


@pytest.mark.real
@pytest.mark.long
def test_hippocampus_in_a_quarter_of_an_hour(shared: Path, tmp_path: Path) -> None:
    """The figure in docs/results.md, and the target it was held against."""
    dataset, run = shared / "data" / "Task04_Hippocampus", tmp_path / "run"
    weights = shared / "weights" / f"{ENCODER}.safetensors"
    train = f"train {dataset} --store {tmp_path / 'store'} --run {run} --encoder {ENCODER} --weights {weights}"
    how = "--image-size 112 112 --precision bf16-mixed --steps 360 --validation-cases 8 --validate-every 180"
    assert main(f"{train} {how}".split()) == 0
    assert main(["evaluate", str(run)]) == 0
    assert Scores.read(run / "evaluation").mean() >= 0.84
