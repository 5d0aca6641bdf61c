import argparse
import fractions
import zipfile
from pathlib import Path
from typing import Any

import huggingface_hub.constants
import numpy as np
import pytest
import timm
import torch
from safetensors.torch import load_file, save_file

from inflate3d.errors import ModelError
from inflate3d.models.encoders import create_encoder
from inflate3d.models.timm_backbones import published_settings
from inflate3d.models.torch_file import load_plain
from inflate3d.models.weight_files import read_tensors

SHARED = Path(__file__).parents[2].parent / "shared"
DINOV2 = SHARED / "weights" / "vit_small_patch14_dinov2.safetensors"


def plain_model(name, image_size=64, **arguments) -> Any:
    """timm's whole classifier with random weights, none of them zero or one, at its own image size."""
    torch.manual_seed(1)
    if published_settings(name).fixed_input_size:
        arguments["img_size"] = image_size
    model = timm.create_model(name, **arguments).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.02 * torch.randn_like(parameter))
    return model


def assert_repeats(encoder, model):
    """The encoder's maps of a window are timm's own of the center slice."""
    size = encoder.image_size
    encoder, model = encoder.double(), model.double()  # so that depth does not amplify rounding
    window = torch.randn(1, encoder.in_channels, encoder.depth, *size, dtype=torch.float64)
    window[:] = window[:, :1]
    image = window[:, 0, encoder.depth // 2].expand(3, *size)[None]
    with torch.no_grad():
        found = encoder.eval()(window)
        wanted = model.forward_intermediates(
            image, indices=list(encoder.levels), intermediates_only=True, output_fmt="NCHW"
        )
    for pair in zip(found, wanted, strict=True):
        torch.testing.assert_close(*pair, rtol=1e-3, atol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", [
        "vit_tiny_patch16_224", "swin_tiny_patch4_window7_224", "convnext_atto", "resnet10t", "fastvit_t8",
        "nf_regnet_b0", "vit_tiny_r_s16_p8_224", "naflexvit_base_patch16_gap", "legacy_xception",
    ],
)  # fmt: skip
def test_file_in_timm_layout_fills_the_encoder(name, tmp_path):
    model = plain_model(name, num_classes=10)
    save_file(model.state_dict(), tmp_path / "w.safetensors")

    encoder = create_encoder(
        name, depth=3, in_channels=2, image_size=64, weights=tmp_path / "w.safetensors", stage_norms=False
    )

    assert_repeats(encoder, model)
    report = encoder.weights_report
    assert report is not None
    assert report.source == str(tmp_path / "w.safetensors")
    assert set(report.loaded) == set(encoder.network.state_dict())
    assert report.layout is None or "transformer" in report.layout
    assert report.inflated
    assert report.resampled == ()
    assert len(repr(report)) < 300


def test_every_convolution_that_reads_the_image_is_inflated(tmp_path):
    save_file(plain_model("fastvit_t8").state_dict(), tmp_path / "w.safetensors")

    encoder = create_encoder("fastvit_t8", image_size=64, weights=tmp_path / "w.safetensors")

    assert encoder.weights_report is not None
    assert encoder.weights_report.inflated == (
        "stem_0.conv_kxk.0.conv.weight",
        "stem_0.conv_scale.conv.weight",
    )


@pytest.mark.slow
@pytest.mark.parametrize("nested", ["model", "state_dict", "model_ema", "teacher"])
def test_nested_training_checkpoint(nested, tmp_path):
    model = plain_model("vit_tiny_patch16_224")
    checkpoint = {
        nested: {f"module.{name}": tensor for name, tensor in model.state_dict().items()},
        "args": argparse.Namespace(lr=0.1),
        "epoch": 3,
    }
    torch.save(checkpoint, tmp_path / "w.pth")

    encoder = create_encoder("vit_tiny_patch16_224", depth=1, image_size=64, weights=str(tmp_path / "w.pth"))

    assert_repeats(encoder, model)


