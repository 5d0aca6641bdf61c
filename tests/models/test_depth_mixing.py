"""Depth mixing: it starts as the slice network, learns from the first step, and reaches as far as it says."""

import pytest
import torch

from inflate3d.config import DECODERS, InflatedConfig, RunConfig, TrainingConfig
from inflate3d.errors import ConfigError
from inflate3d.models.depth_mixing import REACH, DepthMixer
from inflate3d.models.encoders import create_encoder
from inflate3d.models.segmenter import create_model, load_model, model_from_config

ENCODERS = {
    "vit_tiny_patch16_224": {"embed_dim": 24, "depth": 4, "num_heads": 3},
    "beit_base_patch16_224": {"embed_dim": 24, "depth": 4, "num_heads": 3},
    "swin_tiny_patch4_window7_224": {"embed_dim": 12, "num_heads": (1, 1, 2, 2)},
    "convnext_atto": {},
    "resnet10t": {},
    "tf_efficientnet_lite0": {},
}


def slab_network(name="resnet10t", decoder="fpn-lite", **changes):
    torch.manual_seed(0)
    encoder = create_encoder(name, depth=1, image_size=64, weights="none", arguments=ENCODERS[name])
    settings = {"num_classes": 3, "decoder_channels": 16, "depth_mixing": "decoder"} | changes
    return create_model(encoder=encoder, decoder=decoder, **settings)


def trained_mixer(channels=8):
    torch.manual_seed(0)
    mixer = DepthMixer(channels)
    for parameter in mixer.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    return mixer


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "decoder"), [*((name, "fpn-lite") for name in ENCODERS), *(("resnet10t", each) for each in DECODERS)]
)
def test_starts_as_the_slice_network_and_has_a_gradient(name, decoder):
    model = slab_network(name, decoder).eval()
    slices = slab_network(name, decoder, depth_mixing="none").eval()
    slices.load_state_dict({k: v for k, v in model.state_dict().items() if not k.startswith("mixer.")})
    slab = torch.rand(1, 1, 4, 64, 64)
    logits = model(slab)
    each = torch.stack([slices(slab[:, :, index : index + 1]) for index in range(4)], dim=2)
    torch.testing.assert_close(logits, each, atol=1e-5, rtol=1e-4)
    logits.square().mean().backward()
    gradients = {name: weight.grad for name, weight in model.named_parameters() if ".narrow." in name}
    assert len(gradients) == 4 and all(each is not None and each.any() for each in gradients.values())


def test_slices_mix_within_their_slab_and_no_farther_than_the_reach():
    mixer = trained_mixer()
    features = torch.randn(2 * 9, 8, 3, 3)
    changed = features.clone()
    changed[4] += torch.randn(8, 3, 3)
    differs = (mixer(changed, 9) - mixer(features, 9)).abs().amax((1, 2, 3)) > 1e-6
    assert differs.nonzero().flatten().tolist() == list(range(4 - REACH, 4 + REACH + 1))
    alone = torch.cat([mixer(features[:9], 9), mixer(features[9:], 9)])
    torch.testing.assert_close(mixer(features, 9), alone)


def test_saved_and_loaded(tmp_path):
    model = slab_network().eval()
    assert model.mixer is not None
    model.mixer.load_state_dict(trained_mixer(16).state_dict())
    model.save(tmp_path)
    slab = torch.rand(1, 1, 5, 64, 64)
    assert torch.equal(load_model(tmp_path)(slab), model(slab))


def test_starts_from_a_trained_slice_network_whose_statistics_stay(tmp_path):
    slices = slab_network(depth_mixing="none").eval()
    slices.save(tmp_path)
    config = InflatedConfig(
        encoder="resnet10t", weights=str(tmp_path), depth=1, depth_mixing="decoder", decoder_channels=16
    )
    model = model_from_config(config, in_channels=1, image_size=(64, 64), num_classes=3)
    slab = torch.rand(1, 1, 3, 64, 64)
    statistics = {name: value.clone() for name, value in model.state_dict().items() if "running" in name}
    logits = model(slab)  # as it is trained
    assert statistics and all(torch.equal(value, model.state_dict()[name]) for name, value in statistics.items())
    model.eval()
    each = torch.stack([slices(slab[:, :, index : index + 1]) for index in range(3)], dim=2)
    torch.testing.assert_close(model(slab), each, atol=1e-5, rtol=1e-4)
    assert logits.shape == each.shape


def test_settings_that_do_not_go_together(tmp_path):
    encoder = create_encoder("resnet10t", depth=3, image_size=64, weights="none")
    with pytest.raises(ConfigError, match="single slices"):
        create_model(encoder=encoder, num_classes=2, depth_mixing="decoder")
    with pytest.raises(ValueError, match="--depth 1"):
        InflatedConfig(depth=5, depth_mixing="decoder")
    mixing = InflatedConfig(depth_mixing="decoder", slab=6)
    with pytest.raises(ValueError, match="multiple of the slab"):
        RunConfig(dataset=tmp_path, store=tmp_path, model=mixing, training=TrainingConfig(batch_size=16))
