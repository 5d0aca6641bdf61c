"""``/`` and ``/page/``: what the page loads, and the label maps that it sends."""

import gzip
import io
import json

import nibabel
import numpy as np
import pytest
from PIL import Image

from inflate3d.io import read_labels

VALUES = np.array([0, 2, 5])
"""Label values of the toys' classes by number."""


def packed(numbers):
    """As the page sends it, of scans that are in RAS+ order themselves."""
    return gzip.compress(numbers.astype(np.uint8).tobytes(order="F"))


def unpacked(answer, shape):
    assert answer.status_code == 200
    return np.frombuffer(gzip.decompress(answer.content), np.uint8).reshape(shape, order="F")


def save(client, case, content, **query):
    return client.post(f"/page/cases/{case}/labels", params={"tag": "draft", **query}, content=content)


def states(client):
    return {each["id"]: each["state"] for each in client.get("/page/cases").json()["cases"]}


def test_page_and_its_parts_are_served_with_a_policy(client):
    for address, kind in {
        "/": "text/html",
        "/static/app.js": "text/javascript",
        "/static/style.css": "text/css",
    }.items():
        answer = client.get(address)
        assert answer.status_code == 200 and answer.headers["content-type"].startswith(kind)
        assert "default-src 'none'" in answer.headers["content-security-policy"]
    for address in ("/static/page.py", "/static/..%2Fpage.py", "/static/"):
        assert client.get(address).status_code == 404


def test_cases_are_listed_with_what_is_known_of_them(client, service):
    room = client.get("/page/room").json()
    assert [(each["name"], each["value"]) for each in room["classes"]] == [("liver", 2), ("tumor", 5)]
    assert states(client) == {
        "toy0": "final",
        "toy1": "final",
        "toy2": "unlabeled",
        "toy3": "unlabeled",
        "toy4": "unlabeled",
    }
    document = client.get("/page/cases").json()
    assert document["predict"] is False and document["model"] == "no model yet"
    assert [each["name"] for each in document["strategies"]] == ["random"]
    assert client.get("/page/models").json() == {"in_service": None, "versions": []}
    case = client.get("/page/cases/toy0").json()
    assert case["shape"] == [20, 24, 7] and case["spacing"] == [1, 1, 3] and case["opened"] == ["0"]
    assert client.get("/page/cases/toy2").json()["versions"] == []


def test_scan_and_label_map_are_those_of_the_dataset(client, service):
    case = service.cases["toy0"]
    image = nibabel.Nifti1Image.from_bytes(gzip.decompress(client.get("/page/cases/toy0/scan/0").content))
    np.testing.assert_array_equal(np.asarray(image.dataobj), case.read_scan().array[0])
    numbers = unpacked(client.get("/page/cases/toy0/labels/0"), (20, 24, 7))
    np.testing.assert_array_equal(VALUES[numbers], read_labels(case.history.path(case.history.versions()[0])).array[0])


def test_what_is_drawn_is_saved_as_a_version_and_the_rest_stays(client, service):
    numbers = unpacked(client.get("/page/cases/toy0/labels/0"), (20, 24, 7)).copy()
    numbers[0, 0, 0] = 2
    first = save(client, "toy0", packed(numbers), base=0, tag="final", by=" Anna ").json()
    assert first["version"] == "1" and first["case"]["state"] == "final" and first["case"]["newest"] == 1
    (_, version) = service.cases["toy0"].history.versions()
    assert (version.tag, version.by) == ("final", "Anna")
    before = service.cases.read_labels("toy0", service.cases["toy0"].history.versions()[0]).array[0]
    after = service.cases.read_labels("toy0", version).array[0]
    assert after[0, 0, 0] == 5
    assert np.argwhere(before != after).tolist() == [[0, 0, 0]]
    drawn = np.zeros((20, 24, 7), np.uint8)
    drawn[3:6, 4:7, 2] = 1
    save(client, "toy2", packed(drawn))
    assert states(client)["toy2"] == "corrected"
    assert np.array_equal(unpacked(client.get("/page/cases/toy2/labels/1"), drawn.shape), drawn)