@pytest.mark.parametrize("averaged", ["state_dict_ema", "ema", "ema_state_dict"])
def test_averaged_weights_are_taken_and_said(averaged, tmp_path, caplog):
    state = {"stem.weight": torch.zeros(2)}
    optimizer = {"state": {0: {"exp_avg": torch.ones(2)}}, "param_groups": []}
    torch.save(
        {"state_dict": state, averaged: {"stem.weight": torch.ones(2)}, "optimizer": optimizer}, tmp_path / "w.pth"
    )
    with caplog.at_level("INFO", "inflate3d"):
        assert read_tensors(tmp_path / "w.pth")["stem.weight"].tolist() == [1, 1]
    assert [record.message for record in caplog.records] == [
        f"2D weights: {averaged} of the file, which also holds state_dict"
    ]
    torch.save({"state_dict": state, "optimizer": optimizer}, tmp_path / "w.pth")
    caplog.clear()
    assert read_tensors(tmp_path / "w.pth")["stem.weight"].tolist() == [0, 0] and not caplog.records


def test_dino_checkpoint(tmp_path):
    model = plain_model("vit_tiny_patch16_224", num_classes=0)
    teacher = {f"backbone.{name}": tensor for name, tensor in model.state_dict().items()}
    head = {"head.mlp.0.weight": torch.randn(8, 192), "head.last_layer.weight_v": torch.randn(8, 8)}
    torch.save({"student": {}, "teacher": teacher | head, "epoch": 100}, tmp_path / "w.pth")

    encoder = create_encoder("vit_tiny_patch16_224", image_size=64, weights=tmp_path / "w.pth")

    assert_repeats(encoder, model)
    assert encoder.weights_report is not None
    assert encoder.weights_report.unused == ("norm.weight", "norm.bias", *head)


@pytest.mark.slow
def test_original_swin_checkpoint(tmp_path):
    """Microsoft's layout: `layers`, a stage's merging at its end, masks and indices stored."""
    model = plain_model("swin_tiny_patch4_window7_224", num_classes=10)
    original = {"layers.0.blocks.1.attn_mask": torch.zeros(4, 49, 49)}
    for name, tensor in model.state_dict().items():
        if "downsample" in name:
            stage = int(name.split(".")[1])
            name = name.replace(f"layers.{stage}", f"layers.{stage - 1}")
        original[name.replace("head.fc", "head")] = tensor
    torch.save({"model": original}, tmp_path / "w.pth")

    encoder = create_encoder(
        "swin_tiny_patch4_window7_224", image_size=64, weights=tmp_path / "w.pth", stage_norms=False
    )

    assert_repeats(encoder, model)
    assert encoder.weights_report is not None
    assert encoder.weights_report.layout == "Swin"


def test_openai_clip_layout(tmp_path):
    model = plain_model("vit_xsmall_patch16_clip_224", num_classes=0)
    original = {"positional_embedding": torch.zeros(77, 8), "logit_scale": torch.zeros(())}
    renamed = {
        "cls_token": "class_embedding",
        "pos_embed": "positional_embedding",
        "patch_embed.proj": "conv1",
        "norm_pre": "ln_pre",
        "blocks.": "transformer.resblocks.",
        "attn.qkv.": "attn.in_proj_",
        "attn.proj": "attn.out_proj",
        "mlp.fc1": "mlp.c_fc",
        "mlp.fc2": "mlp.c_proj",
        "norm1": "ln_1",
        "norm2": "ln_2",
    }
    for name, tensor in model.state_dict().items():
        if name.startswith("norm."):
            name = name.replace("norm.", "ln_post.")
        for ours, theirs in renamed.items():
            name = name.replace(ours, theirs)
        if name in ("class_embedding", "positional_embedding"):
            tensor = tensor.flatten() if name == "class_embedding" else tensor[0]
        original[f"visual.{name}"] = tensor
    torch.save(original, tmp_path / "w.pt")

    encoder = create_encoder("vit_xsmall_patch16_clip_224", image_size=64, weights=tmp_path / "w.pt")

    assert_repeats(encoder, model)
    assert encoder.weights_report is not None
    assert encoder.weights_report.layout == "CLIP (OpenAI)"


@pytest.mark.slow
def test_position_embedding_is_resampled_to_the_image_size(tmp_path):
    model = plain_model("vit_tiny_patch16_224", image_size=224)
    save_file(model.state_dict(), tmp_path / "w.safetensors")

    encoder = create_encoder("vit_tiny_patch16_224", image_size=(64, 96), weights=tmp_path / "w.safetensors")

    assert encoder.weights_report is not None
    assert encoder.weights_report.resampled == ("model.pos_embed",)
    model.set_input_size(img_size=(64, 96))
    assert_repeats(encoder, model)


