import pytest
import timm
import torch

from inflate3d.errors import ConfigError, ModelError
from inflate3d.models.backbones import nearest_image_size
from inflate3d.models.catalog import check_inflation, describe_encoder, list_encoders
from inflate3d.models.encoders import create_encoder
from inflate3d.named_encoders import NAMED_ENCODERS

SMALL = {"embed_dim": 96, "depth": 4, "num_heads": 3}
"""The families' smallest members are large where only a base size is published."""

FAMILIES = [  # name, modalities, slices, image size, arguments
    ("vit_tiny_patch16_224", 1, 5, (64, 96), {}),
    ("deit_tiny_distilled_patch16_224", 2, 3, (64, 64), {}),
    ("vit_small_patch16_224.dino", 1, 3, (64, 64), SMALL),
    ("vit_small_patch14_dinov2", 4, 1, (56, 56), SMALL),
    ("vit_small_patch16_dinov3", 1, 3, (64, 64), SMALL),
    ("beit_base_patch16_224", 2, 5, (64, 64), SMALL),
    ("eva02_tiny_patch14_224", 4, 3, (56, 56), {}),
    ("vit_xsmall_patch16_clip_224", 1, 5, (64, 64), {}),
    ("vit_base_patch16_siglip_224", 1, 1, (64, 64), SMALL),
    ("samvit_base_patch16", 2, 1, (64, 64), SMALL | {"global_attn_indexes": (1,)}),
    ("naflexvit_base_patch16_gap", 2, 3, (64, 96), SMALL),  # projects patches by a matrix
    ("vit_relpos_small_patch16_224", 1, 3, (64, 64), SMALL),
    ("swin_tiny_patch4_window7_224", 4, 5, (64, 96), {"depths": (1, 1, 1, 1)}),
    ("swinv2_tiny_window8_256", 2, 3, (64, 64), {"depths": (1, 1, 1, 1)}),
    ("tiny_vit_5m_224", 1, 5, (64, 64), {}),
    ("maxvit_rmlp_pico_rw_256", 4, 3, (64, 64), {}),
    ("convnext_atto", 2, 5, (64, 96), {}),
    ("convnextv2_atto", 1, 3, (64, 64), {}),
    ("resnet10t", 4, 5, (64, 96), {}),
    ("efficientnet_b0", 2, 3, (64, 64), {}),
    ("tf_efficientnet_lite0", 1, 5, (64, 64), {}),
    ("regnetx_002", 4, 1, (64, 64), {}),
    ("mobilenetv3_small_050", 2, 5, (64, 64), {}),
    ("pvt_v2_b0", 1, 3, (64, 64), {}),
    ("focalnet_tiny_srf", 4, 3, (64, 64), {}),
    ("hiera_tiny_224", 2, 5, (64, 64), {}),
    ("fastvit_t8", 1, 5, (64, 64), {}),  # two convolutions read the image
    ("mobilevit_xxs", 4, 3, (64, 64), {}),
    ("mvitv2_tiny", 2, 1, (64, 64), {}),
    ("xcit_nano_12_p16_224", 1, 5, (64, 64), {}),
    ("edgenext_xx_small", 1, 1, (64, 64), {}),
    ("hrnet_w18_small", 1, 3, (64, 64), {}),
    ("densenet121", 2, 3, (64, 64), {}),
    ("nf_regnet_b0", 2, 3, (64, 64), {}),  # scaled standardized convolutions
    ("resnetv2_50x1_bit", 1, 5, (64, 64), {}),  # standardized convolutions
    ("vit_tiny_r_s16_p8_224", 2, 3, (64, 64), {}),  # the same, padded to the same size
    ("pit_ti_224", 1, 3, (64, 64), {}),  # a stem without padding
    ("crossvit_tiny_240", 1, 3, (240, 240), {}),  # two scales, which only some sizes fit
    ("legacy_xception", 1, 3, (64, 64), {}),
    pytest.param(
        "tf_efficientnetv2_m", 1, 3, (64, 64), {}, marks=pytest.mark.slow
    ),  # so deep that rounding errors grow
]


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


@pytest.mark.parametrize(("name", "in_channels", "depth", "image_size", "arguments"), FAMILIES, ids=str)
def test_inflated_backbone_repeats_its_2d_original(name, in_channels, depth, image_size, arguments):
    report = check_inflation(name, depth=depth, in_channels=in_channels, image_size=image_size, arguments=arguments)

    assert set(report.errors) == {"center", "average"}
    assert max(report.errors.values()) < 1e-6


