from typing import Any

import pytest
import torch
from monai.losses.dice import DiceCELoss, DiceFocalLoss
from torch.nn import functional as F

from inflate3d.config import TrainingConfig
from inflate3d.models.encoders import create_encoder
from inflate3d.models.segmenter import create_model
from inflate3d.training.optimization import make_loss, make_optimizer, schedule

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
    optimizer = make_optimizer(model, TrainingConfig(weight_decay=0.05))
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    decay = {names[id(p)]: group["weight_decay"] for group in optimizer.param_groups for p in group["params"]}
    rates = {names[id(p)]: group["lr"] for group in optimizer.param_groups for p in group["params"]}
    assert set(decay) == set(names.values())
    for parameter_name, parameter in model.named_parameters():
        spared = parameter.ndim <= 1 or any(word in parameter_name for word in UNDECAYED)
        assert decay[parameter_name] == (0 if spared else 0.05), parameter_name
        assert rates[parameter_name] == (1e-4 if parameter_name.startswith("encoder.") else 1e-3)


def test_frozen_parameters_are_left_out():
    encoder = create_encoder("resnet10t", depth=1, image_size=32, weights="none").requires_grad_(False)
    model = create_model(encoder=encoder, num_classes=2, decoder_channels=8)
    optimizer = make_optimizer(model, TrainingConfig())
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


@pytest.fixture
def example():
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(2, 3, 8, 8, generator=generator)
    return logits, torch.randint(0, 3, (2, 1, 8, 8), generator=generator)


def test_losses_are_monais(example):
    how: Any = {"to_onehot_y": True, "softmax": True, "batch": True, "include_background": False}
    expected = {
        "dice-ce": DiceCELoss(**how),
        "dice-focal": DiceFocalLoss(**how, gamma=2.0),
        "ce": lambda logits, labels: F.cross_entropy(logits, labels[:, 0]),
    }
    for name, oracle in expected.items():
        loss = make_loss(TrainingConfig(loss=name))  # type: ignore[arg-type]
        assert loss(*example).item() == pytest.approx(oracle(*example).item(), rel=1e-5), name


@pytest.mark.parametrize("name", ["dice-ce", "dice-focal", "ce"])
def test_perfect_prediction_costs_nearly_nothing(example, name):
    _, labels = example
    logits = 40 * F.one_hot(labels[:, 0], 3).movedim(-1, 1).float() - 20
    loss = make_loss(TrainingConfig(loss=name))
    assert loss(logits, labels).item() == pytest.approx(0, abs=1e-4)
    assert loss(-logits, labels).item() > 1
