"""A project with labeled and unlabeled cases, and its server in this process."""

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import nibabel
import numpy as np
import pytest
from fastapi.testclient import TestClient

from inflate3d.server.app import create_app
from inflate3d.server.guard import Rules
from inflate3d.server.project import open_project
from inflate3d.server.service import Service

SHAPE = (20, 24, 7)
AFFINE = np.diag([1.0, 1.0, 3.0, 1.0])


@pytest.fixture
def toys(write_toys, tmp_path) -> Path:
    """A folder with the dataset ``Toys`` of two labeled cases, and three scans without labels in ``scans``."""
    dataset = write_toys(tmp_path / "Toys", 5)
    (tmp_path / "scans").mkdir()
    listing = json.loads((dataset.root / "dataset.json").read_text(encoding="utf-8"))
    listing["training"] = listing["training"][:2]
    (dataset.root / "dataset.json").write_text(json.dumps(listing), encoding="utf-8")
    for case in dataset.cases[2:]:
        shutil.move(case.scan, tmp_path / "scans" / case.scan.name)
    return tmp_path


@pytest.fixture
def service(toys) -> Iterator[Service]:
    project = open_project(toys / "Toys", toys / "scans")
    with Service.open(project, toys / "annotations", {"device": "cpu"}) as service:
        yield service


@pytest.fixture
def client(service) -> Iterator[TestClient]:
    with TestClient(create_app(service, Rules()), base_url="http://127.0.0.1") as client:
        yield client


@pytest.fixture
def drawn() -> np.ndarray:
    """A label map as a client sends it: two classes, by number."""
    labels = np.zeros(SHAPE, np.uint8)
    labels[3:5, 4:6, 2], labels[7:9, 4:8, 3] = 1, 2
    return labels


def nifti(array: np.ndarray, affine: np.ndarray = AFFINE) -> bytes:
    return nibabel.Nifti1Image(array, affine).to_bytes()


ReadNifti = Callable[[bytes], np.ndarray]


@pytest.fixture
def read_nifti(tmp_path) -> ReadNifti:
    """Voxels of a received file, read by nibabel."""

    def read(content: bytes, name: str = "received.nii.gz") -> np.ndarray:
        (tmp_path / name).write_bytes(content)
        return np.asarray(nibabel.Nifti1Image.from_filename(tmp_path / name).dataobj)

    return read
