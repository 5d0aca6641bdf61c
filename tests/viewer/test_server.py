import gzip
import http.client
import json
import re
import socket
import struct
import threading
from urllib.request import urlopen

import nibabel
import numpy as np
import pytest

from inflate3d.errors import DataError
from inflate3d.report.sheet import LabelMap, list_classes
from inflate3d.viewer.page import labels_file, labels_of_file, scan_file, still_files
from inflate3d.viewer.server import HOST, PageServer
from inflate3d.volume import Volume

AFFINE = np.array([[-0.5, 0.1, 0, 10], [0.1, 0.5, 0, -20], [0, 0, 2, 5], [0, 0, 0, 1.0]])
EVIL = "</script><script>alert(1)</script>"


def ball(shape=(24, 24, 12), radius=8):
    places = np.stack(np.meshgrid(*(np.arange(size) - size / 2 for size in shape), indexing="ij"))
    return np.linalg.norm(places * np.array([1, 1, 2])[:, None, None, None], axis=0) < radius


@pytest.fixture(scope="module")
def files():
    mask = ball()
    maps = [LabelMap(EVIL, mask * np.uint8(7)), LabelMap("prediction", ball(radius=6) * np.uint8(7))]
    classes = list_classes(maps, {7: EVIL})
    scan = np.where(mask, 100, 50).astype(np.int16)
    scan[0, 0, 0] = 0
    return still_files(EVIL, Volume(scan[np.newaxis], AFFINE), maps, classes)


@pytest.fixture(scope="module")
def server(files):
    with PageServer(files) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def ask(server, path, host=None, method="GET"):
    connection = http.client.HTTPConnection(HOST, server.server_port, timeout=5)
    connection.putrequest(method, path, skip_host=True)
    connection.putheader("Host", host or f"{HOST}:{server.server_port}")
    connection.endheaders()
    answer = connection.getresponse()
    body = answer.read()
    connection.close()
    return answer, body


def test_every_file_is_given_out_whole(server, files):
    for name, (content, kind) in files.items():
        with urlopen(server.address + name, timeout=5) as answer:
            assert answer.read() == content
            assert answer.headers["Content-Type"].startswith(kind)
            assert "default-src 'none'" in answer.headers["Content-Security-Policy"]


@pytest.mark.parametrize(
    "path",
    ["/", "/page/room", "/TOKEN", "/TOKEN/other", "/TOKEN/../page/room", "/TOKEN//etc/passwd",
     "/TOKEN/%2e%2e/%2e%2e/etc/passwd", "/TOKEN/page/room?x=1", "/guess/page/room", "http://elsewhere/TOKEN/page/room"],
)  # fmt: skip
def test_nothing_else_is_given_out(server, path):
    token = server.address.split("/")[3]
    answer, body = ask(server, path.replace("TOKEN", token))
    assert answer.status == 404
    assert body == b"not found\n"


def test_other_host_names_and_methods_are_refused(server):
    path = "/" + server.address.split("/", 3)[3]
    assert ask(server, path)[0].status == 200
    assert ask(server, path, host="attacker.example")[0].status == 404
    assert ask(server, path, method="HEAD")[1] == b""
    assert ask(server, path, method="POST")[0].status == 501


def test_tokens_differ_and_only_this_machine_is_served(server, files):
    with PageServer(files) as other:
        assert other.address.split("/")[3] != server.address.split("/")[3]
        assert len(other.address.split("/")[3]) >= 20
        assert other.server_address[0] == HOST