@pytest.mark.parametrize(
    ("name", "levels", "channels", "strides"),
    [
        ("vit_tiny_patch16_224", (2, 5, 8, 11), (192,) * 4, (16,) * 4),
        ("swin_tiny_patch4_window7_224", (0, 1, 2, 3), (96, 192, 384, 768), (4, 8, 16, 32)),  # NHWC inside
        ("resnet18", (1, 2, 3, 4), (64, 128, 256, 512), (4, 8, 16, 32)),  # has a map of stride 2 too
        ("xcit_nano_12_p16_224", (2, 5, 8, 11), (128,) * 4, (16,) * 4),
        ("levit_128s", (0, 1, 2), (128, 256, 384), (16, 32, 64)),
    ],
)
def test_maps_have_the_shapes_that_the_encoder_states(name, levels, channels, strides):
    encoder = create_encoder(name, depth=3, in_channels=2, image_size=(64, 128), weights="none").eval()

    with torch.no_grad():
        maps = encoder(torch.randn(2, 2, 3, 64, 128))

    assert (encoder.levels, encoder.channels, encoder.strides) == (levels, channels, strides)
    expected = [(2, c, 64 // s, 128 // s) for c, s in zip(channels, strides, strict=True)]
    assert [tuple(features.shape) for features in maps] == expected


def test_encoder_tells_what_it_is():
    encoder = create_encoder("resnet18.a1_in1k", depth=3, in_channels=4, image_size=64, weights=None)

    assert (encoder.name, encoder.depth, encoder.in_channels) == ("resnet18.a1_in1k", 3, 4)
    assert (encoder.image_size, encoder.inflation, encoder.weights_report) == ((64, 64), "center", None)
    assert encoder.mean == pytest.approx((0.485 + 0.456 + 0.406) / 3)
    assert encoder.std == pytest.approx((0.229 + 0.224 + 0.225) / 3)


def test_chosen_levels_are_given():
    encoder = create_encoder("resnet18", image_size=64, weights=None, levels=(0, 4))

    assert encoder.strides == (2, 32)
    assert [features.shape[1] for features in encoder(torch.randn(2, 1, 5, 64, 64))] == [64, 512]


@pytest.mark.parametrize("levels", [(), (0, 9), (-1,), (3, 2), (1, 1)])
def test_levels_that_are_not_there_are_refused(levels):
    with pytest.raises(ConfigError, match="ascending numbers from 0 to 4"):
        create_encoder("resnet18", image_size=64, weights=None, levels=levels)


def test_plain_transformer_maps_are_those_of_its_blocks():
    encoder = create_encoder("vit_tiny_patch16_224", depth=1, image_size=64, weights=None).eval()
    windows = torch.randn(1, 1, 1, 64, 64)
    outputs = {}
    blocks = encoder.get_submodule("network.model.blocks")
    for index in (2, 11):
        hook = lambda _, __, output, index=index: outputs.__setitem__(index, output)  # noqa: E731
        blocks.get_submodule(str(index)).register_forward_hook(hook)

    with torch.no_grad():
        maps = encoder(windows)

    for found, index in ((maps[0], 2), (maps[3], 11)):
        tokens = outputs[index][:, 1:]  # without the class token; before the final norm
        torch.testing.assert_close(found, tokens.transpose(1, 2).reshape(1, 192, 4, 4))


def test_training_reaches_every_slice_and_the_stem():
    encoder = create_encoder("convnext_atto", depth=3, image_size=64, weights=None)
    windows = torch.randn(2, 1, 3, 64, 64, requires_grad=True)

    torch.stack([features.sum() for features in encoder(windows)]).sum().backward()

    assert windows.grad is not None
    assert (windows.grad.abs().sum(dim=(0, 1, 3, 4)) > 0).all()


def test_stages_of_a_hierarchical_transformer_go_through_fresh_layer_norms():
    torch.manual_seed(1)
    normed = create_encoder("swin_tiny_patch4_window7_224", depth=1, image_size=64, weights=None).eval()
    torch.manual_seed(1)
    bare = create_encoder(
        "swin_tiny_patch4_window7_224", depth=1, image_size=64, weights=None, stage_norms=False
    ).eval()
    windows = torch.randn(1, 1, 1, 64, 64)

    with torch.no_grad():
        pairs = list(zip(normed(windows), bare(windows), strict=True))

    assert (normed.stage_norms, bare.stage_norms) == (True, False)
    assert set(normed.state_dict()) - set(bare.state_dict()) == {
        f"norms.{stage}.{kind}" for stage in range(4) for kind in ("weight", "bias")
    }
    for found, before in pairs:
        variance, mean = torch.var_mean(before, dim=1, keepdim=True, correction=0)
        torch.testing.assert_close(found, (before - mean) / (variance + 1e-5).sqrt())


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "normed"),
    [
        ("swinv2_tiny_window8_256", True),
        ("hiera_tiny_224", True),
        ("mvitv2_tiny", True),
        ("vit_tiny_patch16_224", False),  # plain
        ("convnext_atto", False),  # no transformer
        ("tiny_vit_5m_224", False),  # batch norms
        ("resnet10t", False),
    ],
)
def test_only_hierarchical_transformers_get_stage_norms(name, normed):
    assert create_encoder(name, image_size=64, weights=None).stage_norms is normed


