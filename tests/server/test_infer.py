"""``/infer/``: by id, by file, by session; in parts, as a file, as JSON."""

import numpy as np
import pytest
from fastapi.testclient import TestClient

from inflate3d.inference.predictor import Predictor
from inflate3d.io import read_volume, write_volume
from inflate3d.models.checkpoint import write_model_folder
from inflate3d.server.app import create_app
from inflate3d.server.guard import Rules
from inflate3d.server.project import open_project
from inflate3d.server.service import Service


@pytest.fixture(scope="module")
def place(random_model, phantoms, tmp_path_factory):
    """A model folder, and two scans."""
    folder = tmp_path_factory.mktemp("served")
    write_model_folder(folder / "model", random_model.architecture, random_model.plan, random_model.state_dict())
    (folder / "scans").mkdir()
    for case in phantoms.cases[:2]:
        (folder / "scans" / case.scan.name).write_bytes(case.scan.read_bytes())
    return folder


@pytest.fixture(scope="module")
def service(place):
    with Service.open(
        open_project(place / "model", place / "scans"), place / "annotations", {"device": "cpu"}
    ) as service:
        yield service


@pytest.fixture(scope="module")
def client(service):
    return TestClient(create_app(service, Rules()), base_url="http://127.0.0.1")


@pytest.fixture(scope="module")
def expected(place, service, random_model):
    """What `Predictor` says of the first scan, as class numbers."""
    scan = read_volume(next(iter(service.cases)).case.scan)
    labels = Predictor(random_model, device="cpu").predict(scan).labels
    return np.searchsorted([0, 3, 4, 90, 700], labels)


@pytest.mark.slow
def test_prediction_of_a_case_is_the_predictors_and_is_kept(client, service, expected, read_nifti):
    case = next(iter(service.cases))
    address = f"/infer/{service.name}?image={case.id}"
    image = client.post(f"{address}&output=image")
    assert np.array_equal(read_nifti(image.content), expected) and expected.any()
    said = client.post(f"{address}&output=json").json()
    assert list(said["label_names"].values()) == [1, 2, 3, 4] and said["model_version"] == 0
    (version,) = case.history.versions()  # asked twice, predicted once
    assert version.tag == "predicted" and version.model == 0 and version.confidence
    assert np.array_equal(read_volume(case.history.path(version)).array[0], np.array([0, 3, 4, 90, 700])[expected])
    assert client.get(f"/datastore/label?label={case.id}&tag=original").status_code == 200


def test_uploaded_scan_and_session(client, service, expected, read_nifti):
    case = next(iter(service.cases))
    content = case.case.scan.read_bytes()
    form = {"data": {"params": '{"result_extension": ".nii"}'}, "files": {"file": ("x.nii.gz", content)}}
    assert np.array_equal(
        read_nifti(client.post(f"/infer/{service.name}?output=image", **form).content, "x.nii"), expected
    )
    made = client.put("/session/", files=[("files", ("scan.nii.gz", content))]).json()
    name = made["session_id"]
    image = client.post(f"/infer/{service.name}?session_id={name}&output=image")
    assert np.array_equal(read_nifti(image.content), expected)
    assert client.get(f"/session/{name}").json()["expiry"] == 3600
    assert client.delete(f"/session/{name}").status_code == 200
    assert client.get(f"/session/{name}").status_code == 404
    assert client.post(f"/infer/{service.name}?session_id={name}").status_code == 404


def test_values_that_the_model_was_not_trained_on(client, service, tmp_path):
    scan = read_volume(next(iter(service.cases)).case.scan)
    write_volume(tmp_path / "flat.nii.gz", scan.with_array(np.full_like(scan.array, 7)))
    content = (tmp_path / "flat.nii.gz").read_bytes()
    sent = client.post(f"/infer/{service.name}?output=json", files={"file": ("flat.nii.gz", content)}).json()
    assert sent["warnings"][0]["what"] == "all voxels have the same value"
    client.put("/datastore/?image=flat", files={"file": ("flat.nii.gz", content)})
    for _ in range(2):  # predicted once, said each time
        kept = client.post(f"/infer/{service.name}?image=flat&output=json").json()
        assert kept["warnings"] == sent["warnings"]
    assert client.post("/page/cases/flat/predict").json()["warnings"] == ["all voxels have the same value"]
    assert client.delete("/datastore/?id=flat").status_code == 200


@pytest.mark.parametrize(
    ("address", "status"),
    [
        ("/infer/other?image=x", 404),
        ("/infer/MODEL?image=none", 404),
        ("/infer/MODEL", 400),
        ("/infer/MODEL?output=dicom", 422),
    ],
)
def test_what_can_not_be_predicted(client, service, address, status):
    assert client.post(address.replace("MODEL", service.name)).status_code == status


def test_archives_and_folders_are_no_sessions(client):
    for name in ("scans.zip", "../../etc/passwd.tar.gz", "a.nii.gz.zip"):
        answer = client.put("/session/?uncompress=true", files=[("files", (name, b"PK\3\4"))])
        assert answer.status_code == 400
