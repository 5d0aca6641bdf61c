"""Series on DICOMweb servers: a real Orthanc where it is installed, and answers that no server should give."""

import json
import os
import shutil
import socket
import subprocess
import time
from pathlib import Path

import numpy as np
import pydicom
import pytest
import requests
from dicomweb_client import DICOMwebClient
from pydicom import Dataset
from pydicom.sequence import Sequence

from inflate3d.cli import main
from inflate3d.errors import ConfigError, DataError, OutputError
from inflate3d.inference.predictor import Predictor
from inflate3d.io import read_labels, read_volume
from inflate3d.io.dicom import web
from inflate3d.io.dicom.web import WebSeries

PLUGIN = Path("/usr/share/orthanc/plugins/libOrthancDicomWeb.so")
USER, PASSWORD = "alice", "not-in-a-log"


def slices_of(folder: Path) -> list[Dataset]:
    return [pydicom.dcmread(file) for file in sorted(folder.iterdir())]


@pytest.fixture(scope="module")
def series(tmp_path_factory, write_series) -> Path:
    folder = tmp_path_factory.mktemp("ct") / "series"
    values = np.random.default_rng(0).integers(-200, 400, (6, 24, 20)).astype(np.int16)
    write_series(folder, values, modality="CT")
    return folder


@pytest.fixture(scope="module")
def orthanc(tmp_path_factory, series):
    """The address of an Orthanc of our own that has the series."""
    program = shutil.which("Orthanc", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
    if program is None or not PLUGIN.exists():
        pytest.skip("Orthanc with its DICOMweb plug-in is not installed (Debian: orthanc, orthanc-dicomweb)")
    folder = tmp_path_factory.mktemp("orthanc")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    settings = {
        "StorageDirectory": str(folder / "storage"),
        "IndexDirectory": str(folder / "index"),
        "HttpPort": port,
        "HttpBindAddresses": ["127.0.0.1"],
        "RemoteAccessAllowed": False,
        "DicomServerEnabled": False,
        "AuthenticationEnabled": True,
        "RegisteredUsers": {USER: PASSWORD},
        "Plugins": [str(PLUGIN)],
        "DicomWeb": {"Enable": True, "Root": "/dicom-web/"},
    }
    (folder / "orthanc.json").write_text(json.dumps(settings), encoding="utf-8")
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen([program, str(folder / "orthanc.json")], stdout=log, stderr=subprocess.STDOUT)
    try:
        while True:
            assert process.poll() is None, (folder / "log").read_text(encoding="utf-8", errors="replace")
            try:
                requests.get(f"http://127.0.0.1:{port}/system", auth=(USER, PASSWORD), timeout=60).raise_for_status()
                break
            except requests.ConnectionError:
                time.sleep(0.1)
        server = f"http://127.0.0.1:{port}/dicom-web"
        client_of(server).store_instances(slices_of(series))
        yield f"dicomweb+{server}/studies/1.2.3/series/1.2.3.4"
    finally:
        process.terminate()
        process.wait()


def client_of(server: str) -> DICOMwebClient:
    session = requests.Session()
    session.auth = (USER, PASSWORD)
    return DICOMwebClient(server, session)


@pytest.mark.slow
def test_prediction_goes_to_orthanc_and_is_read_back_equal(
    orthanc, series, random_model, tmp_path, monkeypatch, capsys
):
    random_model.save(tmp_path / "model")
    client = client_of(WebSeries.parse(orthanc).server)

    def segmentations():
        return client.search_for_series("1.2.3", search_filters={"Modality": "SEG"})

    monkeypatch.setenv("DICOMWEB_USER", USER)
    monkeypatch.setenv("DICOMWEB_PASSWORD", "wrong")
    assert main(["predict", str(tmp_path / "model"), orthanc, "--store"]) == 2
    error = capsys.readouterr()
    assert "DICOMWEB_USER" in error.err
    assert "wrong" not in error.out + error.err
    assert segmentations() == []

    monkeypatch.setenv("DICOMWEB_PASSWORD", PASSWORD)
    assert main(["predict", str(tmp_path / "model"), orthanc, "--store", "--device", "cpu", "--json"]) == 0
    output = capsys.readouterr()
    assert PASSWORD not in output.out + output.err
    (found,) = segmentations()
    (stored,) = client.retrieve_series("1.2.3", found["0020000E"]["Value"][0])
    assert stored.SOPInstanceUID == json.loads(output.out)["stored"]
    stored.save_as(tmp_path / "seg.dcm", enforce_file_format=True)
    scan = read_volume(series)
    expected = Predictor.load(tmp_path / "model", device="cpu").predict(scan).labels
    assert expected.any()
    structures = {name: value for value, name in random_model.plan.classes.items() if value}
    labels = read_labels(tmp_path / "seg.dcm", on=scan.grid, structures=structures)
    assert np.array_equal(labels.array[0], expected)


@pytest.fixture
def server(series, monkeypatch):
    """A client of a server that has the series; what it answers can be changed."""
    images = slices_of(series)
    listed = [{"00080018": {"Value": [str(image.SOPInstanceUID)]}} for image in images]
    stored: list[Dataset] = []

    def store(self, datasets, study=None):
        stored.extend(datasets)
        item = Dataset()
        item.ReferencedSOPInstanceUID = datasets[0].SOPInstanceUID
        answer = Dataset()
        answer.ReferencedSOPSequence = Sequence([item])
        return answer

    monkeypatch.setattr(DICOMwebClient, "search_for_instances", lambda *_, **__: listed)
    monkeypatch.setattr(DICOMwebClient, "iter_series", lambda *_: iter(images))
    monkeypatch.setattr(DICOMwebClient, "store_instances", store)
    return images, stored


WHOLE = WebSeries("https://pacs.invalid/dicom-web", "1.2.3", "1.2.3.4")


def test_address():
    assert WebSeries.parse("dicomweb+https://pacs.invalid/dicom-web/studies/1.2.3/series/1.2.3.4") == WHOLE
    assert WebSeries.parse(WHOLE.address) == WHOLE
    for wrong in ("dicomweb+https://pacs.invalid/studies/1.2", "dicomweb+ftp://a/studies/1/series/2"):
        with pytest.raises(ConfigError):
            WebSeries.parse(wrong)
    with pytest.raises(ConfigError) as caught:
        WebSeries.parse("dicomweb+https://alice:secret@pacs.invalid/dicom-web/studies/1/series/2")
    assert "secret" not in str(caught.value)


def test_fetched_series_is_the_series(server, series, tmp_path):
    assert read_volume(WHOLE.fetch(tmp_path)) == read_volume(series)


def test_half_a_series_is_not_predicted(server, tmp_path):
    server[0].pop()
    with pytest.raises(DataError, match="part of the series") as caught:
        WHOLE.fetch(tmp_path)
    assert caught.value.file == WHOLE.address


def test_image_of_another_series_is_refused(server, tmp_path):
    server[0][2].SeriesInstanceUID = "1.2.9"
    with pytest.raises(DataError, match="another series"):
        WHOLE.fetch(tmp_path)


def test_series_that_is_not_there(server, monkeypatch, tmp_path):
    monkeypatch.setattr(DICOMwebClient, "search_for_instances", lambda *_, **__: [])
    server[0].clear()
    with pytest.raises(DataError, match="no such series"):
        WHOLE.fetch(tmp_path)


def test_store_that_is_not_confirmed_is_an_error(server, series, monkeypatch):
    file = next(series.iterdir())
    assert WHOLE.store(file) == pydicom.dcmread(file).SOPInstanceUID
    item = Dataset()
    item.FailureReason = 0xA700
    answer = Dataset()
    answer.FailedSOPSequence = Sequence([item])
    monkeypatch.setattr(DICOMwebClient, "store_instances", lambda *_: answer)
    with pytest.raises(OutputError) as caught:
        WHOLE.store(file)
    assert "A700" in str(caught.value.got)
    monkeypatch.setattr(DICOMwebClient, "store_instances", lambda *_: Dataset())
    with pytest.raises(OutputError):
        WHOLE.store(file)


def test_server_that_is_down_or_does_not_answer_or_is_none(series, tmp_path, monkeypatch):
    monkeypatch.setattr(web, "_TIMEOUT", (0.2, 0.2))
    monkeypatch.setattr(web, "_ATTEMPTS", 1)
    with socket.socket() as silent:  # accepts, and never answers
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        slow = WebSeries(f"http://127.0.0.1:{silent.getsockname()[1]}/dicom-web", "1.2.3", "1.2.3.4")
        with pytest.raises(DataError) as caught:
            slow.fetch(tmp_path)
        assert "in time" in str(caught.value.got)
        with pytest.raises(OutputError):
            slow.store(next(series.iterdir()))
    shutil.rmtree(tmp_path / "1.2.3.4")
    with pytest.raises(DataError) as caught:  # now nobody listens there
        slow.fetch(tmp_path)
    assert "reached" in str(caught.value.got)


@pytest.mark.parametrize(
    "options",
    [
        ["scan.nii.gz", "--store"],
        ["scan.nii.gz"],
        [WHOLE.address],
        [WHOLE.address, "--store", "--suffix", ".nii.gz"],
    ],
)
def test_options_that_contradict_are_refused_before_anything(options, capsys):
    assert main(["predict", "runs/none", *options]) == 2
