import json

import pytest
import torch
from timm.layers.config import set_fused_attn, use_fused_attn
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from inflate3d.cli import main
from inflate3d.models.decoders import DECODERS
from inflate3d.models.encoders import create_encoder
from inflate3d.models.flops import count_flops, measure_cost, measure_model
from inflate3d.models.segmenter import create_model

PAPER_2D, PAPER_3D = 213_343_401_984, 214_954_014_720


@pytest.fixture
def unfused():
    before = use_fused_attn()
    set_fused_attn(False)
    yield
    set_fused_attn(before)


def torch_profile(network: nn.Module, *inputs: torch.Tensor) -> int:
    profile = pytest.importorskip("torchprofile")
    with torch.no_grad():
        macs = profile.profile_macs(network, inputs)
    assert isinstance(macs, int)
    return 2 * macs


@pytest.mark.slow
def test_the_papers_figures():
    """Zhang et al. 2022 for the encoder; for the whole, torch's own counter on the paper's code: 1,207 GFLOP."""
    flat, cost = (
        measure_cost("beit_base_patch16_224", image_size=512, depth=depth, decoder="upernet", levels=(3, 5, 7, 11))
        for depth in (1, 5)
    )
    assert (flat.encoder, cost.encoder) == (PAPER_2D, PAPER_3D)
    assert cost.encoder - flat.encoder == 2 * 4 * 16 * 16 * 768 * 32 * 32  # four more slices in the stem
    assert cost.decoder == pytest.approx(992e9, rel=2e-3)
    assert cost.model == pytest.approx(1207e9, rel=2e-3)
    assert cost.parameters == pytest.approx(161.5e6, rel=1e-3)


@pytest.mark.slow
def test_the_light_decoder_takes_less_than_an_eighth_of_the_papers():
    light, paper = (measure_cost("beit_base_patch16_224", image_size=512, decoder=d) for d in ("fpn-lite", "upernet"))
    assert light.decoder < paper.decoder / 8


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("name", "size"), [("test_vit", (32, 48)), ("beit_base_patch16_224", (32, 32)), ("resnet10t", (64, 96))], ids=str
)
def test_encoders_as_torchprofile_counts(name, size, unfused):
    encoder = create_encoder(name, depth=3, in_channels=2, image_size=size, weights="none").eval()
    windows = torch.rand(1, 2, 3, *size)
    assert count_flops(encoder, windows) == torch_profile(encoder, windows)


@pytest.mark.filterwarnings("ignore")
def test_layers_as_torchprofile_counts():
    network = nn.Sequential(
        nn.Conv2d(3, 4, 3, padding=1, groups=1),
        nn.BatchNorm2d(4),
        nn.GroupNorm(2, 4),
        nn.InstanceNorm2d(4),
        nn.InstanceNorm2d(4, affine=True),
        nn.LeakyReLU(),
        nn.GELU(),
        nn.AvgPool2d(2),
        nn.Upsample(scale_factor=3, mode="bilinear"),
        nn.AdaptiveAvgPool2d(6),
        nn.MaxPool2d(2),
        nn.Linear(3, 5),
        nn.LayerNorm(5),
    ).eval()
    images = torch.rand(2, 3, 8, 8)
    assert count_flops(network, images) == torch_profile(network, images)


def test_a_transposed_convolution_is_counted_from_its_input():
    """Each of 4 x 4 pixels of 3 channels is multiplied into 2 x 2 pixels of 5 channels."""
    layer = nn.ConvTranspose2d(3, 5, 2, stride=2)
    assert count_flops(layer, torch.rand(1, 3, 4, 4)) == 2 * (4 * 4) * 3 * (2 * 2 * 5)


@pytest.mark.slow
@pytest.mark.parametrize("decoder", DECODERS)
def test_agrees_with_torch_on_products_of_matrices_and_convolutions(decoder):
    """What torch counts too is most of it: the rest are products of elements, norms and resizing."""
    with torch.device("meta"):
        encoder = create_encoder("test_vit", depth=3, image_size=64, weights="none")
        model = create_model(encoder=encoder, num_classes=4, decoder=decoder).eval()
        windows = torch.empty(1, 1, 3, 64, 64)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(windows)
    counted = count_flops(model, windows)
    assert counter.get_total_flops() <= counted < 1.1 * counter.get_total_flops()


