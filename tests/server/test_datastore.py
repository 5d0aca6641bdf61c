"""``/datastore/``: scans and label maps, there and back."""

import json

import nibabel
import numpy as np
import pytest
from fastapi.testclient import TestClient

from inflate3d.io import read_labels, read_volume
from inflate3d.server.app import create_app
from inflate3d.server.guard import Rules
from inflate3d.server.project import open_project
from inflate3d.server.service import Service

from .conftest import AFFINE, SHAPE, nifti

INFO = json.dumps({"client_id": "ann", "label_info": [{"name": "liver", "idx": 1}, {"name": "tumor", "idx": 2}]})


def save(client, content, *, image="toy3", tag="", name="label.nii", params=INFO):
    query = f"image={image}&tag={tag}" if tag else f"image={image}"
    return client.put(f"/datastore/label?{query}", data={"params": params}, files={"label": (name, content)})


def test_statistics_and_lists(client, toys):
    assert client.get("/datastore/").json() == {"total": 5, "completed": 2, "label_tags": {"final": 2}}
    objects = client.get("/datastore/?output=all").json()["objects"]
    assert sorted(objects) == [f"toy{number}" for number in range(5)]
    assert objects["toy1"]["labels"]["final"]["ext"] == ".nii.gz" and objects["toy4"]["labels"] == {}
    assert client.get("/datastore/?output=train").json()[1] == {
        "image": str(toys / "Toys/imagesTr/toy1.nii.gz"),
        "label": str(toys / "Toys/labelsTr/toy1.nii.gz"),
    }
    assert client.get("/info/").json()["labels"] == ["liver", "tumor"]


def test_saved_label_map_is_on_the_scans_grid_with_the_datasets_values(client, toys, drawn, read_nifti):
    answer = save(client, nifti(drawn))
    assert answer.json() == {"image": "toy3", "label": "toy3", "tag": "final", "version": 1}
    stored = nibabel.Nifti1Image.from_filename(toys / "annotations/labels/toy3/0001.nii.gz")
    scan = nibabel.Nifti1Image.from_filename(toys / "scans/toy3.nii.gz")
    assert np.array_equal(np.asarray(stored.dataobj), np.array([0, 2, 5])[drawn])
    assert np.array_equal(stored.header["srow_x"], scan.header["srow_x"])
    received = client.get("/datastore/label?label=toy3&tag=final")
    assert np.array_equal(read_nifti(received.content), drawn)
    assert client.get("/datastore/").json()["completed"] == 3
    assert client.get("/datastore/versions?image=toy3").json()[0]["by"] == "ann"


def test_label_map_with_other_axes_is_turned(client, toys, drawn):
    turned = AFFINE.copy()
    turned[0, 0], turned[0, 3] = -1, SHAPE[0] - 1
    assert save(client, nifti(drawn[::-1], turned)).status_code == 200
    assert np.array_equal(
        read_labels(toys / "annotations/labels/toy3/0001.nii.gz").array[0], np.array([0, 2, 5])[drawn]
    )


def test_the_datasets_own_labels_stay_as_they_are(client, toys, drawn, read_nifti):
    own = toys / "Toys/labelsTr/toy0.nii.gz"
    before, labels = own.read_bytes(), read_labels(own).array[0]
    received = client.get("/datastore/label?label=toy0&tag=final").content
    assert np.array_equal(np.array([0, 2, 5])[read_nifti(received)], labels)
    assert save(client, nifti(drawn), image="toy0", tag="draft").json()["version"] == 1
    assert own.read_bytes() == before
    assert np.array_equal(read_nifti(client.get("/datastore/label?label=toy0").content), drawn)
    assert client.get("/datastore/label?label=toy0&version=0").content == received


