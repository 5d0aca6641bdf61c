"""Published layouts: timm's own network is written as its authors name it, read back, and computes the same."""

import re
import warnings
from typing import Any

import pytest
import timm
import torch
from timm.models.beit import checkpoint_filter_fn
from torch.nn import functional as F

from inflate3d.errors import ModelError
from inflate3d.models.encoders import create_encoder
from inflate3d.models.layouts import layout_of


def shaken(model) -> Any:
    """A network none of whose weights is zero or one."""
    torch.manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.02 * torch.randn_like(parameter))
    return model.eval()


def save(file, tensors, nested=None):
    torch.save({nested: tensors} if nested else tensors, file)
    return file


def renamed(tensors, *pairs):
    found = {}
    for name, tensor in tensors.items():
        for pattern, replacement in pairs:
            name = re.sub(pattern, replacement, name)
        found[name] = tensor
    return found


def assert_repeats(encoder, model):
    window = torch.randn(1, 1, encoder.depth, *encoder.image_size)
    image = window[:, :, encoder.depth // 2].expand(-1, 3, -1, -1)
    with torch.no_grad():
        found = encoder.eval()(window)
        wanted = model.forward_intermediates(image, indices=list(encoder.levels), intermediates_only=True)
    for pair in zip(found, wanted, strict=True):
        torch.testing.assert_close(*pair, rtol=1e-3, atol=1e-4)


def accounted(encoder, names):
    """The report, once it is sure that it names the whole network, and no tensor that is not the file's as unused."""
    report = encoder.weights_report
    assert report is not None
    assert set(report.loaded) == set(encoder.network.state_dict())
    return report


SMALL_BEIT: dict[str, Any] = {"embed_dim": 48, "num_heads": 4}


@pytest.fixture
def beit() -> Any:
    return shaken(timm.create_model("beit_base_patch16_224", img_size=64, num_classes=0, **SMALL_BEIT))


def create_beit(file, size: int | tuple[int, int] = 64):
    return create_encoder("beit-ssl", depth=3, image_size=size, weights=file, arguments=SMALL_BEIT)


@pytest.mark.slow
def test_beit(beit, tmp_path):
    index = {"blocks.0.attn.relative_position_index": torch.zeros(17, 17, dtype=torch.int64)}
    tensors = beit.state_dict() | index

    encoder = create_beit(save(tmp_path / "w.pth", tensors, "model"))

    assert_repeats(encoder, beit)
    report = accounted(encoder, tensors)
    assert report.layout == "BEiT"
    assert report.resampled == ()
    assert set(report.unused) <= {*index, "fc_norm.weight", "fc_norm.bias"}


def test_self_supervised_beit_shares_its_position_table(beit, tmp_path):
    table = torch.randn(beit.state_dict()["blocks.0.attn.relative_position_bias_table"].shape)
    tensors = {n: t for n, t in beit.state_dict().items() if not n.endswith("relative_position_bias_table")}
    tensors |= {"rel_pos_bias.relative_position_bias_table": table, "mask_token": torch.zeros(1, 1, 48)}
    tensors |= {"lm_head.weight": torch.zeros(9, 48)}
    with torch.no_grad():
        for block in beit.blocks:
            block.attn.relative_position_bias_table.copy_(table)

    encoder = create_beit(save(tmp_path / "w.pth", tensors, "model"))

    assert_repeats(encoder, beit)
    report = accounted(encoder, tensors)
    assert report.layout == "BEiT, self-supervised"


def test_position_tables_are_resampled_to_the_image_size(beit, tmp_path):
    encoder = create_beit(save(tmp_path / "w.pth", beit.state_dict(), "model"), size=(96, 64))

    report = accounted(encoder, beit.state_dict())
    table = "blocks.0.attn.relative_position_bias_table"
    assert report.resampled == tuple(f"model.blocks.{n}.attn.relative_position_bias_table" for n in range(12))
    found, published = encoder.network.state_dict()[f"model.{table}"], beit.state_dict()[table]
    torch.testing.assert_close(found[5 * 7 + 3], published[3 * 7 + 3])  # no way apart, among 11 x 7 and 7 x 7
    torch.testing.assert_close(found[-3:], published[-3:])  # to, from and of the class token
    other = timm.create_model("beit_base_patch16_224", img_size=(96, 64), num_classes=0, **SMALL_BEIT)
    with warnings.catch_warnings(action="ignore"):
        other.load_state_dict(checkpoint_filter_fn(dict(beit.state_dict()), other))
    assert_repeats(encoder, other.eval())


def plain(**arguments) -> Any:
    return shaken(timm.create_model("vit_tiny_patch16_224", img_size=64, num_classes=0, **arguments))


def test_dino(tmp_path):
    model = plain()

    encoder = create_encoder(
        "vit_tiny_patch16_224", image_size=64, weights=save(tmp_path / "w.pth", model.state_dict())
    )

    assert_repeats(encoder, model)
    assert set(accounted(encoder, model.state_dict()).unused) == {"norm.weight", "norm.bias"}


def test_mae_with_its_decoder(tmp_path):
    model = plain()
    decoder = {"mask_token": torch.zeros(1, 1, 8), "decoder_pos_embed": torch.zeros(1, 17, 8)}
    decoder |= {"decoder_embed.weight": torch.zeros(8, 192), "decoder_blocks.0.attn.qkv.weight": torch.zeros(24, 8)}

    encoder = create_encoder(
        "vit_tiny_patch16_224",
        image_size=64,
        weights=save(tmp_path / "w.pth", model.state_dict() | decoder, "model"),
    )

    assert_repeats(encoder, model)
    report = accounted(encoder, model.state_dict() | decoder)
    assert report.layout == "MAE with its decoder"
    assert {"norm.weight", "norm.bias"} <= set(report.unused) <= {"norm.weight", "norm.bias", *decoder}


@pytest.mark.slow
def test_dinov2(tmp_path):
    model = shaken(timm.create_model("vit_small_patch14_dinov2", img_size=56, num_classes=0))
    tensors = model.state_dict() | {"mask_token": torch.zeros(1, 384)}

    encoder = create_encoder("vit_small_patch14_dinov2", image_size=84, weights=save(tmp_path / "w.pth", tensors))

    report = accounted(encoder, tensors)
    assert report.layout == "DINOv2"
    assert report.resampled == ("model.pos_embed",)
    assert {"norm.weight", "norm.bias"} <= set(report.unused)
    model.set_input_size(img_size=84)
    assert_repeats(encoder, model)


SMALL_SAM: dict[str, Any] = {"embed_dim": 48, "num_heads": 4, "depth": 4, "global_attn_indexes": (1, 3)}


@pytest.mark.parametrize("size", [128, 64])
def test_sam(size, tmp_path):
    model = shaken(timm.create_model("samvit_base_patch16", img_size=128, num_classes=0, **SMALL_SAM))
    image_encoder = {f"image_encoder.{n.replace('mlp.fc', 'mlp.lin')}": t for n, t in model.state_dict().items()}
    rest = {"prompt_encoder.no_mask_embed.weight": torch.zeros(1, 8), "mask_decoder.iou_token.weight": torch.zeros(1)}

    encoder = create_encoder(
        "samvit_base_patch16",
        image_size=size,
        weights=save(tmp_path / "w.pth", image_encoder | rest),
        arguments=SMALL_SAM,
    )

    report = accounted(encoder, image_encoder | rest)
    assert report.layout == "SAM"
    if size == 128:
        assert report.resampled == ()
        assert_repeats(encoder, model)
        return
    assert report.resampled[0] == "model.pos_embed"
    table = "model.blocks.1.attn.rel_pos_h"
    assert table in report.resampled
    wanted = F.interpolate(model.state_dict()[table.removeprefix("model.")].T[None], size=7, mode="linear")[0].T
    torch.testing.assert_close(encoder.network.state_dict()[table], wanted)


@pytest.mark.slow
def test_mobile_sam(tmp_path):
    model = shaken(timm.create_model("tiny_vit_5m_224", num_classes=0))
    named = renamed(
        model.state_dict(),
        (r"^patch_embed\.conv1\.", "patch_embed.seq.0."),
        (r"^patch_embed\.conv2\.", "patch_embed.seq.2."),
        (r"^stages\.(\d)\.downsample\.", lambda match: f"layers.{int(match[1]) - 1}.downsample."),
        (r"^stages\.", "layers."),
        (r"\.conv\.weight$", ".c.weight"),
        (r"^head\.norm\.", "norm_head."),
    )
    tensors = {f"image_encoder.{name}": tensor for name, tensor in named.items()}
    tensors |= {"image_encoder.neck.0.weight": torch.zeros(1), "mask_decoder.iou_token.weight": torch.zeros(1)}

    encoder = create_encoder("tiny_vit_5m_224", image_size=224, weights=save(tmp_path / "w.pt", tensors))

    assert_repeats(encoder, model)
    report = accounted(encoder, tensors)
    assert report.layout == "MobileSAM"


def test_clip_of_hugging_face(tmp_path):
    model = shaken(timm.create_model("vit_xsmall_patch16_clip_224", img_size=64, num_classes=0))
    named = renamed(
        model.state_dict(),
        (r"^cls_token$", "embeddings.class_embedding"),
        (r"^pos_embed$", "embeddings.position_embedding.weight"),
        (r"^patch_embed\.proj\.", "embeddings.patch_embedding."),
        (r"^norm_pre\.", "pre_layrnorm."),
        (r"^norm\.", "post_layernorm."),
        (r"^blocks\.", "encoder.layers."),
        (r"\.norm([12])\.", r".layer_norm\1."),
        (r"\.attn\.proj\.", ".self_attn.out_proj."),
    )
    tensors = {"text_model.final_layer_norm.weight": torch.zeros(8), "logit_scale": torch.zeros(())}
    for name, tensor in named.items():
        if ".attn.qkv." in name:
            for letter, part in zip("qkv", tensor.chunk(3), strict=True):
                own = name.replace(".attn.qkv.", f".self_attn.{letter}_proj.")
                tensors[f"vision_model.{own}"] = part.clone()
        else:
            flat = {"embeddings.class_embedding": (-1,), "embeddings.position_embedding.weight": tensor.shape[1:]}
            tensors[f"vision_model.{name}"] = tensor.reshape(flat.get(name, tensor.shape))

    encoder = create_encoder("vit_xsmall_patch16_clip_224", image_size=64, weights=save(tmp_path / "w.bin", tensors))

    assert_repeats(encoder, model)
    report = accounted(encoder, tensors)
    assert report.layout == "CLIP (Hugging Face)"


def with_split_queries(tensors, names):
    """Queries, keys and values as tensors of their own."""
    split = {}
    for name, tensor in tensors.items():
        if ".attn.qkv." in name:
            parts = zip(names, tensor.chunk(3), strict=True)
            split |= {name.replace(".attn.qkv.", f".{own}."): part.clone() for own, part in parts}
        else:
            split[name] = tensor
    return split


SMALL_VIT: dict[str, Any] = {"embed_dim": 48, "num_heads": 4, "depth": 4}


@pytest.mark.parametrize("size", [56, 84])
def test_rad_dino_in_the_names_of_hugging_face(size, tmp_path):
    model = shaken(timm.create_model("vit_base_patch14_dinov2", img_size=56, num_classes=0, **SMALL_VIT))
    tensors = renamed(
        with_split_queries(model.state_dict(), [f"attention.attention.{name}" for name in ("query", "key", "value")]),
        (r"^cls_token$", "embeddings.cls_token"),
        (r"^pos_embed$", "embeddings.position_embeddings"),
        (r"^patch_embed\.proj\.", "embeddings.patch_embeddings.projection."),
        (r"^norm\.", "layernorm."),
        (r"^blocks\.", "encoder.layer."),
        (r"\.attn\.proj\.", ".attention.output.dense."),
        (r"\.ls([12])\.gamma$", r".layer_scale\1.lambda1"),
    )
    tensors["embeddings.mask_token"] = torch.zeros(1, 48)

    file = save(tmp_path / "w.bin", tensors)
    encoder = create_encoder("rad-dino", image_size=size, weights=file, arguments=SMALL_VIT)

    report = accounted(encoder, tensors)
    assert report.layout == "DINOv2 (Hugging Face)"
    assert set(report.unused) == {"norm.weight", "norm.bias", "embeddings.mask_token"}
    assert report.resampled == (() if size == 56 else ("model.pos_embed",))
    assert (encoder.name, encoder.mean, encoder.std) == ("vit_base_patch14_dinov2", 0.5307, 0.2583)
    model.set_input_size(img_size=size)
    assert_repeats(encoder, model)


def test_biomedclip(tmp_path):
    model = shaken(timm.create_model("vit_base_patch16_224", img_size=64, num_classes=0, **SMALL_VIT))
    text = {"text.transformer.pooler.dense.weight": torch.zeros(2), "logit_scale": torch.zeros(())}
    text |= {"visual.head.proj.weight": torch.zeros(2, 48), "text.proj.0.weight": torch.zeros(2)}
    tensors = {f"visual.trunk.{name}": tensor for name, tensor in model.state_dict().items()}

    file = save(tmp_path / "w.bin", tensors | text)
    encoder = create_encoder("biomedclip", image_size=64, weights=file, arguments=SMALL_VIT)

    report = accounted(encoder, tensors | text)
    assert report.layout == "CLIP (OpenCLIP, with a tower of timm's)"
    assert set(report.unused) == {"norm.weight", "norm.bias", *text}
    assert_repeats(encoder, model)


@pytest.mark.parametrize("size", [128, 64])
def test_medsam_in_the_names_of_hugging_face(size, tmp_path):
    model = shaken(timm.create_model("samvit_base_patch16", img_size=128, num_classes=0, **SMALL_SAM))
    image_encoder = renamed(
        model.state_dict(),
        (r"^", "vision_encoder."),
        (r"\.patch_embed\.proj\.", ".patch_embed.projection."),
        (r"\.blocks\.", ".layers."),
        (r"\.norm([12])\.", r".layer_norm\1."),
        (r"\.mlp\.fc", ".mlp.lin"),
        (r"\.neck\.0\.", ".neck.conv1."),
        (r"\.neck\.1\.", ".neck.layer_norm1."),
        (r"\.neck\.2\.", ".neck.conv2."),
        (r"\.neck\.3\.", ".neck.layer_norm2."),
    )
    rest = {"shared_image_embedding.positional_embedding": torch.zeros(2, 8)}
    rest |= {"mask_decoder.iou_token.weight": torch.zeros(1), "prompt_encoder.no_mask_embed.weight": torch.zeros(1)}

    encoder = create_encoder(
        "medsam", image_size=size, weights=save(tmp_path / "w.bin", image_encoder | rest), arguments=SMALL_SAM
    )

    report = accounted(encoder, image_encoder | rest)
    assert report.layout == "SAM (Hugging Face)"
    neck = {name for name in model.state_dict() if name.startswith("neck.")}
    assert set(report.unused) == neck | set(rest)
    if size == 128:
        assert report.resampled == ()
        assert_repeats(encoder, model)
    else:
        assert {"model.pos_embed", "model.blocks.1.attn.rel_pos_h"} <= set(report.resampled)


def test_meddinov3_is_the_teacher_of_a_checkpoint(tmp_path):
    model = shaken(timm.create_model("vit_base_patch16_dinov3", img_size=64, num_classes=0, **SMALL_VIT))
    backbone = renamed(
        model.state_dict(),
        (r"^reg_token$", "storage_tokens"),
        (r"\.gamma_([12])$", r".ls\1.gamma"),
        (r"^", "backbone."),
    )
    pretraining = {"mask_token": torch.zeros(1, 48), "rope_embed.periods": torch.zeros(3)}
    heads = {"dino_head.mlp.0.weight": torch.zeros(2, 48), "ibot_head.mlp.0.weight": torch.zeros(2, 48)}
    teacher = backbone | {f"backbone.{name}": tensor for name, tensor in pretraining.items()} | heads
    torch.save({"teacher": teacher, "student": {}, "iteration": 1}, tmp_path / "w.pth")

    encoder = create_encoder("meddinov3", image_size=64, weights=tmp_path / "w.pth", arguments=SMALL_VIT)

    report = accounted(encoder, teacher)
    assert report.layout == "DINOv3"
    assert set(report.unused) == {"norm.weight", "norm.bias", *pretraining, *heads}
    assert_repeats(encoder, model)


def test_radimagenet_is_a_sequence_of_torchvisions_children(tmp_path):
    torchvision = pytest.importorskip("torchvision")
    original = shaken(torchvision.models.resnet50())
    children = torch.nn.Sequential(*list(original.children())[:9]).eval()
    tensors = {f"backbone.{name}": tensor for name, tensor in children.state_dict().items()}

    encoder = create_encoder(
        "radimagenet-resnet50", depth=3, image_size=64, weights=save(tmp_path / "w.pt", tensors)
    ).eval()

    report = accounted(encoder, tensors)
    assert report.layout == "RadImageNet"
    assert report.unused == ()
    assert (encoder.mean, encoder.std) == (0.5, 0.5)  # the authors' example scales images to -1 to 1
    window = torch.randn(1, 1, 3, 64, 64)
    with torch.no_grad():
        wanted = children[:8](window[:, :, 1].expand(-1, 3, -1, -1))
        error = (encoder(window)[-1] - wanted).abs().max()
    assert error <= 1e-4 * wanted.abs().max()


def test_file_of_another_kind_is_named(beit, tmp_path):
    with pytest.raises(ModelError) as caught:
        create_encoder(
            "vit_tiny_patch16_224", image_size=64, weights=save(tmp_path / "w.pth", beit.state_dict(), "model")
        )
    assert "of this kind: BEiT" in str(caught.value.got)


def test_missing_table_is_an_error(beit, tmp_path):
    tensors = dict(beit.state_dict())
    del tensors["blocks.3.attn.relative_position_bias_table"]

    with pytest.raises(ModelError):
        create_beit(save(tmp_path / "w.pth", tensors, "model"))


def test_program_is_refused(tmp_path):
    with warnings.catch_warnings(action="ignore"):
        torch.jit.save(torch.jit.script(torch.nn.Linear(2, 2)), tmp_path / "w.pt")

    with pytest.raises(ModelError) as caught:
        create_encoder("resnet10t", image_size=64, weights=tmp_path / "w.pt")
    assert "state_dict" in str(caught.value.hint)


def test_unknown_names_tell_no_layout():
    assert layout_of({"stem.weight": torch.zeros(1)}) is None
