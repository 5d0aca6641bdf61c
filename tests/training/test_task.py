import pytest
import torch

from inflate3d.config import TrainingConfig
from inflate3d.preparation.plan import IGNORED
from inflate3d.training.optimization import make_loss
from inflate3d.training.task import settle_ignored


@pytest.fixture
def example():
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(2, 3, 8, 9, generator=generator, requires_grad=True)
    labels = torch.randint(0, 3, (2, 8, 9), generator=generator)
    ignored = torch.rand(2, 8, 9, generator=generator) < 0.3
    return logits, labels, ignored


@pytest.mark.parametrize("name", ["dice-ce", "dice-focal", "ce"])
def test_no_loss_learns_from_ignored_pixels(example, name):
    logits, labels, ignored = example
    settled, known = settle_ignored(logits, labels.masked_fill(ignored, IGNORED))
    assert set(known.unique().tolist()) <= {0, 1, 2}
    loss = make_loss(TrainingConfig(loss=name))(settled, known[:, None])
    (gradient,) = torch.autograd.grad(loss, logits)
    assert (gradient.abs().sum(1)[ignored] == 0).all()
    assert (gradient.abs().sum(1)[~ignored] > 0).all()


def test_dice_is_that_of_the_other_pixels(example):
    logits, labels, ignored = example
    dice = make_loss(TrainingConfig(loss="dice-ce")).dice
    settled, known = settle_ignored(logits, labels.masked_fill(ignored, IGNORED))
    everywhere = dice(settled, known[:, None])
    pixels = ~ignored
    alone = dice(logits.permute(1, 0, 2, 3)[:, pixels][None, :, :, None], labels[pixels][None, None, :, None])
    torch.testing.assert_close(everywhere, alone)
