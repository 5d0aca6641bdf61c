from typing import Any

import pytest
import torch
from monai.losses.dice import DiceCELoss, DiceFocalLoss
from torch.nn import functional as F

from inflate3d.config import TrainingConfig
from inflate3d.datasets.classes import IGNORED
from inflate3d.training.loss import make_loss

LOSSES = ["dice-ce", "dice-focal", "ce"]
SHAPES = [(2, 8, 4), (2, 3, 8, 4)]


def example(*shape):
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(shape[0], 3, *shape[1:], generator=generator, requires_grad=True)
    return logits, torch.randint(0, 3, (shape[0], 1, *shape[1:]), generator=generator)


def value_and_gradient(loss, logits, labels):
    value = loss(logits, labels)
    return value, torch.autograd.grad(value, logits)[0]


@pytest.mark.parametrize("ignore", [False, True])
@pytest.mark.parametrize("shape", SHAPES)
def test_losses_and_gradients_are_monais(shape, ignore):
    how: Any = {"to_onehot_y": True, "softmax": True, "batch": True, "include_background": False}
    expected = {
        "dice-ce": DiceCELoss(**how),
        "dice-focal": DiceFocalLoss(**how, gamma=2.0),
        "ce": lambda logits, labels: F.cross_entropy(logits, labels[:, 0]),
    }
    for name, oracle in expected.items():
        loss = make_loss(TrainingConfig(loss=name), ignore=ignore)  # type: ignore[arg-type]
        torch.testing.assert_close(
            value_and_gradient(loss, *example(*shape)), value_and_gradient(oracle, *example(*shape)), msg=name
        )


@pytest.mark.parametrize("name", LOSSES)
def test_perfect_prediction_costs_nearly_nothing(name):
    _, labels = example(2, 8, 8)
    logits = 40 * F.one_hot(labels[:, 0], 3).movedim(-1, 1).float() - 20
    loss = make_loss(TrainingConfig(loss=name))
    assert loss(logits, labels).item() == pytest.approx(0, abs=1e-4)
    assert loss(-logits, labels).item() > 1


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("shape", SHAPES)
def test_loss_and_gradient_are_those_of_the_known_voxels(name, shape):
    logits, labels = example(*shape)
    alone, expected = value_and_gradient(make_loss(TrainingConfig(loss=name)), logits, labels)

    ignored = torch.full((*labels.shape[:-1], 12), IGNORED)
    wider = torch.cat([logits, 5 * torch.ones(*logits.shape[:-1], 12)], dim=-1)
    beside = make_loss(TrainingConfig(loss=name), ignore=True)(wider, torch.cat([labels, ignored], dim=-1))
    (gradient,) = torch.autograd.grad(beside, logits)
    torch.testing.assert_close(beside, alone)
    torch.testing.assert_close(gradient, expected)


@pytest.mark.parametrize("name", LOSSES)
def test_nothing_is_learned_where_all_is_ignored(name):
    logits, labels = example(2, 8, 4)
    loss = make_loss(TrainingConfig(loss=name), ignore=True)
    value, gradient = value_and_gradient(loss, logits, torch.full_like(labels, IGNORED))
    assert value == 0
    assert (gradient == 0).all()


@pytest.mark.parametrize("absent", [1, 12])
def test_absent_classes_take_nothing_from_the_dice_of_those_that_are_there(absent):
    """Logits of absent classes are so low that they change no probability: loss and gradient stay what they were."""
    logits, labels = example(2, 8, 4)
    expected = value_and_gradient(make_loss(TrainingConfig(loss="dice-ce")), logits, labels)
    wider = torch.cat([logits, torch.full((2, absent, 8, 4), -100.0)], dim=1)
    found = value_and_gradient(make_loss(TrainingConfig(loss="dice-ce")), wider.detach().requires_grad_(), labels)
    torch.testing.assert_close(found[0], expected[0])
    torch.testing.assert_close(found[1][:, :3], expected[1])


def test_dice_of_background_alone_is_nothing():
    logits, labels = example(2, 8, 4)
    nothing = torch.zeros_like(labels)
    found, alone = (make_loss(TrainingConfig(loss=name))(logits, nothing) for name in ("dice-ce", "ce"))
    assert found == alone
