import dataclasses
import json

import pytest
import torch

from inflate3d.cli import main
from inflate3d.errors import ModelError
from inflate3d.models import published
from inflate3d.models.encoders import create_encoder
from inflate3d.models.published import PUBLISHED, PublishedWeights, fetch_published
from inflate3d.models.timm_backbones import published_settings
from inflate3d.paper_encoders import PAPER_ENCODERS

TINY = PublishedWeights(
    file="tiny.pth",
    encoder="resnet10t",
    about="for tests",
    license="Apache-2.0",
    source="https://example.invalid",
    url="http://127.0.0.1:9/tiny.pth",  # nobody listens there
)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """torch.hub's folder, empty."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr("torch.hub._hub_dir", None)
    monkeypatch.setitem(PUBLISHED, "tiny", TINY)
    (tmp_path / "hub" / "checkpoints").mkdir(parents=True)
    return tmp_path / "hub" / "checkpoints"


@pytest.mark.parametrize("name", list(PUBLISHED))
def test_table_is_sound(name):
    weights = PUBLISHED[name]

    assert weights.url.startswith("https://")
    assert weights.url.endswith(f"/{weights.file}")
    assert weights.sha256 is None or (len(weights.sha256) == 64 and weights.bytes)
    assert weights.encoder in PAPER_ENCODERS or published_settings(weights.encoder)


def test_names_of_the_paper_find_their_files():
    assert {PUBLISHED[paper.weights].encoder for paper in PAPER_ENCODERS.values() if paper.weights in PUBLISHED} == {
        "beit-ssl",
        "videoswint",
    }


def test_file_that_is_here_is_trusted_on_first_use_and_held_to_it(folder):
    (folder / "tiny.pth").write_bytes(b"weights")

    first = fetch_published(TINY)

    assert (first.path, first.verified, first.downloaded) == (folder / "tiny.pth", False, False)
    assert (folder / "tiny.pth.sha256").read_text() == f"{first.sha256}  tiny.pth\n"
    (folder / "tiny.pth").write_bytes(b"others")
    with pytest.raises(ModelError, match="not the one") as caught:
        fetch_published(TINY)
    assert caught.value.expected == f"SHA-256 {first.sha256}"


def test_known_checksum_goes_before_first_use(folder):
    (folder / "tiny.pth").write_bytes(b"weights")

    with pytest.raises(ModelError, match="not the one"):
        fetch_published(dataclasses.replace(TINY, sha256="0" * 64))


def test_download_is_recorded(folder, monkeypatch):
    def download(url, path, *, sha256, progress):
        path.write_bytes(b"weights")
        progress(3, 30)
        progress(30, 30)
        return published.sha256_of(path)

    monkeypatch.setattr(published, "download", download)
    seen = []

    fetched = fetch_published(TINY, progress=lambda *bytes_: seen.append(bytes_))

    assert fetched.downloaded
    assert (folder / "tiny.pth.sha256").read_text().startswith(fetched.sha256)
    assert seen == [(3, 30), (30, 30)]


def test_without_network_the_place_is_told(folder):
    with pytest.raises(ModelError, match=r"tiny\.pth can't be fetched") as caught:
        fetch_published(TINY)
    assert str(folder / "tiny.pth") in str(caught.value.hint)
    assert TINY.url in str(caught.value.expected)


def test_encoder_takes_weights_by_name(folder):
    tensors = create_encoder("resnet10t", depth=1, image_size=64, weights=None, inflation="center").network.state_dict()
    tensors["conv1.0.weight"] = torch.randn(24, 3, 3, 3)
    torch.save(tensors, folder / "tiny.pth")

    encoder = create_encoder("resnet10t", depth=1, image_size=64, weights="tiny")

    assert encoder.weights_report is not None
    assert encoder.weights_report.source == str(folder / "tiny.pth")


def test_command_lists(folder, capsys):
    (folder / "mobile_sam.pt").write_bytes(b"")

    assert main(["weights", "--json"]) == 0

    listed = json.loads(capsys.readouterr().out)
    assert [entry["name"] for entry in listed["weights"]] == list(PUBLISHED)
    assert {entry["name"] for entry in listed["weights"] if entry["here"]} == {"mobile_sam"}
    assert listed["folder"] == str(folder)


def test_command_lists_for_people(folder, capsys):
    assert main(["weights"]) == 0

    out = capsys.readouterr().out
    assert "mae_pretrain_vit_base\n  MAE ViT-B/16, ImageNet-1k, --encoder vit_base_patch16_224.mae" in out
    assert "license CC-BY-NC-4.0, size see source, checksum first use" in out


def test_command_gets(folder, tmp_path, capsys):
    (tmp_path / "to").mkdir()
    (tmp_path / "to" / "tiny.pth").write_bytes(b"weights")

    assert main(["weights", "get", "tiny", "--to", str(tmp_path / "to"), "--json"]) == 0

    got = json.loads(capsys.readouterr().out)
    assert (got["path"], got["verified"], got["downloaded"]) == (str(tmp_path / "to" / "tiny.pth"), False, False)


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["get"], "no weights are named"),
        (["get", "dino_vitbase"], "dino_vitbase16_pretrain"),
        (["get", "tiny"], "put it at"),
    ],
)
def test_command_tells_mistakes(words, told, folder, capsys):
    assert main(["weights", *words]) == 2
    assert told in capsys.readouterr().err