@pytest.mark.slow
@pytest.mark.parametrize("decoder", DECODERS)
def test_cost_is_that_of_its_parts(decoder):
    flat, cost = (
        measure_cost("resnet10t", image_size=(64, 96), depth=depth, decoder=decoder, decoder_channels=16)
        for depth in (1, 3)
    )
    assert cost.model == cost.encoder + cost.decoder
    assert 0 < flat.encoder < cost.encoder
    encoder = create_encoder("resnet10t", depth=3, image_size=(64, 96), weights="none")
    model = create_model(encoder=encoder, num_classes=14, decoder=decoder, decoder_channels=16)
    assert cost.parameters == sum(weight.numel() for weight in model.parameters())


@pytest.mark.slow
@pytest.mark.parametrize("name", ["test_vit", "beit_base_patch16_224"])
def test_fused_attention_is_counted_alike(name, unfused):
    """Networks that were built with fused attention, as those of a run are, and left so."""
    image = torch.empty(1, 1, 3, 32, 32, device="meta")
    with torch.device("meta"):
        plain = create_encoder(name, depth=3, image_size=32, weights="none").eval()
        set_fused_attn(True)
        fused = create_encoder(name, depth=3, image_size=32, weights="none").eval()
    switches = [module.fused_attn for module in fused.modules() if hasattr(module, "fused_attn")]
    assert switches and all(switches)
    assert count_flops(fused, image) == count_flops(plain, image)
    assert [module.fused_attn for module in fused.modules() if hasattr(module, "fused_attn")] == switches


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "how"),
    [
        ("test_vit", {}),
        ("swin_tiny_patch4_window7_224", {}),
        ("videoswint", {}),
        ("resnet10t", {"input_scaling": "unit"}),
    ],
)
def test_a_network_is_counted_the_same_wherever_its_weights_lie(name, how):
    """What a network with weights computes, against one that only has shapes."""
    arguments = {"embed_dim": 16, "depths": (1, 1, 1, 1), "num_heads": (1, 1, 1, 1)} if "swin" in name else {}
    encoder = create_encoder(name, depth=3, image_size=64, weights="none", arguments=arguments)
    model = create_model(encoder=encoder, num_classes=4, decoder_channels=8, **how).eval()
    computed = measure_model(model)
    assert measure_model(model.to("meta")) == computed


@pytest.mark.slow
def test_what_a_network_has_of_its_own_is_counted():
    """Norms behind stages, and another number of blocks."""

    def measured(stage_norms=True, depths=(1, 1, 1, 1)):
        with torch.device("meta"):
            encoder = create_encoder(
                "swin_tiny_patch4_window7_224",
                depth=3,
                image_size=64,
                weights="none",
                stage_norms=stage_norms,
                arguments={"embed_dim": 16, "depths": depths, "num_heads": (1, 1, 1, 1)},
            )
            model = create_model(encoder=encoder, num_classes=4)
        return measure_model(model.eval())

    whole, bare = measured(), measured(stage_norms=False)
    assert whole.encoder - bare.encoder == sum(2 * 16 * 2**stage * (16 // 2**stage) ** 2 for stage in range(4))
    assert whole.encoder_parameters - bare.encoder_parameters == 2 * 16 * (1 + 2 + 4 + 8)
    assert measured(depths=(1, 1, 2, 1)).encoder > whole.encoder


@pytest.mark.slow
def test_command(capsys):
    assert main(["flops", "--json", "--decoder", "upernet", "--slices", "7"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["encoder"]["flops_2d"], found["encoder"]["flops_3d"]) == (PAPER_2D, PAPER_3D)
    assert found["model"] == found["encoder"]["flops_3d"] + found["decoder"]
    assert found["parameters"] > found["encoder"]["parameters"]
    assert found["volume"] == {"slices": 7, "flops": 7 * found["model"]}


@pytest.mark.slow
def test_command_prints_the_figures_whole(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "120")
    assert main(["flops", "--encoder", "beit_base_patch16_224", "--image-size", "512", "512", "--depth", "5"]) == 0
    shown = capsys.readouterr().out
    assert str(PAPER_2D) in shown
    assert str(PAPER_3D) in shown


@pytest.mark.parametrize("size", [["512", "512", "5"], ["0"], ["-16", "16"]])
def test_image_size_that_is_none(size, capsys):
    assert main(["flops", "--image-size", *size]) == 2
    assert "image size" in capsys.readouterr().err


def test_image_size_that_the_encoder_cannot_take(capsys):
    assert main(["flops", "--encoder", "resnet10t", "--image-size", "50"]) == 2
    assert "resnet10t does not support this image size" in capsys.readouterr().err
