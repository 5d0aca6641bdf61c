"""Starting from a trained model: its encoder, and its decoder as far as the classes agree."""

import json
import time

import pytest
import torch

from inflate3d.config import InflatedConfig
from inflate3d.errors import Inflate3dError, ModelError
from inflate3d.models.encoders import create_encoder
from inflate3d.models.segmenter import create_model, load_model, model_from_config
from inflate3d.models.weights_origin import weights_origin


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    torch.manual_seed(0)
    model = create_model(encoder=create_encoder("resnet10t", depth=3, image_size=64, weights=None), num_classes=3)
    folder = tmp_path_factory.mktemp("run")
    model.save(folder / "model")
    return folder


def started_from(folder, **changes):
    torch.manual_seed(1)
    options = {"in_channels": 1, "image_size": (64, 64), "num_classes": 3} | changes
    config = InflatedConfig(encoder="resnet10t", depth=3, weights=str(folder))
    return model_from_config(config, **options).state_dict()


def test_same_classes_give_the_same_network(trained):
    before = load_model(trained).state_dict()
    after = started_from(trained)
    assert all(torch.equal(after[name], before[name]) for name in before)


@pytest.mark.parametrize(("classes", "ending"), [(3, "is used, too"), (5, "is used, too, but for classifier, correct")])
def test_what_is_taken_of_the_decoder_is_said(trained, caplog, classes, ending):
    caplog.set_level("INFO", logger="inflate3d")
    started_from(trained, num_classes=classes)
    assert caplog.messages[-1].endswith(ending)


def test_other_classes_get_a_new_classifier(trained):
    before, after = load_model(trained).state_dict(), started_from(trained, num_classes=5)
    changed = {name.split(".")[0] for name in before if not torch.equal(after[name], before[name])}
    assert changed == {"classifier", "correct"}


@pytest.mark.parametrize("changes", [{"in_channels": 2}])
def test_another_encoder_is_refused(trained, changes):
    with pytest.raises(ModelError) as caught:
        started_from(trained, **changes)
    assert "2 modalities" in str(caught.value.expected)
    assert "1 modalities" in str(caught.value.got)


def test_origin_is_the_weight_file_of_the_model(trained):
    found = weights_origin(InflatedConfig(encoder="resnet10t", weights=str(trained)))
    assert found is not None
    assert found.file == "model.safetensors"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("decoder_channels", 10**6),
        ("decoder_channels", 60_000),
        ("num_classes", 10**8),
        ("image_size", [10**9, 10**9]),
        ("depth", 10**7 + 1),
        ("in_channels", -1),
        ("input_std", 0.0),
        ("decoder", "nobody's"),
    ],
)
def test_absurd_description_is_refused_at_once(trained, tmp_path, name, value):
    description = json.loads((trained / "model" / "model.json").read_text(encoding="utf-8"))
    description["architecture"][name] = value
    (tmp_path / "model.json").write_text(json.dumps(description))
    (tmp_path / "model.safetensors").symlink_to(trained / "model" / "model.safetensors")
    start = time.process_time()
    with pytest.raises(Inflate3dError):
        load_model(tmp_path)
    assert time.process_time() - start < 5  # seconds of a network that would take minutes and all memory


def test_file_in_place_of_a_model(trained):
    with pytest.raises(ModelError) as caught:
        load_model(trained / "model" / "model.safetensors")
    assert caught.value.file == str(trained / "model" / "model.safetensors")
