import pytest
import torch
from torch import nn
from torch.optim import AdamW

from inflate3d.config import TrainingConfig
from inflate3d.models.encoders import create_encoder
from inflate3d.models.segmenter import create_model
from inflate3d.training.optimization import make_optimizer, schedule

UNDECAYED = (
    "bias",
    "pos_embed",
    "cls_token",
    "reg_token",
    "gamma",
    "rel_pos",
    "relative_position_bias_table",
    "logit_scale",
)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "size"),
    [
        ("vit_tiny_patch16_224", 32),
        ("vit_small_patch14_reg4_dinov2", 28),
        ("swin_tiny_patch4_window7_224", 32),
        ("samvit_base_patch16", 32),
        ("resnet10t", 32),
    ],
)
def test_norms_biases_and_embeddings_do_not_decay(name, size):
    with torch.device("meta"):
        encoder = create_encoder(name, depth=3, image_size=size, weights="none")
        model = create_model(encoder=encoder, num_classes=2, decoder_channels=8, detail_channels=4)
    optimizer = make_optimizer(model, TrainingConfig(weight_decay=0.05, learning_rate=1e-3, stem_rate_factor=1.0))
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    decay = {names[id(p)]: group["weight_decay"] for group in optimizer.param_groups for p in group["params"]}
    rates = {names[id(p)]: group["lr"] for group in optimizer.param_groups for p in group["params"]}
    assert set(decay) == set(names.values())
    for parameter_name, parameter in model.named_parameters():
        spared = parameter.ndim <= 1 or any(word in parameter_name for word in UNDECAYED)
        assert decay[parameter_name] == (0 if spared else 0.05), parameter_name
        assert rates[parameter_name] == (1e-4 if parameter_name.startswith("encoder.network.") else 1e-3)


def test_frozen_parameters_are_left_out():
    encoder = create_encoder("resnet10t", depth=1, image_size=32, weights="none").requires_grad_(False)
    model = create_model(encoder=encoder, num_classes=2, decoder_channels=8)
    optimizer = make_optimizer(model, TrainingConfig(learning_rate=1e-3, stem_rate_factor=1.0))
    assert all(p.requires_grad for group in optimizer.param_groups for p in group["params"])


def test_warm_up_then_linear_decay():
    factor = schedule(TrainingConfig(steps=100, warmup_steps=4, decay="linear"))
    assert [factor(step) for step in range(5)] == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0])
    assert [factor(step) for step in (28, 52, 76, 100)] == pytest.approx([0.75, 0.5, 0.25, 0.0])


def test_cosine_decay():
    factor = schedule(TrainingConfig(steps=100, warmup_steps=0, decay="cosine"))
    assert [factor(step) for step in (0, 25, 50, 75, 100)] == pytest.approx([1, 0.853553, 0.5, 0.146447, 0], abs=1e-6)


def test_warm_up_is_a_tenth_of_the_steps_at_most():
    factor = schedule(TrainingConfig(steps=50, warmup_steps=1000))
    assert factor(4) < factor(5) == 1


def test_updates_are_those_of_the_plain_optimizer():
    model, plain = (nn.Linear(3, 2) for _ in range(2))
    plain.load_state_dict(model.state_dict())
    config = TrainingConfig(learning_rate=0.1, stem_rate_factor=1.0, beta2=0.98)
    fused = make_optimizer(model, config)
    assert fused.defaults["fused"]
    other = AdamW(plain.parameters(), lr=0.1, betas=(0.9, 0.98), weight_decay=config.weight_decay)
    other.param_groups[0]["params"] = [plain.weight]
    other.add_param_group({"params": [plain.bias], "lr": 0.1, "weight_decay": 0.0})
    for step in range(3):
        for network, optimizer in ((model, fused), (plain, other)):
            optimizer.zero_grad()
            network(torch.arange(6.0).view(2, 3) + step).square().sum().backward()
            optimizer.step()
    torch.testing.assert_close(model.state_dict(), plain.state_dict())
