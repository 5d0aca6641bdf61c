"""Other programs give the logits of torch, whatever the backbone and the decoder."""

import itertools

import pytest
import torch

from inflate3d.config import DECODERS
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


def check(backbone, decoder):
    torch.manual_seed(0)
    encoder = create_encoder(
        backbone, depth=3, in_channels=2, image_size=64, weights="none", arguments=BACKBONES[backbone]
    )
    model = create_model(encoder=encoder, num_classes=3, decoder=decoder, decoder_channels=16).eval()
    file = onnx_bytes(model)
    networks = {name: runtime(file) for name, runtime in RUNTIMES.items()}
    for count in (1, 2, 5):
        windows = torch.rand(count, 2, 3, 64, 64)
        with torch.inference_mode():
            expected = model(windows)
        for name, network in networks.items():
            torch.testing.assert_close(network(windows), expected, rtol=0, atol=1e-4, msg=name)


@pytest.mark.slow
@pytest.mark.parametrize(("backbone", "decoder"), FEW)
def test_logits_are_those_of_torch(backbone, decoder):
    check(backbone, decoder)


@pytest.mark.long
@pytest.mark.parametrize(
    ("backbone", "decoder"), [pair for pair in itertools.product(BACKBONES, DECODERS) if pair not in FEW]
)
def test_logits_are_those_of_torch_for_all_pairs(backbone, decoder):
    check(backbone, decoder)
