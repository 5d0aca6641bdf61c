"""Checkpoints of the paper's code. The real one's logits are the oracle; the others are written here by its layout."""

import importlib.util
import json
import pickle
import sys
import zlib
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch.nn import functional as F

from inflate3d.cli import main
from inflate3d.errors import ConfigError, ModelError
from inflate3d.io import read_labels, read_volume
from inflate3d.models.segmenter import Segmenter, load_model

_SCRIPT = Path(__file__).parents[2] / "scripts" / "import_original_checkpoint.py"


def _load_script():
    spec = importlib.util.spec_from_file_location("import_original_checkpoint", _SCRIPT)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


script = _load_script()
import_original = script.import_original

SETTINGS = {"img_size": (32, 32, 3), "force_2d": 0, "bootstrap_method": "centering"}


class Layout(dict[str, torch.Tensor]):
    """Tensors by the original's names, seeded."""

    def add(self, name, *shape):
        value = torch.randn(shape, generator=torch.Generator().manual_seed(zlib.crc32(name.encode()))) * 0.2
        if name.endswith(("norm1.weight", "norm2.weight", "norm.weight", "bn.weight", "running_var")):
            value = value.abs() + 1
        self[name] = value

    def linear(self, name, before, after, bias=True):
        self.add(f"{name}.weight", after, before)
        if bias:
            self.add(f"{name}.bias", after)

    def norm(self, name, width):
        self.add(f"{name}.weight", width)
        self.add(f"{name}.bias", width)

    def conv(self, name, *shape, transposed=False):
        self.add(f"{name}.weight", *shape)
        self.add(f"{name}.bias", shape[1] if transposed else shape[0])

    def batch_norm(self, name, width):
        self.norm(name, width)
        self.add(f"{name}.running_mean", width)
        self.add(f"{name}.running_var", width)
        self[f"{name}.num_batches_tracked"] = torch.tensor(3)

    def conv_module(self, name, before, after, kernel):
        self.add(f"{name}.conv.weight", after, before, kernel, kernel)
        self.batch_norm(f"{name}.bn", after)


def beit(width=16, heads=2, blocks=12, modalities=1, depth=3, rows=2, columns=2):
    made = Layout()
    made.add("encoder.cls_token", 1, 1, width)
    made.conv("encoder.patch_embed.proj", width, modalities, depth, 16, 16)
    for block in range(blocks):
        name = f"encoder.blocks.{block}"
        made.add(f"{name}.gamma_1", width)
        made.add(f"{name}.gamma_2", width)
        made.norm(f"{name}.norm1", width)
        made.add(f"{name}.attn.q_bias", width)
        made.add(f"{name}.attn.v_bias", width)
        made.add(f"{name}.attn.relative_position_bias_table", (2 * rows - 1) * (2 * columns - 1) + 3, heads)
        made[f"{name}.attn.relative_position_index"] = torch.zeros((rows * columns + 1,) * 2, dtype=torch.int64)
        made.linear(f"{name}.attn.qkv", width, 3 * width, bias=False)
        plain_block_end(made, name, width)
    return made


def dino(width=24, blocks=12, modalities=1, depth=3, tokens=4):
    made = Layout()
    made.add("encoder.cls_token", 1, 1, width)
    made.add("encoder.pos_embed", 1, tokens + 1, width)
    made.conv("encoder.patch_embed.proj", width, modalities, 16, 16, depth)
    for block in range(blocks):
        name = f"encoder.blocks.{block}"
        made.norm(f"{name}.norm1", width)
        made.linear(f"{name}.attn.qkv", width, 3 * width)
        plain_block_end(made, name, width)
    made.norm("encoder.norm", width)
    return made


def plain_block_end(made, name, width):
    made.linear(f"{name}.attn.proj", width, width)
    made.norm(f"{name}.norm2", width)
    made.linear(f"{name}.mlp.fc1", width, 4 * width)
    made.linear(f"{name}.mlp.fc2", 4 * width, width)