def test_half_precision_becomes_float32(tmp_path):
    model = plain_model("resnet10t").half()
    save_file(model.state_dict(), tmp_path / "w.safetensors")

    encoder = create_encoder("resnet10t", image_size=64, weights=tmp_path / "w.safetensors")

    assert {weight.dtype for weight in encoder.parameters()} == {torch.float32}
    assert_repeats(encoder, model.float())


def test_other_inflation_reaches_the_stem(tmp_path):
    model = plain_model("vit_tiny_patch16_224")
    save_file(model.state_dict(), tmp_path / "w.safetensors")

    encoder = create_encoder(
        "vit_tiny_patch16_224", image_size=64, inflation="average", weights=tmp_path / "w.safetensors"
    )

    stem = encoder.get_parameter("network.model.patch_embed.proj.weight")
    gray = model.get_parameter("patch_embed.proj.weight").sum(dim=1, keepdim=True)
    torch.testing.assert_close(stem, (gray / 5).expand(-1, 5, -1, -1))


@pytest.mark.parametrize("protocol", [4, 5])
@pytest.mark.parametrize("is_archive", [True, False])
def test_newer_pickle_is_named(tmp_path, protocol, is_archive):
    path = tmp_path / "weights.pth"
    torch.save({"a": torch.ones(3)}, path, pickle_protocol=protocol, _use_new_zipfile_serialization=is_archive)
    with pytest.raises(ModelError, match="unreadable") as caught:
        read_tensors(path)
    assert f"version {protocol} of pickle" in str(caught.value.got)


def test_pickle_of_foreign_objects_is_refused(tmp_path):
    torch.save({"model": {}, "made": fractions.Fraction(1, 2)}, tmp_path / "w.pth")

    with pytest.raises(ModelError) as caught:
        create_encoder("resnet10t", image_size=64, weights=tmp_path / "w.pth")
    assert caught.value.file == str(tmp_path / "w.pth")
    assert "fractions.Fraction" in str(caught.value.got)


@pytest.mark.parametrize("name", ["w.pth", "w.safetensors"])
@pytest.mark.parametrize(
    ("content", "described"),
    [
        (b"<!DOCTYPE html><html>404</html>", "leaves; download the file again"),
        (b"version https://git-lfs.github.com/spec/v1\n", "Git LFS"),
        (b"\x89HDF\r\n\x1a\n" + bytes(90), "HDF5 file, as Keras writes; take weights that were made for PyTorch"),
        (b"\x93NUMPY\x01\0" + bytes(90), "NumPy array; save the weights"),
    ],
)
def test_what_is_no_weight_file_is_named(name, content, described, tmp_path):
    (tmp_path / name).write_bytes(content)

    with pytest.raises(ModelError) as caught:
        create_encoder("resnet10t", image_size=64, weights=tmp_path / name)
    assert caught.value.file == str(tmp_path / name)
    assert described in str(caught.value.got)


def test_archives_of_arrays_are_no_weight_files(tmp_path):
    np.savez(tmp_path / "w.npz", weight=np.zeros((2, 3)))
    with pytest.raises(ModelError) as caught:
        create_encoder("resnet10t", image_size=64, weights=tmp_path / "w.npz")
    assert "an archive of NumPy arrays; save the weights" in str(caught.value.got)


def test_negative_variances_are_refused(tmp_path):
    tensors = timm.create_model("resnet10t", pretrained=False).state_dict()
    tensors["bn1.running_var"][0] = -1.0  # its square root is NaN, and so is every prediction
    save_file(tensors, tmp_path / "w.safetensors")
    with pytest.raises(ModelError, match="negative variance") as caught:
        create_encoder("resnet10t", image_size=64, weights=tmp_path / "w.safetensors")
    assert str(caught.value.got).startswith("bn1.running_var")


def test_safetensors_of_another_name_are_read(tmp_path):
    save_file({"w": torch.arange(3.0)}, tmp_path / "w.pth")
    assert read_tensors(tmp_path / "w.pth")["w"].tolist() == [0, 1, 2]


def test_missing_file(tmp_path):
    with pytest.raises(ModelError) as caught:
        create_encoder("resnet10t", image_size=64, weights=tmp_path / "w.pth")
    assert caught.value.file == str(tmp_path / "w.pth")


def nested_lists(depth):
    """A pickle of a list that holds the one before it twice, and so on."""
    return (
        b"\x80\x02]q\x00"
        + b"".join(b"](h" + bytes([i]) + b"h" + bytes([i]) + b"eq" + bytes([i + 1]) for i in range(depth))
        + b"."
    )


