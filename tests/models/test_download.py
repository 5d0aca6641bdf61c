"""Fetching from a server of our own, which can stop in the middle, change its file, refuse, and be a proxy."""

import hashlib
import http.server
import threading
from dataclasses import dataclass, field

import pytest

from inflate3d.errors import ModelError, OutputError
from inflate3d.models.download import NoConnectionError, download

CONTENT = bytes(range(256)) * 20_000  # 5 MB
SHA256 = hashlib.sha256(CONTENT).hexdigest()


@dataclass
class Source:
    """What the server serves, and what it was asked.

    Attributes:
        content: The file.
        etag: Its mark.
        stops: How many more answers end after ``stop_after`` bytes.
        ranges: Whether it can go on in the middle.
        asked: Path and Range of each request.
    """

    content: bytes = CONTENT
    etag: str = '"one"'
    stops: int = 0
    stop_after: int = 1_500_000
    ranges: bool = True
    asked: list[tuple[str, str | None]] = field(default_factory=list)
    url: str = ""


class Handler(http.server.BaseHTTPRequestHandler):
    source: Source

    def do_GET(self):
        source = self.source
        wanted = self.headers.get("Range")
        source.asked.append((self.path, wanted))
        if "absent" in self.path:
            return self.send_error(404)
        start = 0
        if wanted and source.ranges and self.headers.get("If-Range") == source.etag:
            start = int(wanted.removeprefix("bytes=").removesuffix("-"))
        self.send_response(206 if start else 200)
        body = source.content[start:]
        self.send_header("Content-Length", str(len(body)))
        self.send_header("ETag", source.etag)
        self.end_headers()
        if source.stops:
            source.stops -= 1
            body = body[: source.stop_after]
        return self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's name
        """Says nothing."""


@pytest.fixture
def source(monkeypatch):
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    source = Source()
    handler = type("OwnHandler", (Handler,), {"source": source})
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    source.url = f"http://127.0.0.1:{server.server_address[1]}/w.pth"
    yield source
    server.shutdown()
    thread.join()
    server.server_close()


def test_file_comes_whole(source, tmp_path):
    seen = []

    found = download(source.url, tmp_path / "new" / "w.pth", progress=lambda *bytes_: seen.append(bytes_))

    assert found == SHA256
    assert (tmp_path / "new" / "w.pth").read_bytes() == CONTENT
    assert seen[-1] == (len(CONTENT), len(CONTENT))
    assert {path.name for path in (tmp_path / "new").iterdir()} <= {"w.pth", ".w.pth.lock"}


def test_interruption_is_gone_on_from(source, tmp_path):
    source.stops = 1

    assert download(source.url, tmp_path / "w.pth", sha256=SHA256) == SHA256
    assert source.asked == [("/w.pth", None), ("/w.pth", "bytes=1500000-")]


def test_what_came_is_kept_for_the_next_call(source, tmp_path):
    source.stops, source.stop_after = 3, 1_000_000

    with pytest.raises(NoConnectionError, match="interrupted") as caught:
        download(source.url, tmp_path / "w.pth")
    assert "3000000 of 5120000 bytes" in str(caught.value.got)
    assert not (tmp_path / "w.pth").exists()

    assert download(source.url, tmp_path / "w.pth") == SHA256
    assert source.asked[-1] == ("/w.pth", "bytes=3000000-")


def test_changed_file_is_fetched_anew(source, tmp_path):
    source.stops = 3
    with pytest.raises(NoConnectionError):
        download(source.url, tmp_path / "w.pth")
    source.content, source.etag = CONTENT[::-1], '"two"'

    download(source.url, tmp_path / "w.pth")

    assert (tmp_path / "w.pth").read_bytes() == CONTENT[::-1]


def test_server_that_can_not_go_on_gives_all(source, tmp_path):
    source.stops, source.ranges = 1, False

    assert download(source.url, tmp_path / "w.pth") == SHA256


@pytest.mark.parametrize("etag", ["", 'W/"weak"'])
def test_file_without_a_sure_mark_is_fetched_anew(etag, source, tmp_path):
    source.stops, source.etag = 1, etag

    assert download(source.url, tmp_path / "w.pth") == SHA256
    assert [wanted for _, wanted in source.asked] == [None, None]


def test_other_checksum_is_refused_and_nothing_kept(source, tmp_path):
    with pytest.raises(ModelError, match="not the one") as caught:
        download(source.url, tmp_path / "w.pth", sha256="0" * 64)
    assert caught.value.got == f"SHA-256 {SHA256}"
    assert {path.name for path in tmp_path.iterdir()} <= {".w.pth.lock", ".w.pth.part.etag"}


def test_refusal_is_told(source, tmp_path):
    with pytest.raises(NoConnectionError, match="refuses") as caught:
        download(source.url + "absent", tmp_path / "w.pth")
    assert str(caught.value.got).startswith("404")
    assert len(source.asked) == 1


def test_unreachable_server_is_told(tmp_path):
    with pytest.raises(NoConnectionError, match="can't be reached"):
        download("http://127.0.0.1:9/w.pth", tmp_path / "w.pth")  # the port of "discard", where nobody listens


def test_proxy_of_the_environment_is_asked(source, tmp_path, monkeypatch):
    monkeypatch.setenv("http_proxy", source.url.removesuffix("/w.pth"))

    assert download("http://weights.invalid/w.pth", tmp_path / "w.pth") == SHA256
    assert source.asked == [("http://weights.invalid/w.pth", None)]


def test_folder_that_can_not_be_is_told(source, tmp_path):
    (tmp_path / "file").write_text("")

    with pytest.raises(OutputError, match="can't be written"):
        download(source.url, tmp_path / "file" / "w.pth")
