import hashlib
import json

import pytest
import torch

from inflate3d.cli import main
from inflate3d.errors import ModelError
from inflate3d.models.encoders import create_encoder
from inflate3d.models.published import PUBLISHED, PublishedWeights, published_path
from inflate3d.models.timm_backbones import published_settings
from inflate3d.named_encoders import MEDICAL_ENCODERS, NAMED_ENCODERS


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """torch.hub's folder, empty."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr("torch.hub._hub_dir", None)
    return tmp_path / "hub" / "checkpoints"


@pytest.fixture
def publish(monkeypatch):
    """Adds a file named tiny to the published ones."""

    def add(url=None, **others):
        weights = PublishedWeights(
            "tiny.pth", "resnet10t", "a network", "for tests", "MIT", "https://example.invalid", 1, url, **others
        )
        monkeypatch.setitem(PUBLISHED, "tiny", weights)

    return add


@pytest.mark.parametrize("name", list(PUBLISHED))
def test_table_is_sound(name):
    weights = PUBLISHED[name]
    assert weights.url is None or weights.place.endswith(f"/{weights.file}")
    assert weights.url is None or weights.hub_id is None
    assert weights.sha256 is None or len(weights.sha256) == 64
    assert weights.revision == "main" or len(weights.revision) == 40
    assert weights.encoder in NAMED_ENCODERS or published_settings(weights.encoder)
    assert weights.terms or weights.license in ("MIT", "Apache-2.0")


def test_names_find_their_files():
    files = {name: named.weights for name, named in NAMED_ENCODERS.items() if named.weights in PUBLISHED}
    assert {"beit-ssl", "videoswint", *MEDICAL_ENCODERS} == set(files)
    assert all(PUBLISHED[weights].encoder == name for name, weights in files.items())


def test_download_is_checked_and_kept(folder, tmp_path, publish):
    source = tmp_path / "source.pth"
    source.write_bytes(b"weights")
    checksum = hashlib.sha256(b"weights").hexdigest()
    publish(source.as_uri(), sha256="0" * 64)
    with pytest.raises(ModelError):
        published_path("tiny")
    assert list(folder.iterdir()) == []
    publish(source.as_uri(), sha256=checksum)
    path = published_path("tiny")
    assert (path, path.read_bytes()) == (folder / "tiny.pth", b"weights")
    source.unlink()
    assert published_path("tiny") == path


def test_license_with_conditions_is_asked_for_before_the_download(folder, tmp_path, publish, capsys):
    source = tmp_path / "source.pth"
    source.write_bytes(b"weights")
    publish(source.as_uri(), terms="https://example.invalid/terms")
    with pytest.raises(ModelError) as caught:
        published_path("tiny")
    assert "https://example.invalid/terms" in str(caught.value.got)
    assert not folder.exists()
    assert main(["weights", "get", "tiny"]) == 2
    assert main(["weights", "get", "tiny", "--accept-license"]) == 0
    assert published_path("tiny").read_bytes() == b"weights"  # once it is here, nobody is asked


def test_file_to_fetch_by_hand_is_named_with_its_place(folder, publish):
    publish()
    with pytest.raises(ModelError) as caught:
        published_path("tiny")
    assert caught.value.expected == folder / "tiny.pth"
    assert "https://example.invalid" in str(caught.value.hint)


def test_failed_download_names_the_place_of_the_file(folder, publish):
    url = "http://127.0.0.1:9/tiny.pth"  # nobody listens there
    publish(url)
    with pytest.raises(ModelError) as caught:
        published_path("tiny")
    assert str(folder / "tiny.pth") in str(caught.value.hint)
    assert url in str(caught.value.expected)


def test_encoder_takes_weights_by_name(folder, publish):
    folder.mkdir(parents=True)
    publish("https://example.invalid/tiny.pth")
    tensors = create_encoder("resnet10t", depth=1, image_size=64, weights=None).network.state_dict()
    tensors["conv1.0.weight"] = torch.randn(24, 3, 3, 3)
    torch.save(tensors, folder / "tiny.pth")
    encoder = create_encoder("resnet10t", depth=1, image_size=64, weights="tiny")
    assert encoder.weights_report is not None
    assert encoder.weights_report.source == str(folder / "tiny.pth")


def test_command_lists_and_gets(folder, capsys, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(folder))
    folder.mkdir(parents=True)
    (folder / "mobile_sam.pt").write_bytes(b"")
    assert main(["weights", "--json"]) == 0
    listed = json.loads(capsys.readouterr().out)
    assert {entry["name"] for entry in listed["weights"] if entry["here"]} == {"mobile_sam"}
    assert main(["weights", "get", "mobile_sam", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["path"] == str(folder / "mobile_sam.pt")
    assert main(["weights", "get", "mobile"]) == 2
    assert "mobile_sam" in capsys.readouterr().err