def archive_of(path, description, *, compression=zipfile.ZIP_STORED):
    with zipfile.ZipFile(path, "w", compression) as archive:
        archive.writestr("w/data.pkl", description)
        archive.writestr("w/version", "3\n")
        archive.writestr("w/byteorder", "little")
    return path


_HUGE_ARRAY = b"\x80\x02c__builtin__\nbytearray\nJ\x00\x28\x6b\x6e\x85R."


def test_shared_lists_take_no_exponential_time(tmp_path):
    loaded = load_plain(archive_of(tmp_path / "w.pth", nested_lists(100)))
    assert loaded[0] is loaded[1]


@pytest.mark.parametrize("way", ["archive", "compressed", "old"])
def test_hostile_pickle_is_refused_before_it_is_built(way, tmp_path, monkeypatch):
    path = tmp_path / "w.pth"
    if way == "old":
        torch.save({"w": torch.zeros(1)}, path, _use_new_zipfile_serialization=False)
        start = path.read_bytes()
        path.write_bytes(start[: start.index(b"}q\x00X\x01\x00\x00\x00w") - 2] + _HUGE_ARRAY + start)
    else:
        archive_of(path, _HUGE_ARRAY, compression=zipfile.ZIP_DEFLATED if way == "compressed" else zipfile.ZIP_STORED)
    monkeypatch.setattr(torch, "load", lambda *_, **__: pytest.fail("it was loaded"))
    with pytest.raises(ModelError):
        read_tensors(path)


@pytest.mark.parametrize("count", [100_000, 2**31 - 1])
def test_arrays_of_the_old_format_that_claim_more_than_the_file_holds(count, tmp_path, monkeypatch):
    path = tmp_path / "w.pth"
    torch.save({"w": torch.zeros(0x1234)}, path, _use_new_zipfile_serialization=False)
    assert len(read_tensors(path)["w"]) == 0x1234
    path.write_bytes(path.read_bytes().replace(b"M\x34\x12", b"J" + count.to_bytes(4, "little"), 1))
    monkeypatch.setattr(torch, "load", lambda *_, **__: pytest.fail("it was loaded"))
    with pytest.raises(ModelError) as caught:
        read_tensors(path)
    assert str(count) in str(caught.value.got)


def test_keys_of_nested_tuples_are_refused_before_they_are_hashed(tmp_path):
    key = b")" + b"\x85" * 300_000  # Python's hash of it would end the process
    with pytest.raises(ModelError):
        read_tensors(archive_of(tmp_path / "w.pth", b"\x80\x02}" + key + b"K\x01s."))


@pytest.mark.parametrize("operation", [b"r\xff\xff\xff\x7f", b"p2147483647\n"])
def test_values_are_numbered_as_they_are_built(operation, tmp_path):
    with pytest.raises(ModelError):
        read_tensors(archive_of(tmp_path / "w.pth", b"\x80\x02}" + operation + b"."))


def test_nan_is_refused(tmp_path):
    tensors = plain_model("resnet10t").state_dict()
    tensors["layer3.0.conv1.weight"][0, 0, 0, 0] = torch.nan
    save_file(tensors, tmp_path / "w.safetensors")
    with pytest.raises(ModelError) as caught:
        create_encoder("resnet10t", image_size=64, weights=tmp_path / "w.safetensors")
    assert caught.value.got == "layer3.0.conv1.weight"


def test_weights_of_gray_images_are_kept_to_the_bit(tmp_path):
    gray = plain_model("resnet10t", in_chans=1)
    save_file(gray.state_dict(), tmp_path / "w.safetensors")
    encoder = create_encoder("resnet10t", depth=3, image_size=64, weights=tmp_path / "w.safetensors").eval()
    stem = gray.get_parameter("conv1.0.weight")
    assert encoder.weights_report is not None
    inflated = encoder.network.get_parameter(encoder.weights_report.inflated[0])
    assert torch.equal(inflated[:, 1], stem[:, 0])


@pytest.mark.parametrize("prefix", ["model.", "module.backbone.", "model._orig_mod.", "student."])
def test_prefixes_of_training_code_are_removed(prefix, tmp_path):
    model = plain_model("resnet10t")
    tensors = {f"{prefix}{name}": tensor for name, tensor in model.state_dict().items()} | {"head.w": torch.zeros(1)}
    save_file(tensors, tmp_path / "w.safetensors")
    assert_repeats(create_encoder("resnet10t", image_size=64, weights=tmp_path / "w.safetensors"), model)


