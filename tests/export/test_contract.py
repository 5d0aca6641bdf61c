"""Other programs give the logits of torch, whatever the backbone and the decoder."""

import itertools

import pytest
import torch

from inflate3d.config import DECODERS, DepthMixing
from inflate3d.export.files import onnx_bytes
from inflate3d.export.runtimes import RUNTIMES
from inflate3d.models.encoders import create_encoder
from inflate3d.models.segmenter import create_model

TINY_SWIN = {"embed_dim": 24, "depths": (2, 1, 1, 1), "num_heads": (1, 2, 2, 4), "window_size": 4}
BACKBONES = {
    "test_vit": {},
    "swin_tiny_patch4_window7_224": TINY_SWIN,
    "test_convnext": {},
    "resnet10t": {},
}
FEW = [("test_vit", "fpn-lite"), ("swin_tiny_patch4_window7_224", "upernet"), ("test_convnext", "unetr")]


def check(backbone, decoder, depth_mixing: DepthMixing = "none"):
    torch.manual_seed(0)
    is_slab = depth_mixing != "none"
    encoder = create_encoder(
        backbone,
        depth=1 if is_slab else 3,
        in_channels=2,
        image_size=64,
        weights="none",
        arguments=BACKBONES[backbone],
    )
    model = create_model(
        encoder=encoder, num_classes=3, decoder=decoder, decoder_channels=16, depth_mixing=depth_mixing
    ).eval()
    if model.mixer is not None:  # a new mixer changes nothing
        for layer in model.mixer.layers:
            torch.nn.init.normal_(layer.narrow.weight, std=0.2)  # type: ignore[arg-type]
    file = onnx_bytes(model)
    networks = {name: runtime(file) for name, runtime in RUNTIMES.items()}
    for count, slices in ((1, 1), (1, 9), (2, 4)) if is_slab else ((1, 3), (2, 3), (5, 3)):
        windows = torch.rand(count, 2, slices, 64, 64)
        with torch.inference_mode():
            expected = model(windows)
        for name, network in networks.items():
            torch.testing.assert_close(network(windows), expected, rtol=0, atol=1e-4, msg=name)


@pytest.mark.slow
@pytest.mark.parametrize(("backbone", "decoder"), FEW)
def test_logits_are_those_of_torch(backbone, decoder):
    check(backbone, decoder)


@pytest.mark.slow
def test_slabs_of_any_length_give_the_logits_of_torch():
    check("test_vit", "fpn-lite", "decoder")


@pytest.mark.long
@pytest.mark.parametrize(
    ("backbone", "decoder"), [pair for pair in itertools.product(BACKBONES, DECODERS) if pair not in FEW]
)
@pytest.mark.parametrize("depth_mixing", ["none", "decoder"])
def test_logits_are_those_of_torch_for_all_pairs(backbone, decoder, depth_mixing):
    check(backbone, decoder, depth_mixing)