@pytest.mark.parametrize(
    ("content", "how"),
    [
        (nifti(np.zeros((5, 5, 5), np.uint8)), {}),
        (b"no image", {}),
        (b"PK\3\4", {"name": "labels.zip"}),
        (nifti(np.full(SHAPE, 7, np.uint8)), {}),
        (nifti(np.full(SHAPE, 2, np.uint8)), {"params": "{}"}),
        (nifti(np.ones(SHAPE, np.uint8)), {"params": "[1"}),
        (nifti(np.ones(SHAPE, np.uint8)), {"tag": "predicted"}),
        (nifti(np.ones(SHAPE, np.uint8)), {"tag": "../final"}),
        (nifti(np.ones(SHAPE, np.uint8)), {"image": "..%2Ftoy0"}),
    ],
)
def test_what_is_no_label_map_of_the_case_is_refused(client, toys, content, how):
    answer = save(client, content, **how)
    assert 400 <= answer.status_code < 410 and answer.json()["error"]["what"]
    assert not list((toys / "annotations/labels").rglob("*.nii*"))


def test_withdrawn_label_map_is_not_found_but_its_version_is(client, drawn):
    save(client, nifti(drawn))
    assert client.delete("/datastore/label?id=toy3&tag=final").status_code == 200
    assert client.get("/datastore/label?label=toy3&tag=final").status_code == 404
    assert client.head("/datastore/label?image=toy3&tag=final").status_code == 404
    assert client.get("/datastore/label?label=toy3&version=1").status_code == 200


def test_upload_is_a_case_after_a_restart(client, service, toys):
    content = (toys / "scans/toy2.nii.gz").read_bytes()
    upload = {"data": {"params": '{"site": "A"}'}, "files": {"file": ("any name.nii.gz", content)}}
    assert client.put("/datastore/image?image=new", **upload).json() == {"image": "new"}
    assert client.put("/datastore/image?image=new", **upload).status_code == 200  # the same again
    assert client.put("/datastore/image?image=toy0", **upload).status_code == 409
    assert client.put("/datastore/image?image=NEW", **upload).status_code == 409
    assert client.put("/datastore/image?image=..%2Fnew", **upload).status_code == 400
    assert client.get("/datastore/image?image=new").content == content
    assert client.get("/datastore/image/info?image=new").json()["site"] == "A"
    assert client.delete("/datastore/image?id=toy0").status_code == 409
    reopened = type(service.cases)(service.project, toys / "annotations")
    assert reopened["new"].read_scan() == read_volume(toys / "scans/toy2.nii.gz")
    assert client.delete("/datastore/image?id=new").status_code == 200
    assert client.get("/datastore/image?image=new").status_code == 404


def test_checksum(client, toys):
    import hashlib

    digest = hashlib.sha256((toys / "scans/toy2.nii.gz").read_bytes()).hexdigest()
    assert client.head(f"/datastore/image?image=toy2&check_sum=SHA256:{digest}").status_code == 200
    assert client.head(f"/datastore/image?image=toy2&check_sum={digest[::-1]}").status_code == 404


def test_one_server_at_a_time(service, toys):
    from inflate3d.errors import OutputError

    with pytest.raises(OutputError), Service.open(open_project(toys / "Toys"), toys / "annotations", {}):
        pass


def test_dicom_series_travels_as_nifti_and_back(write_series, tmp_path):
    """What a client draws on the NIfTI is saved on the series' own grid."""
    values = np.arange(4 * 5 * 6, dtype=np.int16).reshape(4, 5, 6)
    write_series(tmp_path / "series", values)
    project = open_project(tmp_path / "series", classes=("liver",))
    with Service.open(project, tmp_path / "annotations", {"device": "cpu"}) as service:
        client = TestClient(create_app(service, Rules()), base_url="http://127.0.0.1")
        (case,) = service.cases
        assert client.get(f"/datastore/image/info?image={case.id}").json()["path"] == ""
        (tmp_path / "sent.nii.gz").write_bytes(client.get(f"/datastore/image?image={case.id}").content)
        sent, series = read_volume(tmp_path / "sent.nii.gz"), read_volume(tmp_path / "series")
        assert np.array_equal(sent.array, series.array) and sorted(sent.array.ravel()) == list(range(values.size))
        drawn = (sent.array[0] > 50).astype(np.uint8)
        params = json.dumps({"label_info": [{"name": "liver", "idx": 1}]})
        assert save(client, nifti(drawn, sent.affine), image=case.id, params=params).status_code == 200
        stored = read_labels(case.history.path(case.history.versions()[0]))
    assert np.array_equal(stored.array[0], series.array[0] > 50) and np.allclose(stored.affine, series.affine)