def test_file_of_two_networks_is_refused(tmp_path):
    tensors = plain_model("resnet10t").state_dict()
    both = {f"{part}.{name}": tensor for part in ("student", "teacher") for name, tensor in tensors.items()}
    torch.save({"optimizer": {"lr": 1.0}, "model_state_dict": both}, tmp_path / "w.pth")
    with pytest.raises(ModelError) as caught:
        create_encoder("resnet10t", image_size=64, weights=tmp_path / "w.pth")
    assert caught.value.got == "names that begin with student., teacher."


@pytest.mark.slow
@pytest.mark.parametrize(
    ("change", "got"),
    [
        (lambda weight: (10 * weight).to(torch.int8), "conv1.0.weight of type int8"),
        (lambda weight: weight.to(torch.complex64), "conv1.0.weight of type complex64"),
        (torch.zeros_like, "conv1.0.weight"),
    ],
)
def test_weights_that_are_no_weights_are_refused(change, got, tmp_path):
    tensors = plain_model("resnet10t").state_dict()
    tensors["conv1.0.weight"] = change(tensors["conv1.0.weight"])
    torch.save(tensors, tmp_path / "w.pth")
    with pytest.raises(ModelError) as caught:
        create_encoder("resnet10t", image_size=64, weights=tmp_path / "w.pth")
    assert caught.value.got == got


@pytest.mark.parametrize("entries", [0, 2])  # 2: a distillation token (DeiT), a pretext token (PathoDuet)
def test_position_embedding_with_another_number_of_tokens(entries, tmp_path):
    tensors = plain_model("vit_tiny_patch16_224", image_size=224, depth=2).state_dict()
    embedding = tensors["pos_embed"]
    tensors["pos_embed"] = torch.cat([embedding[:, :1]] * entries + [embedding[:, 1:]], dim=1)
    save_file(tensors, tmp_path / "w.safetensors")
    with pytest.raises(ModelError) as caught:
        create_encoder(
            "vit_tiny_patch16_224", image_size=64, weights=tmp_path / "w.safetensors", arguments={"depth": 2}
        )
    assert f"14 x 14 patches and {entries or 'no'} further entries, the backbone's 1" in str(caught.value.got)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "size", "other", "arguments"),
    [
        ("cait_xxs24_224", 64, (96, 64), {"depth": 2}),
        ("pit_ti_224", 64, (96, 64), {}),
        ("crossvit_tiny_240", 240, 480, {}),
    ],
)
def test_position_embeddings_that_timm_does_not_resample(name, size, other, arguments, tmp_path):
    tensors = plain_model(name, image_size=size, **arguments).state_dict()
    for key, tensor in tensors.items():
        if key.startswith("pos_embed"):
            tensor.fill_(0.5)
    save_file(tensors, tmp_path / "w.safetensors")
    encoder = create_encoder(name, image_size=other, weights=tmp_path / "w.safetensors", arguments=arguments)
    report = encoder.weights_report
    assert report is not None
    assert report.resampled
    for key in report.resampled:
        torch.testing.assert_close(
            encoder.network.state_dict()[key], torch.full_like(encoder.network.state_dict()[key], 0.5)
        )


def test_single_missing_tensor_is_an_error(tmp_path):
    tensors = dict(plain_model("resnet10t").state_dict())
    del tensors["layer3.0.bn1.running_var"]
    save_file(tensors, tmp_path / "w.safetensors")

    with pytest.raises(ModelError):
        create_encoder("resnet10t", image_size=64, weights=tmp_path / "w.safetensors")


def test_missing_layers_that_no_level_needs_are_fine(tmp_path):
    tensors = {
        name: tensor
        for name, tensor in plain_model("resnet10t").state_dict().items()
        if not name.startswith(("layer4", "fc"))
    }
    save_file(tensors, tmp_path / "w.safetensors")

    encoder = create_encoder("resnet10t", image_size=64, levels=(1, 2), weights=tmp_path / "w.safetensors")

    assert encoder.strides == (4, 8)


@pytest.mark.slow
@pytest.mark.parametrize("other", ["vit_small_patch16_224", "resnet10t"])
def test_weights_of_another_backbone_are_refused(other, tmp_path):
    save_file(plain_model(other).state_dict(), tmp_path / "w.safetensors")

    with pytest.raises(ModelError) as caught:
        create_encoder("vit_tiny_patch16_224", image_size=64, weights=tmp_path / "w.safetensors")
    assert len(str(caught.value)) < 1500


