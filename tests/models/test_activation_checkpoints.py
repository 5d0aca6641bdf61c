import pytest
import torch

from inflate3d.errors import ConfigError
from inflate3d.models.encoders import checkpoint_activations, create_encoder

SMALL = {"embed_dim": 24, "depth": 4, "num_heads": 3}
BACKBONES = {
    "vit_small_patch16_224": SMALL,
    "vit_small_patch14_dinov2": SMALL,
    "beit_base_patch16_224": SMALL,
    "eva02_tiny_patch14_224": {"depth": 4},
    "samvit_base_patch16": SMALL,
    "swin_tiny_patch4_window7_224": {"embed_dim": 24, "num_heads": (1, 2, 3, 4)},
    "convnext_atto": {},
}


def make_encoder(name, arguments):
    torch.manual_seed(0)
    size = 56 if "patch14" in name else 64
    return create_encoder(name, depth=3, image_size=size, weights="none", arguments=arguments)


def step(encoder, windows):
    """Gradients of all weights, and the bytes that were kept for them."""
    storages = {}

    def keep(tensor):
        storages[tensor.untyped_storage().data_ptr()] = (tensor.untyped_storage().nbytes(), tensor)
        return tensor

    torch.manual_seed(1)  # stochastic depth
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        maps = encoder(windows)
    weights = {parameter.untyped_storage().data_ptr() for parameter in encoder.parameters()}
    kept = sum(size for address, (size, _) in storages.items() if address not in weights)
    torch.stack([features.square().sum() for features in maps]).sum().backward()
    return {name: parameter.grad for name, parameter in encoder.named_parameters()}, kept


@pytest.mark.slow
@pytest.mark.parametrize("name", BACKBONES)
def test_same_gradients_from_less_memory(name):
    encoder = make_encoder(name, BACKBONES[name])
    windows = torch.randn(2, 1, 3, *encoder.image_size)
    wanted, plain = step(encoder, windows)
    encoder.zero_grad()
    checkpoint_activations(encoder.network, encoder.name)
    found, less = step(encoder, windows)
    assert less < 0.6 * plain
    for parameter in wanted:
        torch.testing.assert_close(found[parameter], wanted[parameter], rtol=1e-4, atol=1e-4, msg=parameter)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "got"),
    [
        ("resnet10t", "batch norm, which would see each batch twice"),
        ("videoswint", "no blocks to recompute"),
    ],
)
def test_backbones_that_cannot(name, got):
    with torch.device("meta"):
        encoder = create_encoder(name, image_size=64, weights="none")
    with pytest.raises(ConfigError, match="checkpoint") as caught:
        checkpoint_activations(encoder.network, encoder.name)
    assert caught.value.got == got
    assert "--checkpoint-activations" in str(caught.value.hint)
