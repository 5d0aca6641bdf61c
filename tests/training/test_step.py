"""A training step against the plain way of doing it: nothing that makes it quick changes what it computes."""

import copy

import pytest
import torch
from monai.losses.dice import DiceCELoss
from timm.models.beit import Attention
from torch.optim import AdamW

from inflate3d.config import DecoderName, TrainingConfig
from inflate3d.models.encoders import checkpoint_activations, create_encoder
from inflate3d.models.segmenter import Segmenter, create_model
from inflate3d.training.loss import make_loss
from inflate3d.training.optimization import make_optimizer

RATE = 1e-3
CONFIG = TrainingConfig(learning_rate=RATE, encoder_learning_rate=RATE, weight_decay=0, stem_rate_factor=1)


def make_model(decoder: DecoderName) -> Segmenter:
    torch.manual_seed(0)
    arguments = {"embed_dim": 24, "depth": 4, "num_heads": 3}
    encoder = create_encoder("beit_base_patch16_224", depth=3, image_size=64, weights="none", arguments=arguments)
    model = create_model(encoder=encoder, num_classes=3, decoder=decoder, decoder_channels=8)
    for name, parameter in model.named_parameters():
        if "relative_position_bias_table" in name:
            torch.nn.init.normal_(parameter)
    return model


def make_plain(model: Segmenter) -> Segmenter:
    plain = copy.deepcopy(model)
    for module in plain.modules():
        if isinstance(module, Attention):
            module.fused_attn = False  # type: ignore[misc]
    return plain


def gradients(model, loss, precision=torch.float32):
    generator = torch.Generator().manual_seed(1)
    windows = torch.rand(2, 1, 3, 64, 64, generator=generator)
    labels = torch.randint(0, 3, (2, 1, 1, 64, 64), generator=generator)
    torch.manual_seed(2)  # dropout
    with torch.autocast("cpu", precision, enabled=precision != torch.float32):
        logits = model(windows)
    value = loss(logits.float()[:, :, None], labels)
    value.backward()
    return value.item(), torch.cat([parameter.grad.flatten() for parameter in model.parameters()])


def relative_error(found, wanted) -> float:
    return ((found - wanted).norm() / wanted.norm()).item()


@pytest.mark.parametrize("decoder", ["fpn-lite", "upernet"])
def test_loss_gradients_and_update_are_those_of_the_plain_step(decoder):
    ours = make_model(decoder)
    plain = make_plain(ours)
    ours.to(memory_format=torch.channels_last)
    wanted = gradients(
        plain, DiceCELoss(to_onehot_y=True, softmax=True, batch=True, include_background=False, lambda_dice=1.0)
    )
    found = gradients(ours, make_loss(CONFIG))
    assert found[0] == pytest.approx(wanted[0], rel=1e-6)
    assert relative_error(found[1], wanted[1]) < 1e-5

    # Adam divides by a gradient's size, so that the rounding of tiny ones would show: both get the same here.
    for mine, theirs in zip(ours.parameters(), plain.parameters(), strict=True):
        assert theirs.grad is not None
        mine.grad = torch.empty_like(mine).copy_(theirs.grad)
    make_optimizer(ours, CONFIG).step()
    AdamW(plain.parameters(), lr=RATE, weight_decay=0, foreach=False, fused=False).step()
    for mine, theirs in zip(ours.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-5, atol=1e-6)


def test_bfloat16_has_the_loss_of_float32_to_its_own_rounding():
    model = make_model("upernet")
    wanted, gradient = gradients(model, make_loss(CONFIG))
    model.zero_grad()
    found, rounded = gradients(model, make_loss(CONFIG), torch.bfloat16)
    assert found == pytest.approx(wanted, rel=1e-3)
    assert relative_error(rounded, gradient) < 0.1
    assert rounded.dtype == torch.float32


def test_checkpointed_activations_change_nothing():
    model = make_model("fpn-lite")
    wanted = gradients(model, make_loss(CONFIG))
    model.zero_grad()
    checkpoint_activations(model.encoder.network, model.encoder.name)
    found = gradients(model, make_loss(CONFIG))
    assert found[0] == wanted[0]
    torch.testing.assert_close(found[1], wanted[1], rtol=1e-5, atol=1e-6)
