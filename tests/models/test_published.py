import hashlib
import json

import pytest
import torch

from inflate3d.cli import main
from inflate3d.errors import ModelError
from inflate3d.models.encoders import create_encoder
from inflate3d.models.published import PUBLISHED, PublishedWeights, published_path
from inflate3d.models.timm_backbones import published_settings
from inflate3d.paper_encoders import PAPER_ENCODERS


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """torch.hub's folder, empty."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr("torch.hub._hub_dir", None)
    return tmp_path / "hub" / "checkpoints"


def published(url, sha256=None):
    return PublishedWeights("tiny.pth", "resnet10t", "for tests", "MIT", "https://example.invalid", url, sha256)


@pytest.mark.parametrize("name", list(PUBLISHED))
def test_table_is_sound(name):
    weights = PUBLISHED[name]
    assert weights.url.startswith("https://")
    assert weights.url.endswith(f"/{weights.file}")
    assert weights.sha256 is None or len(weights.sha256) == 64
    assert weights.encoder in PAPER_ENCODERS or published_settings(weights.encoder)


def test_names_of_the_paper_find_their_files():
    assert {PUBLISHED[paper.weights].encoder for paper in PAPER_ENCODERS.values() if paper.weights in PUBLISHED} == {
        "beit-ssl",
        "videoswint",
    }


def test_download_is_checked_and_kept(folder, tmp_path):
    source = tmp_path / "source.pth"
    source.write_bytes(b"weights")
    checksum = hashlib.sha256(b"weights").hexdigest()
    with pytest.raises(ModelError):
        published_path(published(source.as_uri(), "0" * 64))
    assert list(folder.iterdir()) == []
    path = published_path(published(source.as_uri(), checksum))
    assert (path, path.read_bytes()) == (folder / "tiny.pth", b"weights")
    source.unlink()
    assert published_path(published(source.as_uri(), checksum)) == path


def test_failed_download_names_the_place_of_the_file(folder):
    url = "http://127.0.0.1:9/tiny.pth"  # nobody listens there
    with pytest.raises(ModelError) as caught:
        published_path(published(url))
    assert str(folder / "tiny.pth") in str(caught.value.hint)
    assert url in str(caught.value.expected)


def test_encoder_takes_weights_by_name(folder, monkeypatch):
    folder.mkdir(parents=True)
    monkeypatch.setitem(PUBLISHED, "tiny", published("https://example.invalid/tiny.pth"))
    tensors = create_encoder("resnet10t", depth=1, image_size=64, weights=None).network.state_dict()
    tensors["conv1.0.weight"] = torch.randn(24, 3, 3, 3)
    torch.save(tensors, folder / "tiny.pth")
    encoder = create_encoder("resnet10t", depth=1, image_size=64, weights="tiny")
    assert encoder.weights_report is not None
    assert encoder.weights_report.source == str(folder / "tiny.pth")


def test_command_lists_and_gets(folder, capsys):
    folder.mkdir(parents=True)
    (folder / "mobile_sam.pt").write_bytes(b"")
    assert main(["weights", "--json"]) == 0
    listed = json.loads(capsys.readouterr().out)
    assert {entry["name"] for entry in listed["weights"] if entry["here"]} == {"mobile_sam"}
    assert main(["weights", "get", "mobile_sam", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["path"] == str(folder / "mobile_sam.pt")
    assert main(["weights", "get", "mobile"]) == 2
    assert "mobile_sam" in capsys.readouterr().err
