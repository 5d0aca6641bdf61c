"""A batch in parts: forward, gradients and batch norms' statistics are those of the parts, one after the other."""

import copy

import pytest
import torch

from inflate3d import create_encoder, create_model
from inflate3d.errors import ConfigError
from inflate3d.training.parts import has_batch_norms, more_parts, take_in_parts


@pytest.mark.parametrize(("name", "norms"), [("resnet10t", True), ("convnext_atto", False)])
def test_step_in_parts_is_that_of_one_part_after_the_other(name, norms):
    torch.manual_seed(0)
    encoder = create_encoder(name, depth=3, image_size=32, weights=None)
    model = create_model(encoder=encoder, num_classes=2, decoder_channels=8, detail_channels=4)
    windows = torch.rand(4, 1, 3, 32, 32)
    parted = copy.deepcopy(model)
    take_in_parts(parted, 2)
    found = parted.encoder(windows)
    torch.stack([features.square().mean() for features in found]).sum().backward()
    expected = [torch.cat(maps) for maps in zip(*(model.encoder(part) for part in windows.chunk(2)), strict=True)]
    torch.stack([features.square().mean() for features in expected]).sum().backward()
    assert has_batch_norms(model) == norms
    for ours, theirs in zip(found, expected, strict=True):
        assert torch.equal(ours, theirs)
    for ours, theirs in zip(parted.encoder.parameters(), model.encoder.parameters(), strict=True):
        torch.testing.assert_close(ours.grad, theirs.grad)
    states = parted.state_dict(), model.state_dict()
    assert list(states[0]) == list(states[1])
    for key in states[1]:
        assert torch.equal(states[0][key], states[1][key]), key
    assert all(module.momentum == 0.1 for module in parted.modules() if isinstance(module, torch.nn.BatchNorm2d))


def test_parts_are_doubled_up_to_one_window_each():
    assert [more_parts(parts, 6, "") for parts in (1, 2, 4)] == [2, 4, 6]
    with pytest.raises(ConfigError, match="memory") as caught:
        more_parts(6, 6, "20 GiB")
    assert "20 GiB (with one window at a time in the encoder)" in str(caught.value.got)
