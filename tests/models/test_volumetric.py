from typing import get_args

import pytest
import torch

from inflate3d.config import Volumetric
from inflate3d.errors import ConfigError, ModelError
from inflate3d.models.segmenter import load_model
from inflate3d.models.volumetric import MOST_VOXELS, create_volumetric, usual_patch_size

PATCHES = {"unetr": (16, 32, 32), "swin-unetr": (32, 32, 64), "segresnet": (8, 16, 16), "dynunet": (8, 32, 32)}
WIDTHS = {"unetr": 1, "swin-unetr": 12, "segresnet": 8, "dynunet": 4}


def tiny(network, in_channels=2, num_classes=3):
    torch.manual_seed(0)
    return create_volumetric(
        network,
        in_channels=in_channels,
        num_classes=num_classes,
        patch_size=PATCHES[network],
        spacing=(3.0, 1.0, 1.0),
        width=WIDTHS[network],
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    "network",
    [pytest.param(name, marks=pytest.mark.long if name == "swin-unetr" else ()) for name in get_args(Volumetric)],
)
def test_contract(network, tmp_path):
    model = tiny(network)
    patches = torch.rand(2, 2, *PATCHES[network])
    logits = model(patches)
    assert logits.shape == (2, 3, *PATCHES[network])
    logits.square().sum().backward()
    for name, parameter in model.named_parameters():
        assert (parameter.grad is not None) == parameter.requires_grad, name
    model.save(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["README.md", "model.json", "model.safetensors"]
    again = load_model(tmp_path)
    assert again.architecture == model.architecture
    with torch.no_grad():
        assert torch.equal(again(patches), model.eval()(patches))


@pytest.mark.slow
@pytest.mark.parametrize(("network", "expected"), [("unetr", 92.8), ("swin-unetr", 62.2), ("segresnet", 18.8)])
def test_networks_are_as_large_as_their_authors_have_them(network, expected):
    model = create_volumetric(network, in_channels=1, num_classes=14, patch_size=(96, 96, 96))
    millions = sum(parameter.numel() for parameter in model.parameters()) / 1e6
    assert millions == pytest.approx(expected, abs=0.1)


def test_levels_of_nnunets_network_are_its_own():
    """nnU-Net's plan for Task09_Spleen: 64 × 192 × 160 voxels of 1.6 × 0.79 × 0.79 mm."""
    with torch.device("meta"):
        model = create_volumetric(
            "dynunet", in_channels=1, num_classes=2, patch_size=(64, 192, 160), spacing=(1.6, 0.7929, 0.7929)
        )
    assert model.architecture.strides == (
        (1, 1, 1), (1, 2, 2), (2, 2, 2), (2, 2, 2), (2, 2, 2), (2, 2, 2)
    )  # fmt: skip
    assert model.architecture.kernels == ((1, 3, 3), *[(3, 3, 3)] * 5)
    assert sum(parameter.numel() for parameter in model.parameters()) == pytest.approx(31e6, rel=0.03)


@pytest.mark.slow
@pytest.mark.parametrize("network", get_args(Volumetric))
@pytest.mark.parametrize("shape", [(150, 512, 512), (7, 20, 24), (36, 50, 35), (1000, 30, 30), (40, 320, 320)])
def test_usual_patch_is_one_that_the_network_takes(network, shape):
    size = usual_patch_size(network, shape)
    assert size[0] * size[1] * size[2] <= MOST_VOXELS
    create_volumetric(network, in_channels=1, num_classes=2, patch_size=size, width=WIDTHS[network])


def test_usual_patch_is_the_papers_for_a_large_scan():
    assert usual_patch_size("unetr", (150, 512, 512)) == (96, 96, 96)
    assert usual_patch_size("segresnet", (40, 320, 320)) == (40, 144, 144)


@pytest.mark.parametrize(
    ("network", "size", "shown"),
    [
        ("unetr", (20, 32, 32), "multiples of 16"),
        ("unetr", (16, 16, 16), "more than 16 × 16 × 16"),
        ("swin-unetr", (16, 64, 64), "multiples of 32"),
        ("segresnet", (0, 16, 16), "multiples of 8"),
        ("dynunet", (4, 8, 8), "at least one side of 16 or more"),
    ],
)
def test_patch_that_a_network_can_not_take(network, size, shown):
    with pytest.raises(ConfigError, match="does not support this patch size") as caught:
        create_volumetric(network, in_channels=1, num_classes=2, patch_size=size)
    assert caught.value.expected == shown


def test_width_that_a_network_can_not_have():
    with pytest.raises(ConfigError, match="width of swin-unetr") as caught:
        create_volumetric("swin-unetr", in_channels=1, num_classes=2, patch_size=(32, 64, 64), width=16)
    assert caught.value.expected == "a multiple of 12"


def test_patches_of_another_size():
    with pytest.raises(ModelError, match="patches do not fit"):
        tiny("segresnet")(torch.rand(1, 2, 8, 16, 24))


def test_usual_depth_can_be_halved_three_times():
    """Thirty-six slices can be halved only twice."""
    assert usual_patch_size("dynunet", (35, 50, 36)) == (40, 64, 48)
    assert create_volumetric(
        "dynunet", in_channels=1, num_classes=2, patch_size=(40, 64, 48), width=1
    ).architecture.strides == ((1, 1, 1), *[(2, 2, 2)] * 3, (1, 2, 1))