def test_page_is_whole_and_holds_no_script_of_its_own(files):
    page = files[""][0].decode()
    assert set(re.findall(r'(?:src|href)="([^"]*)"', page)) - {"data:,"} <= set(files)
    assert not re.search(r"<script>|<style>|\son\w+=|style=|javascript:|https?:", page)
    scripts = {name: content.decode() for name, (content, _) in files.items() if name.endswith(".js")}
    own = "".join(text for name, text in scripts.items() if "niivue" not in name)
    assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(|new Function", own)
    imported = set(re.findall(r'from "\./([\w.]+)"', own))
    assert imported and {f"static/{name}" for name in imported} <= set(files)


def test_documents_name_what_is_served(files):
    case = json.loads(files["page/cases/0"][0])
    assert case["name"] == EVIL
    assert [version["name"] for version in case["versions"]] == [EVIL, "prediction"]
    assert all(f"page/cases/0/labels/{version['id']}" in files for version in case["versions"])
    assert json.loads(files["page/room"][0])["classes"] == [{"name": EVIL, "value": 7, "color": "#e69f00"}]


@pytest.mark.parametrize(
    ("kind", "expected"), [("uint8", "uint8"), ("int16", "int16"), ("float32", "float32"), ("float64", "float32"),
                           ("uint16", "float32"), ("bool", "float32")]
)  # fmt: skip
def test_scans_are_turned_and_straightened_and_keep_values(kind, expected):
    array = (np.arange(24).reshape(2, 3, 4) % (2 if kind == "bool" else 99)).astype(kind)
    image = nibabel.Nifti1Image.from_bytes(gzip.decompress(scan_file(Volume(array[np.newaxis], AFFINE))))
    assert image.get_data_dtype() == np.dtype(expected)
    np.testing.assert_array_equal(
        np.asarray(image.dataobj), array[::-1].astype(np.float32)
    )  # the first axis leads left
    np.testing.assert_allclose(np.asarray(image.affine), np.diag([0.5099, 0.5099, 2, 1]), atol=1e-4)


TILT = np.array([[0.9, -0.3, 0.3], [0.36, 0.9, -0.2], [-0.2, 0.3, 0.93]])


@pytest.mark.parametrize("codes", ["RAS", "LPS", "PIR", "LSA", "AIL"])
@pytest.mark.parametrize("turn", [np.eye(3), TILT])
def test_label_maps_return_to_the_bit_from_every_orientation(codes, turn):
    affine = np.eye(4)
    affine[:3, :3] = turn * [0.7, 0.8, 3]
    scan = Volume(np.zeros((1, 4, 5, 6), np.int16), affine).reorient(codes)
    numbers = np.random.default_rng(0).integers(0, 4, scan.shape).astype(np.uint8)
    sent = gzip.decompress(labels_file(numbers, scan))
    np.testing.assert_array_equal(labels_of_file(sent, scan, classes=3), numbers)
    turned = nibabel.as_closest_canonical(nibabel.Nifti1Image(numbers, scan.affine))
    np.testing.assert_array_equal(np.frombuffer(sent, np.uint8), np.asarray(turned.dataobj).ravel(order="F"))


@pytest.mark.parametrize(("content", "message"), [(bytes(23), "does not fit"), (bytes(25), "does not fit"),
                                                  (b"\4" + bytes(23), "unknown classes")])  # fmt: skip
def test_label_maps_that_do_not_fit_are_refused(content, message):
    with pytest.raises(DataError, match=message):
        labels_of_file(content, Volume(np.zeros((1, 2, 3, 4), np.int16), AFFINE), classes=3)


def test_a_client_that_leaves_causes_no_traceback(files, capfd):
    large = {**files, "large": (bytes(50_000_000), "application/octet-stream")}
    with PageServer(large) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        host = f"{HOST}:{server.server_port}"
        whole = f"GET {server.address.removeprefix(f'http://{host}')}large HTTP/1.1\r\nHost: {host}\r\n\r\n"
        for part in (b"", b"GET ", whole.encode()):
            client = socket.create_connection((HOST, server.server_port))
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # a reset, at once
            client.sendall(part)
            if part.endswith(b"\r\n\r\n"):
                assert client.recv(10)
            client.close()
        server.shutdown()
        thread.join()
    assert capfd.readouterr() == ("", "")