@pytest.mark.parametrize(
    ("content", "why"),
    [([torch.zeros(1)], "holds a list"), ({}, "no tensors"), ({"state_dict": {"epoch": 3}}, "no tensors")],
)
def test_file_without_named_tensors_is_refused(content, why, tmp_path):
    torch.save(content, tmp_path / "w.pth")

    with pytest.raises(ModelError, match=why):
        create_encoder("resnet10t", image_size=64, weights=tmp_path / "w.pth")


@pytest.fixture
def offline_cache(tmp_path, monkeypatch):
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    return tmp_path


def test_published_weights_without_network_name_the_hub_id(offline_cache):
    with pytest.raises(ModelError, match="can't be downloaded") as caught:
        create_encoder("resnet18.a1_in1k", image_size=64, weights="timm")
    assert "timm/resnet18.a1_in1k" in str(caught.value.expected)
    assert "--weights" in str(caught.value.hint)


def test_published_weights_come_from_the_cache(offline_cache):
    model = plain_model("resnet10t")
    repository = offline_cache / "models--timm--resnet10t.c3_in1k"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text("0" * 40)
    snapshot = repository / "snapshots" / ("0" * 40)
    snapshot.mkdir(parents=True)
    save_file(model.state_dict(), snapshot / "model.safetensors")

    encoder = create_encoder("resnet10t", image_size=64, weights="timm")

    assert_repeats(encoder, model)
    assert encoder.weights_report is not None
    assert encoder.weights_report.source == "hf-hub:timm/resnet10t.c3_in1k"


def test_backbone_without_published_weights_is_told():
    with pytest.raises(ModelError, match="publishes no weights"):
        create_encoder("resnetblur18", image_size=64, weights="timm")


@pytest.mark.slow
@pytest.mark.real
@pytest.mark.skipif(not DINOV2.exists(), reason=f"needs {DINOV2.name} beside the checkout")
def test_real_dinov2_weights():
    encoder = create_encoder("vit_small_patch14_dinov2", depth=5, image_size=112, weights=DINOV2).eval().double()
    published = {name: tensor.float() for name, tensor in load_file(DINOV2).items()}
    model: Any = timm.create_model(
        "vit_small_patch14_dinov2",
        img_size=112,
        pretrained=True,
        pretrained_cfg_overlay={"state_dict": published},
    )
    window = torch.rand(1, 1, 5, 112, 112, dtype=torch.float64)

    with torch.no_grad():
        found = encoder(window)
        wanted = (
            model.eval()
            .double()
            .forward_intermediates(
                window[:, :, 2].expand(-1, 3, -1, -1), indices=[2, 5, 8, 11], intermediates_only=True
            )
        )

    assert published["pos_embed"].shape == (1, 1 + 37 * 37, 384)
    assert encoder.weights_report is not None
    assert encoder.weights_report.resampled == ("model.pos_embed",)
    assert encoder.weights_report.inflated == ("model.patch_embed.proj.weight",)
    for pair in zip(found, wanted, strict=True):
        torch.testing.assert_close(*pair, rtol=1e-5, atol=1e-6)


def archive(path, pickled):
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("w/data.pkl", pickled)
        file.writestr("w/version", "3\n")


def test_keys_that_take_exponential_time_to_hash_are_refused(tmp_path):
    """Each of 60 tuples holds the previous one twice, and the last is a dictionary's key."""
    doubled = b"".join(b"h%ch%c\x86q%c0" % (number, number, number + 1) for number in range(60))
    archive(tmp_path / "w.pth", b"\x80\x02)q\x000" + doubled + b"}h\x3cK\x01s.")
    with pytest.raises(ModelError) as caught:
        read_tensors(tmp_path / "w.pth")
    assert "it nests tuples" in str(caught.value.got)


def test_torch_gives_no_advice_to_run_a_file(tmp_path):
    archive(tmp_path / "w.pth", b"\x80\x02)K\x01K\x02s.")  # an item is set in a tuple
    with pytest.raises(ModelError) as caught:
        read_tensors(tmp_path / "w.pth")
    assert str(caught.value.got).startswith("Can only SETITEM for dict")
    assert "\n" not in str(caught.value.got)