def swin(stem, table, *, width=8, depths=(2, 2, 2, 2), heads=(1, 2, 4, 8), stage_norms=True):
    made = Layout()
    made.conv("encoder.patch_embed.proj", width, *stem)
    made.norm("encoder.patch_embed.norm", width)
    for stage, depth in enumerate(depths):
        channels = width * 2**stage
        for block in range(depth):
            name = f"encoder.layers.{stage}.blocks.{block}"
            made.norm(f"{name}.norm1", channels)
            made.add(f"{name}.attn.relative_position_bias_table", table, heads[stage])
            made[f"{name}.attn.relative_position_index"] = torch.zeros(2, 2, dtype=torch.int64)
            made.linear(f"{name}.attn.qkv", channels, 3 * channels)
            plain_block_end(made, name, channels)
        if stage + 1 < len(depths):
            made.linear(f"encoder.layers.{stage}.downsample.reduction", 4 * channels, 2 * channels, bias=False)
            made.norm(f"encoder.layers.{stage}.downsample.norm", 4 * channels)
        if stage_norms:
            made.norm(f"encoder.norm{stage}", channels)
    if not stage_norms:
        made.norm("encoder.norm", width * 2 ** (len(depths) - 1))
    return made


def upernet(channels, width, *, classes=3, pyramid=True):
    made = Layout()
    made.conv("decoder.conv_seg", classes, width, 1, 1)
    if pyramid:
        for name in ("fpn1.0", "fpn1.3", "fpn2.0"):
            made.conv(f"decoder.{name}", width, width, 2, 2, transposed=True)
        made.batch_norm("decoder.fpn1.1", width)
    for index in range(4):
        made.conv_module(f"decoder.psp_modules.{index}.1", channels[-1], width, 1)
    made.conv_module("decoder.bottleneck", channels[-1] + 4 * width, width, 3)
    for index in range(3):
        made.conv_module(f"decoder.lateral_convs.{index}", channels[index], width, 1)
        made.conv_module(f"decoder.fpn_convs.{index}", width, width, 3)
    made.conv_module("decoder.fpn_bottleneck", 4 * width, width, 3)
    return made


def setr(width=16, classes=3):
    made = Layout()
    for index in range(4):
        made.conv(f"decoder.decoder{index}", width, width, 3, 3)
    made.conv("decoder.decoder4", classes, width, 1, 1)
    return made


def conv_trans(width=16, classes=3):
    made = Layout()
    for index in range(1, 4):
        made.conv(f"decoder.decoder{index}", width, width, 2, 2, transposed=True)
    made.conv("decoder.decoder4", width, classes, 2, 2, transposed=True)
    return made


def write(path, *parts, settings=SETTINGS, **more):
    tensors = {name: tensor for part in parts for name, tensor in part.items()}
    torch.save({"state_dict": tensors, "hyper_parameters": settings, "epoch": 1, **more}, path)
    return path


@pytest.fixture
def path(tmp_path):
    return tmp_path / "transseg.ckpt"


@pytest.mark.slow
@pytest.mark.real
def test_logits_of_a_whole_checkpoint(shared, tmp_path):
    given = load_file(shared / "original" / "transseg_io.safetensors")
    assert script.main([str(shared / "original" / "transseg.ckpt"), str(tmp_path / "out")]) == 0
    model = load_model(tmp_path / "out")
    assert isinstance(model, Segmenter)
    assert model.architecture.encoder_arguments == {"embed_dim": 48, "num_heads": 4}
    with torch.no_grad():
        logits = model(given["input"].permute(0, 1, 4, 2, 3))
    assert (logits - given["logits"]).abs().max() < 1e-4


def published(shared, name, prefix):
    """Weights as the figures' README draws them, for the encoder of a checkpoint."""
    shapes = json.loads((shared / "original" / f"{name}.shapes.json").read_text(encoding="utf-8"))
    made = {}
    for own, shape in shapes.items():
        tensor = torch.randn(shape, generator=torch.Generator().manual_seed(zlib.crc32(("dev." + own).encode())))
        tensor = tensor * (0.5 if own.endswith("relative_position_bias_table") else 0.02)
        if len(shape) == 1 and (own.endswith("weight") or "gamma_" in own):
            tensor += 1
        if not own.startswith("head") and "attn_mask" not in own:
            made[f"encoder.{own.removeprefix(prefix)}"] = tensor
    return made