def test_arguments_change_a_backbone():
    encoder = create_encoder(
        "vit_tiny_patch16_224", image_size=64, weights=None, arguments={"embed_dim": 48, "num_heads": 4, "depth": 8}
    )

    assert (encoder.channels, encoder.levels) == ((48,) * 4, (1, 3, 5, 7))
    assert encoder.arguments == {"embed_dim": 48, "num_heads": 4, "depth": 8}
    assert encoder(torch.randn(1, 1, 5, 64, 64))[3].shape == (1, 48, 4, 4)


def test_windows_of_other_modalities_or_slices_are_refused():
    encoder = create_encoder("resnet10t", depth=3, in_channels=2, image_size=64, weights=None)

    with pytest.raises(ModelError, match=r"\(B, 2, 3, H, W\)"):
        encoder(torch.randn(1, 3, 2, 64, 64))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "size", "nearest"),
    [
        ("vit_small_patch14_dinov2", 64, "56 x 56 or 70 x 70"),
        ("swin_tiny_patch4_window7_224", (100, 64), "96 x 64 or 128 x 64"),
        ("resnet18", 0, "32 x 32"),
        ("halonet26t", 64, "256 x 256"),  # fits no smaller one: its attention looks at blocks of 8
    ],
)
def test_image_size_that_does_not_fit_names_the_nearest(name, size, nearest):
    with pytest.raises(ConfigError) as caught:
        create_encoder(name, image_size=size, weights=None)
    assert caught.value.expected == nearest


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "wanted", "nearest"),
    [
        ("vit_small_patch14_dinov2", 512, (518, 518)),
        ("swin_tiny_patch4_window7_224", (500, 330), (512, 320)),
        ("resnet18", (5, 224), (32, 224)),
        ("halonet26t", 64, (256, 256)),
    ],
)
def test_nearest_image_size(name, wanted, nearest):
    assert nearest_image_size(name, wanted) == nearest


def test_even_depth_is_refused():
    with pytest.raises(ConfigError, match="odd"):
        create_encoder("resnet18", depth=4, weights=None)


def test_unknown_name_tells_similar_ones():
    with pytest.raises(ModelError, match="vit_tiny_patch16_224"):
        create_encoder("vit_tiny_patch16", weights=None)


def test_unknown_tag_tells_the_known_ones():
    with pytest.raises(ModelError, match=r"resnet18\.a1_in1k"):
        create_encoder("resnet18.nobody", weights=None)


def test_backbone_without_a_layer_that_reads_the_image_is_refused():
    with pytest.raises(ModelError) as caught:
        create_encoder("tresnet_m", weights=None)  # pixels become channels before the first convolution
    assert caught.value.got == "no such layer"


def test_broken_identity_is_an_error(monkeypatch):
    def off_center(weight, depth, in_channels, method):
        inflated = weight.new_zeros(weight.shape[0], in_channels, depth, *weight.shape[2:])
        inflated[:, :, 0] = weight.sum(dim=1)[:, None]
        return inflated

    monkeypatch.setattr("inflate3d.models.timm_backbones.inflate_stem", off_center)
    with pytest.raises(ModelError):
        check_inflation("resnet10t", image_size=64)


def test_list_is_the_papers_and_timms():
    assert list_encoders("vit_*_patch14_dinov2") == [
        f"vit_{size}_patch14_dinov2" for size in ("base", "giant", "large", "small")
    ]
    assert list_encoders()[: len(NAMED_ENCODERS)] == list(NAMED_ENCODERS)
    assert len(list_encoders()) == len(NAMED_ENCODERS) + len(timm.list_models())
    assert list_encoders("nothing*") == []


def test_description_has_the_published_numbers():
    about = describe_encoder("resnet50")

    assert about.image_size == (224, 224)
    assert about.parameters == 25_557_032 - 2_049_000  # torchvision's, less the classifier
    assert about.multiply_adds == 4_089_184_256 - 2_048_000  # torchvision's 4.09e9, less the classifier
    assert about.pretrained


def test_description_rounds_a_size_that_no_stride_divides():
    assert describe_encoder("efficientnet_b1").image_size == (256, 256)  # trained at 240, of stride 32


def test_dinov3_of_timm_is_inflated():
    small = {"embed_dim": 48, "num_heads": 4, "depth": 4}
    report = check_inflation("vit_small_patch16_dinov3", depth=3, image_size=64, arguments=small)
    assert max(report.errors.values()) < 1e-6
