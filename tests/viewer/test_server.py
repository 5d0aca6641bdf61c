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
from matplotlib import image as matplotlib_image

from inflate3d.report.sheet import ClassEntry, LabelMap, list_classes
from inflate3d.viewer.page import label_nifti, nifti, page_files, setup
from inflate3d.viewer.server import HOST, PageServer

AFFINE = np.array([[-0.5, 0.1, 0, 10], [0.1, 0.5, 0, -20], [0, 0, 2, 5], [0, 0, 0, 1.0]])
EVIL = "</script><script>alert(1)</script>"


def ball(shape=(24, 24, 12), radius=8):
    places = np.stack(np.meshgrid(*(np.arange(size) - size / 2 for size in shape), indexing="ij"))
    return np.linalg.norm(places * np.array([1, 1, 2])[:, None, None, None], axis=0) < radius


@pytest.fixture(scope="module")
def files():
    mask = ball()
    maps = [LabelMap(EVIL, mask * np.uint8(7)), LabelMap("prediction", ball(radius=6) * np.uint8(7))]
    classes = list_classes(maps, {7: "liver"})
    texts = setup("scan", [each.name for each in maps], classes, (0.0, 200.0))
    scan = nifti(np.where(mask, 100, 50).astype(np.int16), AFFINE)
    return page_files(texts, scan, [label_nifti(each.array, AFFINE, classes) for each in maps])


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
    ["/", "/scan", "/TOKEN", "/TOKEN/other", "/TOKEN/../scan", "/TOKEN//etc/passwd", "/TOKEN/%2e%2e/%2e%2e/etc/passwd",
     "/TOKEN/scan?x=1", "/guess/scan", "http://elsewhere/TOKEN/scan"],
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


def test_names_are_shown_as_text_and_the_page_is_whole(files):
    page = files[""][0].decode()
    assert EVIL not in page
    found = re.search(r'id="setup">(.*?)</script>', page, re.DOTALL)
    assert found and json.loads(found[1])["maps"] == [EVIL, "prediction"]
    assert set(re.findall(r'(?:src|href)="([^"]*)"', page)) - {"data:,"} <= set(files)


@pytest.mark.parametrize(
    ("kind", "expected"), [("uint8", "uint8"), ("int16", "int16"), ("float32", "float32"), ("float64", "float32"),
                           ("uint16", "float32"), ("bool", "float32")]
)  # fmt: skip
def test_scans_in_memory_keep_values_and_place(kind, expected):
    array = (np.arange(24).reshape(2, 3, 4) % (2 if kind == "bool" else 99)).astype(kind)
    image = nibabel.Nifti1Image.from_bytes(gzip.decompress(nifti(array, AFFINE)))
    assert image.get_data_dtype() == np.dtype(expected)
    np.testing.assert_array_equal(np.asarray(image.dataobj), array.astype(np.float32))
    np.testing.assert_allclose(np.asarray(image.affine), AFFINE, atol=1e-6)


def test_label_values_become_places_in_the_legend():
    classes = [ClassEntry(5, "a", 1), ClassEntry(60000, "b", 2)]
    array = np.array([[[0, 5, 60000, 9]]], np.uint16)
    image = nibabel.Nifti1Image.from_bytes(gzip.decompress(label_nifti(array, AFFINE, classes)))
    assert np.asarray(image.dataobj).ravel().tolist() == [0, 1, 2, 0]


def test_browser_draws_both_label_maps(server, browse, tmp_path):
    shot = tmp_path / "page.png"
    shot.write_bytes(browse(server.address, picture=True, size=(900, 600), seconds=6))
    picture = matplotlib_image.imread(shot)[..., :3]
    red, _, blue = np.moveaxis(picture, -1, 0)
    orange = (red > blue + 0.25) & (picture[..., 1] > 0.35)  # the first class's color over gray
    left, right = orange[150:, :450].sum(), orange[150:, 450:].sum()
    assert left > right > 500  # the second map's ball is smaller


def test_a_client_that_leaves_causes_no_traceback(files, capfd):
    large = {**files, "scan": (bytes(50_000_000), "application/octet-stream")}
    with PageServer(large) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        host = f"{HOST}:{server.server_port}"
        whole = f"GET {server.address.removeprefix(f'http://{host}')}scan HTTP/1.1\r\nHost: {host}\r\n\r\n"
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