@pytest.mark.slow
@pytest.mark.real
@pytest.mark.parametrize("kind", ["swint", "videoswint"])
def test_encoder_features_of_the_original(shared, path, kind):
    name, size, seed, prefix = {
        "swint": ("swin_base_patch4_window7_224_22k", 448, 11, ""),
        "videoswint": ("swin_base_patch244_window877_kinetics600_22k", 128, 13, "backbone."),
    }[kind]
    figures = load_file(shared / "original" / "features.safetensors")
    wanted = next(key.rsplit(".", 1)[0] for key in figures if key.startswith(f"{kind}.") and ".C2." in key)
    method, depth = wanted.split(".")[1], int(wanted.rsplit(".D", 1)[1])
    tensors = published(shared, name, prefix)
    gray = tensors["encoder.patch_embed.proj.weight"].sum(1, keepdim=True) / 2
    if kind == "swint":
        inflated = gray.unsqueeze(2).repeat(1, 2, depth, 1, 1) / depth
        if method == "centering":
            inflated = torch.zeros_like(inflated)
            inflated[:, :, depth // 2] = gray
        tensors["encoder.patch_embed.proj.weight"] = inflated
        for stage in range(4):
            tensors[f"encoder.norm{stage}.weight"] = torch.ones(128 * 2**stage)
            tensors[f"encoder.norm{stage}.bias"] = torch.zeros(128 * 2**stage)
        tensors = {own: tensor for own, tensor in tensors.items() if not own.startswith("encoder.norm.")}
    else:
        tensors["encoder.patch_embed.proj.weight"] = gray.repeat(1, 2, 1, 1, 1)
    decoder = upernet((128, 256, 512, 1024), 8, pyramid=False)
    write(path, tensors, decoder, settings={**SETTINGS, "img_size": (size, size, depth)})
    model = import_original(path).model
    windows = torch.randn(1, 2, depth, size, size, generator=torch.Generator().manual_seed(seed))
    with torch.no_grad():
        maps = model.encoder(windows)
    for index, features in enumerate(maps):
        expected = figures[f"{wanted}.{index}"]
        assert (features[:, ::16, ::4, ::4] - expected).abs().max() < 1e-4 * expected.abs().max()


@pytest.mark.slow
@pytest.mark.parametrize(("modalities", "depth", "force_2d"), [(2, 3, 0), (1, 1, 1), (3, 1, 1)])
def test_modalities_and_2d_by_construction(path, modalities, depth, force_2d):
    """The stem, told apart from our flattening: a 3D convolution on windows of the original's order."""
    tensors = beit(modalities=modalities, depth=depth)
    write(path, tensors, upernet((16,) * 4, 16), settings={**SETTINGS, "force_2d": force_2d})
    model = import_original(path).model
    assert (model.architecture.in_channels, model.architecture.depth) == (modalities, depth)
    ordered = torch.rand(2, modalities, 32, 32, depth)
    windows = ordered.permute(0, 1, 4, 2, 3)
    stem = model.encoder.network.get_submodule("model.patch_embed.proj")
    wanted = F.conv3d(
        windows,
        tensors["encoder.patch_embed.proj.weight"],
        tensors["encoder.patch_embed.proj.bias"],
        stride=(1, 16, 16),
    )
    torch.testing.assert_close(stem(windows.flatten(1, 2)), wanted[:, :, 0], atol=1e-4, rtol=1e-4)
    assert model(windows).shape == (2, 3, 32, 32)


def test_setr_pup(path):
    tensors = setr()
    write(path, beit(blocks=3), tensors)
    model = import_original(path).model
    windows = torch.rand(2, 1, 3, 32, 32)
    with torch.no_grad():
        x = model.encoder(windows)[-1]
        for index in range(4):
            name = f"decoder.decoder{index}"
            x = F.relu(F.instance_norm(F.conv2d(x, tensors[f"{name}.weight"], tensors[f"{name}.bias"], padding=1)))
            if index < 3:
                x = F.interpolate(x, scale_factor=2, mode="bilinear")
        x = F.conv2d(x, tensors["decoder.decoder4.weight"], tensors["decoder.decoder4.bias"])
        torch.testing.assert_close(model(windows), F.interpolate(x, scale_factor=2, mode="bilinear"))
    assert model.encoder.levels == (2,)


def test_conv_trans(path):
    tensors = conv_trans(width=24)
    write(path, dino(), tensors, settings={**SETTINGS, "num_heads": 3})
    model = import_original(path).model
    windows = torch.rand(2, 1, 3, 32, 32)
    with torch.no_grad():
        x = model.encoder(windows)[-1]
        for index in range(1, 5):
            name = f"decoder.decoder{index}"
            x = F.relu(F.instance_norm(x))
            x = F.conv_transpose2d(x, tensors[f"{name}.weight"], tensors[f"{name}.bias"], stride=2)
        torch.testing.assert_close(model(windows), x)


def test_dino_reads_kernels_that_end_in_the_depth(path):
    tensors = dino()
    write(path, tensors, upernet((24,) * 4, 24), settings={**SETTINGS, "num_heads": 3})
    imported = import_original(path)
    windows = torch.rand(1, 1, 3, 32, 32)
    stem = imported.model.encoder.network.get_submodule("model.patch_embed.proj")
    weight, bias = tensors["encoder.patch_embed.proj.weight"], tensors["encoder.patch_embed.proj.bias"]
    wanted = F.conv3d(windows.permute(0, 1, 3, 4, 2), weight, bias, stride=(16, 16, 3))
    torch.testing.assert_close(stem(windows.flatten(1, 2)), wanted[..., 0], atol=1e-4, rtol=1e-4)
    assert imported.unused == ("encoder.norm.weight", "encoder.norm.bias")


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["Swin", "Video Swin"])
def test_swins_of_another_width(path, kind, tmp_path):
    stem, table = ((2, 3, 4, 4), 169) if kind == "Swin" else ((2, 2, 4, 4), 15 * 169)
    tensors = swin(stem, table, stage_norms=kind == "Swin")
    write(path, tensors, upernet((8, 16, 32, 64), 12, pyramid=False), settings={**SETTINGS, "img_size": (64, 64, 3)})
    imported = import_original(path)
    assert (imported.encoder, imported.model.architecture.depth) == (kind, 3)
    windows = torch.rand(2, 2, 3, 64, 64)
    logits = imported.model(windows)
    assert logits.shape == (2, 3, 64, 64)
    imported.model.save(tmp_path / "model")
    assert torch.equal(load_model(tmp_path / "model")(windows), logits)
    wanted = tensors["encoder.layers.0.downsample.reduction.weight"]
    assert any(torch.equal(found, wanted) for found in imported.model.state_dict().values())


