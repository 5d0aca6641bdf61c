import json
import pickle

import pytest
import torch
from safetensors.torch import load_file

from inflate3d.errors import Inflate3dError, ModelError
from inflate3d.models.encoders import create_encoder
from inflate3d.models.segmenter import Segmenter, create_model, load_model


def make_model(**changes) -> Segmenter:
    torch.manual_seed(0)
    encoder = create_encoder("resnet10t", depth=3, in_channels=2, image_size=(32, 64), weights="none")
    return create_model(encoder=encoder, num_classes=3, decoder_channels=8, detail_channels=4, **changes)


@pytest.fixture
def saved(tmp_path):
    make_model().save(tmp_path / "model")
    return tmp_path / "model"


@pytest.mark.parametrize(
    "shape", [(2, 3, 32, 64), (2, 2, 5, 32, 64), (2, 1, 3, 32, 64), (2, 2, 3, 64, 32), (2, 2, 3, 64, 64)]
)
def test_windows_that_do_not_fit(shape):
    with pytest.raises(ModelError) as caught:
        make_model()._check(torch.zeros(shape))
    assert caught.value.expected == "(batch, modalities, slices, rows, columns) = (B, 2, 3, 32, 64)"
    assert caught.value.got == shape


def test_wrong_depth_is_told_by_the_forward_pass():
    with pytest.raises(ModelError, match="windows do not fit the network"):
        make_model()(torch.zeros(1, 2, 5, 32, 64))


def test_intensities_are_scaled_to_what_the_2d_weights_know():
    pretrained, unit = make_model().architecture, make_model(input_scaling="unit").architecture
    assert (pretrained.input_mean, pretrained.input_std) == pytest.approx((0.449, 0.226), abs=1e-3)
    assert (unit.input_mean, unit.input_std) == (0, 1)


@pytest.mark.slow
def test_saved_model_computes_the_same(tmp_path, phantom_store):
    model = make_model().eval()
    model.plan = phantom_store.plan
    model.save(tmp_path / "model")
    loaded = load_model(tmp_path / "model")
    windows = torch.rand(2, 2, 3, 32, 64)
    assert torch.equal(loaded(windows), model(windows))
    assert loaded.architecture == model.architecture
    assert loaded.plan == phantom_store.plan
    assert not loaded.training
    assert torch.equal(load_model(tmp_path)(windows), model(windows))  # a run's folder


@pytest.mark.slow
def test_encoder_of_another_width_is_built_again(tmp_path):
    arguments = {"embed_dim": 48, "num_heads": (2, 2, 4, 4), "mlp_ratio": 2.5}
    encoder = create_encoder(
        "swin_tiny_patch4_window7_224", depth=3, image_size=32, weights="none", arguments=arguments
    )
    model = create_model(encoder=encoder, num_classes=2, decoder_channels=8).eval()
    model.save(tmp_path)
    loaded = load_model(tmp_path)
    windows = torch.rand(1, 1, 3, 32, 32)
    assert torch.equal(loaded(windows), model(windows))
    assert loaded.architecture == model.architecture
    assert model.architecture.stage_norms
    assert encoder.channels == (48, 96, 192, 384)


@pytest.mark.slow
def test_folder_from_before_stage_norms(tmp_path):
    encoder = create_encoder("swin_tiny_patch4_window7_224", depth=3, image_size=32, weights="none", stage_norms=False)
    create_model(encoder=encoder, num_classes=2, decoder_channels=8).save(tmp_path)
    description = json.loads((tmp_path / "model.json").read_text(encoding="utf-8"))
    for name in ("stage_norms", "encoder_arguments"):
        del description["architecture"][name]
    (tmp_path / "model.json").write_text(json.dumps(description))
    assert not any(name.startswith("encoder.norms") for name in load_model(tmp_path).state_dict())


def test_model_folder_is_safetensors_and_json(saved):
    assert sorted(path.name for path in saved.iterdir()) == ["README.md", "model.json", "model.safetensors"]
    assert load_file(saved / "model.safetensors").keys() == make_model().state_dict().keys()
    assert json.loads((saved / "model.json").read_text(encoding="utf-8"))["architecture"]["encoder"] == "resnet10t"


def test_no_model(tmp_path):
    with pytest.raises(ModelError, match="no model here") as caught:
        load_model(tmp_path)
    assert caught.value.file == str(tmp_path)


def test_model_of_another_version(saved):
    description = json.loads((saved / "model.json").read_text(encoding="utf-8"))
    (saved / "model.json").write_text(json.dumps({**description, "version": 1, "inflate3d": "9.9"}))
    with pytest.raises(ModelError, match="another version of inflate3d") as caught:
        load_model(saved)
    assert caught.value.got == "model version 1, written by inflate3d 9.9"
    assert "9.9" in str(caught.value.hint)


@pytest.mark.parametrize("name", ["model.json", "model.safetensors"])
@pytest.mark.parametrize("damage", ["short", "empty", "noise", "missing"])
def test_damaged_file_is_named(saved, name, damage):
    path = saved / name
    whole = path.read_bytes()
    contents = {"short": whole[: len(whole) // 2], "empty": b"", "noise": b"\xff" * 50}
    path.unlink() if damage == "missing" else path.write_bytes(contents[damage])
    with pytest.raises(ModelError) as caught:
        load_model(saved)
    assert str(caught.value.file).startswith(str(saved))


def test_description_with_a_key_too_many(saved):
    description = json.loads((saved / "model.json").read_text(encoding="utf-8"))
    (saved / "model.json").write_text(json.dumps({**description, "more": 1}))
    with pytest.raises(Inflate3dError, match="invalid more"):
        load_model(saved)


def test_weights_of_another_network(saved, tmp_path):
    other = create_encoder("resnet10t", depth=5, in_channels=2, image_size=(32, 64), weights="none")
    model = create_model(encoder=other, num_classes=3, decoder_channels=8, detail_channels=4)
    model.save(tmp_path / "other")
    (tmp_path / "other" / "model.safetensors").replace(saved / "model.safetensors")
    with pytest.raises(ModelError, match="weights do not fit the model's description") as caught:
        load_model(saved)
    assert "detail.0.0.weight" in str(caught.value.expected)


def test_pickle_under_the_models_name_is_not_opened(saved):
    class Bomb:
        def __reduce__(self):
            return pytest.fail, ("a pickle was run",)

    (saved / "model.safetensors").write_bytes(pickle.dumps(Bomb()))
    with pytest.raises(ModelError, match="weights can't be read"):
        load_model(saved)
