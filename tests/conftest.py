"""What all tests share: array shapes are checked as they run, and a small data set, store and run to look at."""

# ruff: noqa: E402

from collections.abc import Callable
from pathlib import Path

from jaxtyping import install_import_hook

install_import_hook("inflate3d", "beartype.beartype")  # before the package is imported, in every xdist worker

import nibabel
import numpy as np
import pytest
import torch

from inflate3d.config import ModelConfig, RunConfig, TrainingConfig
from inflate3d.datasets.case import Case, Dataset
from inflate3d.datasets.msd import write_msd_listing
from inflate3d.datasets.phantom import write_phantoms
from inflate3d.preparation.prepare import prepare
from inflate3d.preparation.store import Store
from inflate3d.run_folder import RunFolder

torch.set_num_threads(1)


@pytest.fixture(scope="session")
def shared() -> Path:
    """Real scans and weights beside the checkout."""
    folder = Path(__file__).parents[1].parent / "shared"
    if not folder.is_dir():
        pytest.skip(f"real scans and weights are not here: no folder {folder}")
    return folder


@pytest.fixture(scope="session")
def phantoms(tmp_path_factory) -> Dataset:
    """Five phantom cases."""
    return write_phantoms(tmp_path_factory.mktemp("phantoms"), 5)


@pytest.fixture(scope="session")
def phantom_store(phantoms, tmp_path_factory) -> Store:
    """The phantoms, prepared."""
    return prepare(phantoms, tmp_path_factory.mktemp("store"), workers=1)


@pytest.fixture(scope="session")
def tiny_config(phantoms, phantom_store) -> RunConfig:
    """The smallest training that does all that a training does."""
    return RunConfig(
        dataset=phantoms.root,
        store=phantom_store.folder,
        model=ModelConfig(
            encoder="resnet10t", weights="none", depth=3, image_size=(64, 64), decoder_channels=8, detail_channels=4
        ),
        training=TrainingConfig(
            steps=2, batch_size=2, validate_every=2, validation_cases=1, accelerator="cpu", workers=0
        ),
    )


@pytest.fixture(scope="session")
def tiny_run(tiny_config, phantom_store, tmp_path_factory) -> RunFolder:
    """A finished run of two steps, not to be changed."""
    from inflate3d.training.run import train

    folder = RunFolder(tmp_path_factory.mktemp("runs") / "tiny")
    train(tiny_config, folder, phantom_store)
    return folder


TOY_SHAPE = (20, 24, 7)
TOY_AFFINE = np.diag([1.0, 1.0, 3.0, 1.0])
TOY_CLASSES = {0: "background", 2: "liver", 5: "tumour"}

WriteToys = Callable[..., Dataset]


@pytest.fixture(scope="session")
def write_toys() -> WriteToys:
    """Writes data sets of tiny CT scans with a bright box in each; label values have gaps."""
    return _write_toys


def _write_toys(folder: Path, cases: int = 5, shape: tuple[int, int, int] = TOY_SHAPE) -> Dataset:
    listed = []
    for index in range(cases):
        random = np.random.default_rng(index)
        labels = np.zeros(shape, np.uint8)
        labels[5:12, 6:16, 1:-1] = 2
        labels[8:10, 9:12, 2:-2] = 5
        scan = (random.normal(0, 10, shape) + 100 * labels).astype(np.int16)
        case = Case(f"toy{index}", (folder / f"imagesTr/toy{index}.nii.gz",), folder / f"labelsTr/toy{index}.nii.gz")
        assert case.label is not None
        for path, array in ((case.images[0], scan), (case.label, labels)):
            path.parent.mkdir(parents=True, exist_ok=True)
            nibabel.Nifti1Image(array, TOY_AFFINE).to_filename(path)
        listed.append(case)
    dataset = Dataset("Toys", folder, ("CT",), TOY_CLASSES, tuple(listed))
    write_msd_listing(dataset)
    return dataset