def test_swin_at_a_size_that_needs_padding_is_not_called_exact(path, tmp_path, capsys):
    tensors = swin((1, 3, 4, 4), 25)  # windows of 3 x 3 tokens, maps of 16 and less
    write(path, tensors, upernet((8, 16, 32, 64), 12, pyramid=False), settings={**SETTINGS, "img_size": (64, 64, 3)})
    assert script.main([str(path), str(tmp_path / "out")]) == 0
    assert "near the border" in capsys.readouterr().out


def test_blocks_behind_the_last_one_that_is_read(path):
    write(path, beit(blocks=13), upernet((16,) * 4, 16))
    imported = import_original(path)
    assert "encoder.blocks.12.mlp.fc2.weight" in imported.unused
    assert imported.model(torch.rand(1, 1, 3, 32, 32)).shape == (1, 3, 32, 32)


class Callback:
    """Stands for a class of Lightning's in a file."""

    def __init__(self, *parts):
        pytest.fail("a class that a checkpoint names was made")


def test_lightnings_records_are_read_without_its_classes(path, monkeypatch):
    """Lightning 1.4 keeps classes as keys of callbacks, and settings in a dictionary of its own class."""
    callback = type("ModelCheckpoint", (), {"__module__": "pytorch_lightning.callbacks.model_checkpoint"})
    monkeypatch.setattr("pytorch_lightning.callbacks.model_checkpoint.ModelCheckpoint", callback)
    settings = type("AttributeDict", (dict,), {"__module__": "pytorch_lightning.utilities.parsing"})
    monkeypatch.setattr("pytorch_lightning.utilities.parsing.AttributeDict", settings)
    write(
        path,
        beit(),
        upernet((16,) * 4, 16),
        settings=settings(SETTINGS),
        callbacks={callback: {"best_model_score": torch.tensor(0.5), "dirpath": "runs"}},
    )
    monkeypatch.undo()
    assert import_original(path).encoder == "BEiT"


class Bomb:
    def __reduce__(self):
        return pytest.fail, ("a pickle was run",)


def test_code_in_a_checkpoint_is_not_run(path):
    write(path, beit(), upernet((16,) * 4, 16), callbacks=Bomb())
    with pytest.raises(ModelError) as caught:
        import_original(path)
    assert "a pickle that names" in str(caught.value.got)


