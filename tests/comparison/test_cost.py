"""What a run's own network is counted to cost."""

import pytest
import torch

from inflate3d.comparison.cost import measure_network
from inflate3d.models.architecture import VolumetricArchitecture
from inflate3d.models.encoders import create_encoder
from inflate3d.models.flops import count_flops, measure_model
from inflate3d.models.segmenter import create_model
from inflate3d.models.volumetric import VolumetricSegmenter
from inflate3d.run_folder import RunFolder

SMALL_SWIN = {"embed_dim": 16, "depths": (1, 1, 1, 1), "num_heads": (1, 2, 4, 8)}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "how"),
    [
        ("test_vit", {"levels": (0, 1)}),
        ("swin_tiny_patch4_window7_224", {"arguments": SMALL_SWIN}),
        ("swin_tiny_patch4_window7_224", {"arguments": SMALL_SWIN, "stage_norms": False}),
    ],
)
def test_an_inflated_network_is_counted_as_it_was_trained(name, how, tmp_path):
    encoder = create_encoder(name, depth=3, image_size=64, weights="none", **how)
    model = create_model(encoder=encoder, num_classes=4, decoder_channels=8).eval()
    folder = RunFolder(tmp_path)
    model.save(folder.model)
    own, found = measure_model(model), measure_network(folder)
    assert (found.flops, found.encoder_flops, found.seen) == (own.model, own.encoder, "window")
    assert found.parameters == sum(weight.numel() for weight in model.parameters())


def test_a_3d_network_is_counted_by_the_patch(tmp_path):
    about = VolumetricArchitecture(network="segresnet", in_channels=2, num_classes=3, patch_size=(8, 16, 16), width=8)
    model = VolumetricSegmenter(about).eval()
    folder = RunFolder(tmp_path)
    model.save(folder.model)
    found = measure_network(folder)
    assert (found.flops, found.encoder_flops) == (count_flops(model, torch.zeros(1, 2, 8, 16, 16)), None)
    assert found.seen == "patch"