def test_values_that_the_page_merges_are_kept_where_nothing_is_drawn(client, service, monkeypatch):
    coding = service.cases.coding
    monkeypatch.setattr(service.cases, "coding", type(coding)(coding.values, coding.names, {9: 5}))
    original = service.cases["toy0"].history.path(service.cases["toy0"].history.versions()[0])
    image = nibabel.Nifti1Image.from_filename(original)
    values = np.asarray(image.dataobj).astype(np.uint8)
    values[values == 5] = 9
    nibabel.Nifti1Image(values, image.affine).to_filename(original)
    numbers = unpacked(client.get("/page/cases/toy0/labels/0"), values.shape).copy()
    assert 2 in numbers
    numbers[0, 0, 0] = 1
    save(client, "toy0", packed(numbers), base=0)
    saved = service.cases.read_labels("toy0", service.cases["toy0"].history.versions()[-1]).array[0]
    values[0, 0, 0] = 2
    np.testing.assert_array_equal(saved, values)


@pytest.mark.parametrize("number", range(6))
def test_phantoms_of_every_orientation_return_to_the_bit(number, tmp_path):
    """Axial, sagittal, coronal, flipped and oblique scans; voxels are found at their places in the world."""
    from inflate3d.datasets.phantom import make_phantom
    from inflate3d.server.page import PageData
    from inflate3d.server.project import open_project
    from inflate3d.server.service import Service

    scan, labels = make_phantom(0, number)
    (tmp_path / "scans").mkdir()
    nibabel.Nifti1Image(scan.array[0], scan.affine).to_filename(tmp_path / "scans" / "case.nii.gz")
    project = open_project(tmp_path / "scans", classes=("organ", "gland", "vessel", "lesion"))
    with Service.open(project, tmp_path / "annotations", {"device": "cpu"}) as service:
        data = PageData(service)
        canonical = nibabel.as_closest_canonical(nibabel.Nifti1Image(labels.array[0], scan.affine))
        sent = gzip.compress(np.asarray(canonical.dataobj).tobytes(order="F"))
        data.save("case", sent, base=None, newest=0, tag="final", by=None)
        file = service.cases["case"].history.path(service.cases["case"].history.versions()[0])
        saved = nibabel.Nifti1Image.from_filename(file)
        np.testing.assert_array_equal(np.asarray(saved.dataobj), labels.array[0])
        np.testing.assert_array_equal(
            saved.affine, nibabel.Nifti1Image.from_filename(service.cases["case"].case.scan).affine
        )
        assert gzip.decompress(data.labels("case", 1)) == gzip.decompress(sent)


def test_a_label_map_that_someone_saved_meanwhile_is_not_passed_over(client):
    empty = packed(np.zeros((20, 24, 7)))
    assert save(client, "toy2", empty, by="Anna").status_code == 200
    refused = save(client, "toy2", empty, by="Ben")
    assert refused.status_code == 409 and "Anna" in refused.text
    assert save(client, "toy2", empty, by="Ben", newest=1).status_code == 200


@pytest.mark.parametrize(
    "content",
    [b"", b"no gzip", packed(np.zeros(3359)), packed(np.zeros(3361)), packed(np.full(3360, 3)),
     packed(np.zeros(3360))[:-9], gzip.compress(bytes(50_000_000))],
    ids=["empty", "no gzip", "too short", "too long", "unknown class", "cut off", "bomb"],
)  # fmt: skip
def test_what_is_no_label_map_of_the_scan_is_refused(client, service, content):
    answer = save(client, "toy2", content)
    assert answer.status_code == 400 and json.loads(answer.text)["error"]["what"]
    assert service.cases["toy2"].history.versions() == []


@pytest.mark.slow
@pytest.mark.parametrize(
    "address",
    ["/page/cases/none", "/page/cases/toy2/labels/0", "/page/cases/toy2/labels/-1", "/page/cases/toy0/scan/1",
     "/page/cases/toy0/scan/-1", "/page/cases/..%2Ftoy0", "/page/cases/none/thumbnail"],
)  # fmt: skip
def test_unknown_addresses_are_not_found(client, address):
    assert client.get(address).status_code == 404


def test_thumbnails_follow_the_newest_label_map(client):
    def colors():
        with Image.open(io.BytesIO(client.get("/page/cases/toy2/thumbnail").content)) as picture:
            return np.ptp(np.asarray(picture).astype(int), axis=2).max()

    assert colors() == 0
    drawn = np.zeros((20, 24, 7), np.uint8)
    drawn[5:15, 5:15, 3] = 1
    assert save(client, "toy2", packed(drawn)).status_code == 200
    assert colors() > 50


def test_prediction_without_a_model_is_refused(client):
    assert client.post("/page/cases/toy2/predict").status_code == 409
