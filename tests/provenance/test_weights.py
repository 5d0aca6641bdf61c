"""Whose 2D weights a run starts from."""

import hashlib

import pytest

from inflate3d.config import ModelConfig
from inflate3d.errors import ModelError
from inflate3d.paper_encoders import PAPER_ENCODERS
from inflate3d.provenance import weights as weights_module
from inflate3d.provenance.weights import check_weights, weights_origin


def test_random_weights_and_3d_networks_have_none():
    assert weights_origin(ModelConfig(weights="none")) is None
    assert weights_origin(ModelConfig(network="unetr")) is None
    check_weights(None, None)


def test_a_file_is_told_by_its_name_and_checksum(tmp_path):
    path = tmp_path / "own.safetensors"
    path.write_bytes(b"weights")
    found = weights_origin(ModelConfig(weights=str(path)))
    assert found is not None
    assert (found.source, found.file) == ("file own.safetensors", "own.safetensors")
    assert found.sha256 == hashlib.sha256(b"weights").hexdigest()
    assert found.license == "not known"
    assert str(tmp_path) not in found.model_dump_json()


def test_a_published_file_is_known_by_its_checksum_whatever_its_name(tmp_path, monkeypatch):
    published = weights_module.PUBLISHED["sam_vit_b"]
    monkeypatch.setattr(weights_module, "sha256_of", lambda path: published.sha256)
    found = weights_origin(ModelConfig(weights=str(tmp_path / "renamed.pth")))
    assert found is not None
    assert (found.file, found.license, found.page) == (published.file, "Apache-2.0", published.source)
    assert found.source.startswith("sam_vit_b: Segment Anything")


def test_timms_have_its_hub_id_and_license(tmp_path, monkeypatch):
    path = tmp_path / "model.safetensors"
    path.write_bytes(b"timm")
    asked = []

    def cached(repository, name):
        asked.append((repository, name))
        return str(path)

    monkeypatch.setattr("huggingface_hub.try_to_load_from_cache", cached)
    found = weights_origin(ModelConfig(encoder="resnet10t"))
    assert found is not None
    assert asked == [(found.hub_id, "model.safetensors")]
    assert found.hub_id is not None and found.hub_id.startswith("timm/resnet10t.")
    assert found.license == "apache-2.0"
    assert found.page == f"https://huggingface.co/{found.hub_id}"
    assert found.sha256 == hashlib.sha256(b"timm").hexdigest()


@pytest.mark.parametrize("encoder", PAPER_ENCODERS)
def test_names_of_the_papers_stand_for_weights_of_their_own(encoder, tmp_path, monkeypatch):
    path = tmp_path / "weights.pth"
    path.write_bytes(b"published")
    monkeypatch.setattr(weights_module, "published_path", lambda published: path)
    monkeypatch.setattr("huggingface_hub.try_to_load_from_cache", lambda repository, name: None)
    named, found = PAPER_ENCODERS[encoder].weights, weights_origin(ModelConfig(encoder=encoder))
    if named == "none":
        assert found is None
    elif named == "timm":
        assert found is not None and found.hub_id is not None
    else:
        assert found is not None and found.source.startswith(named)
        assert found.sha256 == hashlib.sha256(b"published").hexdigest()


def test_timms_that_are_not_in_the_cache_have_no_checksum(monkeypatch):
    monkeypatch.setattr("huggingface_hub.try_to_load_from_cache", lambda repository, name: None)
    found = weights_origin(ModelConfig(encoder="resnet10t"))
    assert found is not None and found.sha256 is None
    check_weights(found, found)


def test_a_tampered_file_is_refused(tmp_path):
    path = tmp_path / "own.safetensors"
    path.write_bytes(b"weights")
    config = ModelConfig(weights=str(path))
    before = weights_origin(config)
    path.write_bytes(b"weightz")
    with pytest.raises(ModelError, match="not those that the run started from") as caught:
        check_weights(before, weights_origin(config))
    assert hashlib.sha256(b"weights").hexdigest() in str(caught.value.expected)
    assert caught.value.got == hashlib.sha256(b"weightz").hexdigest()
    with pytest.raises(ModelError, match="can't be read"):
        weights_origin(ModelConfig(weights=str(tmp_path / "gone.pth")))
