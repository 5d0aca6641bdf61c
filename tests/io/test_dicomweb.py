"""Series on DICOMweb servers: a real Orthanc where it is installed, and answers that no server should give."""

import base64
import io
import json
import os
import shutil
import socket
import ssl
import subprocess
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import ClassVar
from urllib.parse import parse_qs, urlsplit

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


class Pacs(BaseHTTPRequestHandler):
    """A DICOMweb service that has one series, for those whom it knows."""

    protocol_version = "HTTP/1.1"
    known: ClassVar[set[str]] = set()
    images: ClassVar[list[Dataset]] = []
    stored: ClassVar[list[bytes]] = []

    def log_message(self, format: str, *_: object) -> None:  # noqa: A002 - the base class's name
        pass

    def do_GET(self) -> None:
        if self.headers.get("Authorization") not in self.known:
            return self._send(401, "text/plain", b"")
        if self.path.split("?")[0].endswith("/instances"):
            listed = [{"00080018": {"vr": "UI", "Value": [str(image.SOPInstanceUID)]}} for image in self.images]
            offset = int(parse_qs(urlsplit(self.path).query).get("offset", ["0"])[0])
            return self._send(200, "application/dicom+json", json.dumps(listed[offset:]).encode())
        body = b""
        for image in self.images:
            part = io.BytesIO()
            image.save_as(part, enforce_file_format=True)
            body += b"\r\n--edge\r\nContent-Type: application/dicom\r\n\r\n" + part.getvalue()
        return self._send(200, 'multipart/related; type="application/dicom"; boundary=edge', body + b"\r\n--edge--")

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self.headers.get("Authorization") not in self.known:
            return self._send(401, "text/plain", b"")
        self.stored.append(body)
        uid = str(self.images[0].SOPInstanceUID)
        answer = {"00081199": {"vr": "SQ", "Value": [{"00081155": {"vr": "UI", "Value": [uid]}}]}}
        return self._send(200, "application/dicom+json", json.dumps(answer).encode())

    def _send(self, status: int, kind: str, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


@pytest.fixture
def pacs(tmp_path, series):
    """A series on a server with TLS and a certificate that it signed itself."""
    if shutil.which("openssl") is None:
        pytest.skip("a certificate is made by openssl, which is not installed")
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    command = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=pacs"
    files = ["-addext", "subjectAltName=IP:127.0.0.1", "-keyout", str(key), "-out", str(certificate)]
    subprocess.run([*command.split(), *files], check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    Pacs.known, Pacs.images, Pacs.stored = set(), slices_of(series), []
    server = ThreadingHTTPServer(("127.0.0.1", 0), Pacs)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
    yield WebSeries(f"https://127.0.0.1:{server.server_port}/dicom-web", "1.2.3", "1.2.3.4"), certificate
    server.shutdown()
    server.server_close()


def test_tls_with_netrc_and_with_a_token(pacs, series, tmp_path, monkeypatch):
    address, certificate = pacs
    for name in ("DICOMWEB_TOKEN", "DICOMWEB_USER", "DICOMWEB_PASSWORD", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    fetched = iter(tmp_path / f"fetched{number}" for number in range(9))

    def again() -> WebSeries:
        """The same series, whose client reads the environment anew."""
        return WebSeries.parse(address.address)

    with pytest.raises(DataError) as caught:
        again().fetch(next(fetched))
    assert caught.value.got == "a certificate that is not trusted"

    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(certificate))
    with pytest.raises(DataError) as caught:
        again().fetch(next(fetched))
    assert caught.value.got == "HTTP status 401"

    (tmp_path / "netrc").write_text(f"machine 127.0.0.1 login {USER} password {PASSWORD}\n", encoding="utf-8")
    (tmp_path / "netrc").chmod(0o600)
    Pacs.known.add("Basic " + base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode())
    assert read_volume(again().fetch(next(fetched))) == read_volume(series)
    assert again().store(sorted(series.iterdir())[0]) == Pacs.images[0].SOPInstanceUID
    assert len(Pacs.stored) == 1

    Pacs.known = {"Bearer a-token"}
    monkeypatch.setenv("DICOMWEB_TOKEN", "a-token")  # wins over .netrc
    assert read_volume(again().fetch(next(fetched))) == read_volume(series)


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
