"""Files elsewhere, which here are in memory, on a web server of this machine, or on the disk under an address."""

import http.server
import sys
import threading
from pathlib import Path

import fsspec
import pytest

from inflate3d.distributed.remote import RemoteFolder, is_remote
from inflate3d.errors import ConfigError, DataError, OutputError


@pytest.fixture
def bucket():
    """An empty folder in memory."""
    system = fsspec.filesystem("memory")
    system.store.clear()
    system.pseudo_dirs[:] = [""]
    yield system
    system.store.clear()


@pytest.fixture
def web(tmp_path):
    """A folder, and the address under which a web server shows it."""
    folder = tmp_path / "web"
    folder.mkdir()

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *parts):
            super().__init__(*parts, directory=str(folder))

        def log_message(self, format, *parts):  # noqa: A002
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Quiet) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield folder, f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.mark.parametrize("place", ["s3://bucket/scans", "gs://b/a.nii.gz", "https://host/a.nrrd?sig=1", "memory://a"])
def test_addresses(place):
    assert is_remote(place)


@pytest.mark.parametrize("place", ["scans", "/data/scans", "C:\\scans", "s3:/bucket", "a/b://c", "://x"])
def test_paths(place):
    assert not is_remote(place)


@pytest.mark.parametrize("protocol", ["memory://bucket", "file://{tmp}"])
def test_files_go_there_and_come_back(bucket, tmp_path, protocol):
    folder = RemoteFolder.of(protocol.format(tmp=tmp_path / "far") + "/labels/")
    here = folder.local / "a.nii.gz"
    assert folder.changed("a.nii.gz") is None
    here.write_bytes(b"labels")
    folder.put(here)
    assert folder.names() == ["a.nii.gz"]  # and no part of one
    first = folder.changed("a.nii.gz")
    here.unlink()
    assert folder.fetch("a.nii.gz") == here
    assert here.read_bytes() == b"labels"
    assert list(here.parent.iterdir()) == [here]
    here.write_bytes(b"others")
    folder.put(here)
    assert first is not None
    assert (folder.changed("a.nii.gz") or 0) > first
    assert folder.fetch("a.nii.gz").read_bytes() == b"others"


def test_names_are_those_of_files_alone(bucket):
    for name in ("b.nii", "a.nii", "deep/c.nii"):
        bucket.pipe_file(f"/bucket/{name}", b"")
    assert RemoteFolder.of("memory://bucket").names() == ["a.nii", "b.nii"]


def test_web_server(web):
    there, address = web
    (there / "a.nii.gz").write_bytes(b"scan")
    (there / "deep").mkdir()
    folder = RemoteFolder.of(address)
    assert folder.names() == ["a.nii.gz"]
    signed, name = RemoteFolder.of_file(f"{address}/a.nii.gz?signature=1/2")
    assert (name, signed.address, signed.query) == ("a.nii.gz", address, "?signature=1/2")
    assert signed.fetch(name).read_bytes() == b"scan"
    assert signed.changed(name) == 0  # it does not say
    assert not signed.is_writable


def test_names_of_the_web_are_the_files_own(web):
    there, address = web
    (there / "Bauch ä.nii.gz").write_bytes(b"scan")
    folder = RemoteFolder.of(address)
    assert folder.names() == ["Bauch ä.nii.gz"]
    assert folder.fetch("Bauch ä.nii.gz").read_bytes() == b"scan"
    around, name = RemoteFolder.of_file(f"{address}/Bauch%20%C3%A4.nii.gz")
    assert (name, around.address_of(name)) == (
        "Bauch ä.nii.gz",
        f"{address}/Bauch%20%C3%A4.nii.gz",
    )


def test_no_name_of_the_web_leads_out_of_the_local_folder():
    folder, name = RemoteFolder.of_file("https://host/scans/..%2F..%2Fa.nii.gz")
    assert (folder.local / name).parent == folder.local


def test_what_is_not_there(bucket, web):
    for address in ("memory://bucket", web[1]):
        folder = RemoteFolder.of(address)
        with pytest.raises(DataError) as caught:
            folder.fetch("a.nii.gz")
        assert caught.value.file == f"{address}/a.nii.gz"
    with pytest.raises(DataError, match="can't be listed"):
        RemoteFolder.of("memory://nowhere").names()


def test_file_that_can_not_be_sent(bucket, tmp_path, monkeypatch):
    def refuse(*parts, **how):
        raise PermissionError("AccessDenied")

    monkeypatch.setattr(bucket, "put_file", refuse)
    with pytest.raises(OutputError, match="can't be uploaded") as caught:
        RemoteFolder.of("memory://bucket").put(Path(tmp_path, "a.nii"))
    assert "credentials" in str(caught.value.hint)


def test_package_that_is_missing(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "s3fs", None)
    with pytest.raises(ConfigError, match="s3fs is not installed") as caught:
        RemoteFolder.of("s3://bucket/scans")
    assert caught.value.hint == "pip install 'inflate3d[remote]'"


def test_address_of_no_known_kind(tmp_path):
    with pytest.raises(ConfigError, match="unknown kind of address"):
        RemoteFolder.of("nosuch://bucket")
