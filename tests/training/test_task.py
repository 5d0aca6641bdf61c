import pytest
import torch

from inflate3d.config import TrainingConfig
from inflate3d.preparation.plan import IGNORED
from inflate3d.training.optimization import make_loss
from inflate3d.training.task import only_known

LOSSES = ["dice-ce", "dice-focal", "ce"]


def example(*shape):
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(shape[0], 3, *shape[1:], generator=generator, requires_grad=True)
    return logits, torch.randint(0, 3, shape, generator=generator)


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("shape", [(2, 8, 4), (2, 3, 8, 4)])
def test_loss_and_gradient_are_those_of_the_known_voxels(name, shape):
    logits, labels = example(*shape)
    loss = make_loss(TrainingConfig(loss=name))
    alone = loss(logits, labels[:, None])
    (expected,) = torch.autograd.grad(alone, logits)

    ignored = torch.full((*labels.shape[:-1], 12), IGNORED)
    wider = torch.cat([logits, 5 * torch.ones(*logits.shape[:-1], 12)], dim=-1)
    kept, values = only_known(wider, torch.cat([labels, ignored], dim=-1))
    beside = loss(kept, values[:, None])
    (gradient,) = torch.autograd.grad(beside, logits)
    torch.testing.assert_close(beside, alone)
    torch.testing.assert_close(gradient, expected)


@pytest.mark.parametrize("name", LOSSES)
def test_nothing_is_learned_where_all_is_ignored(name):
    logits, labels = example(2, 8, 4)
    kept, values = only_known(logits, torch.full_like(labels, IGNORED))
    loss = make_loss(TrainingConfig(loss=name))(kept, values[:, None])
    (gradient,) = torch.autograd.grad(loss, logits)
    assert torch.isfinite(loss)
    assert (gradient == 0).all()