@pytest.mark.parametrize(
    ("parts", "described"),
    [
        ((beit(blocks=1), {"decoder.head.weight": torch.zeros(1)}), "BEiT; decoder: unknown (decoder.head.weight"),
        (({"encoder.stem.weight": torch.zeros(1)}, setr()), "unknown (encoder.stem.weight, ...); decoder: SETR-PUP"),
        ((beit(blocks=1),), "encoder: BEiT; decoder: absent"),
        (({"encoder.patch_embedding.cls_token": torch.zeros(1)}, setr()), "encoder: MONAI's ViT; decoder: SETR-PUP"),
        ((beit(blocks=1), {"decoder.encoder1.layer.conv1.conv.weight": torch.zeros(1)}), "decoder: UNETR"),
        ((beit(blocks=1), upernet((16,) * 4, 16, pyramid=False)), "BEiT; decoder: UPerNet for Swin"),
    ],
)
def test_unknown_layouts_are_described(path, parts, described):
    write(path, *parts)
    with pytest.raises(ModelError) as caught:
        import_original(path)
    assert described in str(caught.value.got)
    assert caught.value.file == str(path)


def test_tensor_too_many_or_missing(path):
    more = beit()
    more.add("encoder.blocks.0.attn.extra", 3)
    del more["encoder.blocks.5.norm1.bias"]
    write(path, more, upernet((16,) * 4, 16), {"criterion.weight": torch.zeros(2)})
    with pytest.raises(ModelError) as caught:
        import_original(path)
    assert "criterion.weight absent" in str(caught.value.expected)
    assert "2 more differ" in str(caught.value.got)


def test_too_few_blocks_for_upernet(path):
    write(path, beit(blocks=3), upernet((16,) * 4, 16))
    with pytest.raises(ModelError) as caught:
        import_original(path)
    assert caught.value.got == "3 blocks"


def test_even_number_of_slices(path):
    write(path, beit(depth=4), upernet((16,) * 4, 16))
    with pytest.raises(ConfigError):
        import_original(path)


def test_no_settings(path):
    write(path, beit(), upernet((16,) * 4, 16), settings=None)
    with pytest.raises(ModelError):
        import_original(path)


def test_files_that_are_no_checkpoints(path, capsys, tmp_path):
    assert script.main([str(path), str(tmp_path / "out")]) == 2
    assert str(path) in capsys.readouterr().err
    path.write_bytes(b"not a checkpoint")
    with pytest.raises(ModelError):
        import_original(path)
    path.write_bytes(pickle.dumps({"state_dict": {}}))
    with pytest.raises(ModelError):
        import_original(path)
    torch.save({"model": {"weight": torch.zeros(1)}}, path)
    with pytest.raises(ModelError):
        import_original(path)


def test_folder_that_is_not_empty(path, tmp_path):
    write(path, beit(), upernet((16,) * 4, 16))
    assert script.main([str(path), str(tmp_path)]) == 2
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.slow
def test_imported_with_a_plan_it_predicts(path, tmp_path, phantoms, phantom_store):
    """Label maps are those of the network's own logits: the scan's windows, each slice resized to 32 x 32."""
    count = len(phantom_store.plan.classes)
    write(path, beit(), upernet((16,) * 4, 16, classes=count))
    assert script.main([str(path), str(tmp_path / "out"), "--plan", str(phantom_store.folder)]) == 0
    plan = load_model(tmp_path / "out").plan
    assert plan is not None
    assert (plan.image_size, len(plan.classes)) == ((32, 32), count)
    scan = phantoms.cases[0].scan
    assert main(["predict", str(tmp_path / "out"), str(scan), str(tmp_path / "labels")]) == 0
    assert read_labels(tmp_path / "labels" / scan.name).shape == read_volume(scan).shape


@pytest.mark.slow
def test_plan_of_other_data(path, tmp_path, phantom_store, capsys):
    write(path, beit(modalities=2), upernet((16,) * 4, 16, classes=3))
    assert script.main([str(path), str(tmp_path / "out"), "--plan", str(phantom_store.folder / "plan.json")]) == 2
    assert "2 modalities, 3 classes" in capsys.readouterr().err
    assert script.main([str(path), str(tmp_path / "out"), "--plan", str(tmp_path / "nowhere")]) == 2
    assert not (tmp_path / "out").exists()
