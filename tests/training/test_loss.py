from typing import Any

import numpy as np
import pytest
import torch
from monai.losses.dice import DiceCELoss, DiceFocalLoss, DiceLoss
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


@pytest.mark.parametrize("shape", SHAPES)
def test_losses_and_gradients_are_monais(shape):
    how: Any = {"to_onehot_y": True, "softmax": True, "batch": True, "include_background": False}
    expected = {
        "dice-ce": DiceCELoss(**how),
        "dice-focal": DiceFocalLoss(**how, gamma=2.0),
        "ce": lambda logits, labels: F.cross_entropy(logits, labels[:, 0]),
    }
    for name, oracle in expected.items():
        loss = make_loss(TrainingConfig(loss=name))  # type: ignore[arg-type]
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
    beside = make_loss(TrainingConfig(loss=name))(wider, torch.cat([labels, ignored], dim=-1))
    (gradient,) = torch.autograd.grad(beside, logits)
    torch.testing.assert_close(beside, alone)
    torch.testing.assert_close(gradient, expected)


@pytest.mark.parametrize("name", LOSSES)
def test_nothing_is_learned_where_all_is_ignored(name):
    logits, labels = example(2, 8, 4)
    loss = make_loss(TrainingConfig(loss=name))
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


@pytest.mark.parametrize("name", LOSSES)
def test_votes_that_agree_are_one_label(name):
    logits, labels = example(2, 8, 4)
    loss = make_loss(TrainingConfig(loss=name))
    agreed = labels.expand(-1, 4, -1, -1)
    torch.testing.assert_close(value_and_gradient(loss, logits, agreed), value_and_gradient(loss, logits, labels))


def test_votes_are_the_fractions_of_a_soft_cross_entropy():
    logits, _ = example(2, 8, 4)
    votes = torch.randint(0, 3, (2, 9, 8, 4), generator=torch.Generator().manual_seed(1))
    fractions = F.one_hot(votes, 3).float().mean(1).movedim(-1, 1)
    found = make_loss(TrainingConfig(loss="ce"))(logits, votes)
    torch.testing.assert_close(found, F.cross_entropy(logits, fractions))


def test_fractions_are_the_best_prediction():
    """The gradient of cross-entropy is 0 there, and Dice is, as no other prediction's."""
    votes = torch.tensor([[0, 0, 1], [0, 1, 1], [0, 1, 2], [0, 1, 2]])[None, :, :, None]  # 4 votes, 3 pixels
    fractions = F.one_hot(votes, 3).float().mean(1).movedim(-1, 1)
    logits = fractions.clamp(min=1e-9).log().requires_grad_()
    entropy = -(fractions * logits).sum(1).mean()
    loss = make_loss(TrainingConfig(loss="dice-ce"))
    assert loss(logits, votes).item() == pytest.approx(entropy.item(), abs=1e-5)
    _, gradient = value_and_gradient(make_loss(TrainingConfig(loss="ce")), logits, votes)
    assert gradient.abs().max() < 1e-6
    for other in (2 * logits, logits / 2):
        assert loss(other, votes).item() > entropy.item() + 0.01


@pytest.mark.parametrize("name", LOSSES)
def test_a_voxel_counts_for_the_part_of_it_that_is_known(name):
    """Ignored votes weigh nothing: half a voxel known is as much as two voxels, one known and one ignored."""
    logits, labels = example(1, 8, 4)
    beside = torch.cat([labels, torch.full_like(labels, IGNORED)], dim=1)
    known, _ = example(1, 8, 4)
    loss = make_loss(TrainingConfig(loss=name))
    torch.testing.assert_close(value_and_gradient(loss, logits, beside), value_and_gradient(loss, known, labels))


NESTED = np.array([[0, 1, 1, 1], [0, 0, 1, 1], [0, 0, 0, 1]], bool)
"""Whole, core and enhancing tumor among the classes 0 to 3."""


@pytest.mark.parametrize("name", ["dice-ce", "ce"])
@pytest.mark.parametrize("shape", SHAPES)
def test_one_region_costs_what_a_class_and_the_background_do(name, shape):
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(shape[0], 1, *shape[1:], generator=generator, requires_grad=True)
    labels = torch.tensor([0, 1, IGNORED])[torch.randint(0, 3, (shape[0], 3, *shape[1:]), generator=generator)]
    config = TrainingConfig(loss=name)
    region = value_and_gradient(make_loss(config, NESTED[:1, :2]), logits, labels)
    classes = value_and_gradient(
        lambda each, of: make_loss(config)(torch.cat([torch.zeros_like(each), each], 1), of), logits, labels
    )
    torch.testing.assert_close(region, classes)


def test_losses_of_regions_are_monais():
    how: Any = {"sigmoid": True, "batch": True}
    expected = {
        "dice-ce": lambda logits, target: (
            DiceLoss(**how, smooth_nr=1e-5, smooth_dr=1e-5)(logits, target)
            + F.binary_cross_entropy_with_logits(logits, target)
        ),
        "dice-focal": DiceFocalLoss(**how, gamma=2.0),
        "ce": F.binary_cross_entropy_with_logits,
    }
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(2, 3, 8, 4, generator=generator, requires_grad=True)
    labels = torch.randint(0, 4, (2, 1, 8, 4), generator=generator)
    target = torch.from_numpy(NESTED)[:, labels[:, 0]].movedim(0, 1).float()
    for name, oracle in expected.items():
        loss = make_loss(TrainingConfig(loss=name), NESTED)  # type: ignore[arg-type]
        torch.testing.assert_close(
            value_and_gradient(loss, logits, labels), value_and_gradient(oracle, logits, target), msg=name
        )
