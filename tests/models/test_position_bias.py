from typing import Any

import pytest
import torch
from timm.layers.config import set_fused_attn
from timm.models.beit import Attention, Beit
from torch import Tensor

from inflate3d.models import position_bias
from inflate3d.models.encoders import create_encoder
from inflate3d.models.position_bias import PositionBiasedAttention, quicken_position_bias

GRID = (5, 4)
TOKENS = 5 * 4 + 1


def make_pair(**arguments) -> tuple[Attention, Attention]:
    """timm's attention, one operation at a time, and ours with the same weights."""
    torch.manual_seed(0)
    set_fused_attn(False)
    try:
        plain = Attention(24, num_heads=3, window_size=GRID, **arguments)
    finally:
        set_fused_attn(True)
    ours = Attention(24, num_heads=3, window_size=GRID, **arguments)
    for parameter in plain.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    ours.load_state_dict(plain.state_dict())
    quicken_position_bias(ours)
    assert type(ours) is PositionBiasedAttention
    return plain, ours


def run(attention: Attention, tokens: Tensor, upstream: Tensor) -> dict[str, Any]:
    tokens = tokens.clone().requires_grad_()
    attended = attention(tokens)
    attended.backward(upstream)
    return {"output": attended.detach(), "input": tokens.grad} | {
        name: parameter.grad for name, parameter in attention.named_parameters()
    }


def relative_error(found, wanted) -> float:
    return ((found - wanted).norm() / wanted.norm()).item()


@pytest.mark.parametrize(
    ("arguments", "tile"),
    [
        ({"qkv_bias": True}, 2**20),
        ({"qkv_bias": True}, 1),  # a window at a time
        ({"qkv_bias": True}, 2 * TOKENS**2),  # three windows, two at a time
        ({"qkv_bias": False}, 2**20),
    ],
)
def test_outputs_and_gradients_are_those_of_attention_step_by_step(arguments, tile, monkeypatch):
    monkeypatch.setattr(position_bias, "_TILE", tile)
    plain, ours = make_pair(**arguments)
    tokens, upstream = torch.randn(3, TOKENS, 24), torch.randn(3, TOKENS, 24)
    found, wanted = run(ours, tokens, upstream), run(plain, tokens, upstream)
    assert found.keys() == wanted.keys()
    for name in wanted:
        assert relative_error(found[name], wanted[name]) < 5e-6, name


def test_gradients_are_those_of_finite_differences():
    _, ours = make_pair(qkv_bias=True)
    ours = ours.double()
    tokens = torch.randn(2, TOKENS, 24, dtype=torch.float64)

    def attend(table):
        return torch.func.functional_call(ours, {"relative_position_bias_table": table}, tokens)

    table = ours.get_parameter("relative_position_bias_table").detach().requires_grad_()
    assert torch.autograd.gradcheck(attend, table, fast_mode=True)


def test_bfloat16_is_nearer_to_the_truth_than_step_by_step():
    plain, ours = make_pair(qkv_bias=True)
    tokens, upstream = torch.randn(3, TOKENS, 24), torch.randn(3, TOKENS, 24)
    truth = run(plain, tokens, upstream)
    errors = {}
    for name, attention in (("plain", plain), ("ours", ours)):
        attention.zero_grad()
        with torch.autocast("cpu", torch.bfloat16):
            found = run(attention, tokens, upstream)
        assert found["relative_position_bias_table"].dtype == torch.float32
        errors[name] = {part: relative_error(found[part], truth[part]) for part in truth}
    for part in ("output", "input", "relative_position_bias_table"):
        assert errors["ours"][part] <= max(errors["plain"][part], 1e-2), part


def test_without_gradients_nothing_changes():
    plain, ours = make_pair(qkv_bias=True)
    tokens = torch.randn(3, TOKENS, 24)
    with torch.no_grad():
        torch.testing.assert_close(ours(tokens), plain(tokens), rtol=1e-5, atol=1e-5)
        assert torch.equal(ours._get_rel_pos_bias(), plain._get_rel_pos_bias())


def test_no_matrix_of_tokens_is_kept_for_the_backward_pass():
    plain, ours = make_pair(qkv_bias=True)
    tokens = torch.randn(3, TOKENS, 24)
    kept = {}
    for name, attention in (("plain", plain), ("ours", ours)):
        shapes = []

        def keep(tensor, shapes=shapes):
            shapes.append(tuple(tensor.shape))
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            attention(tokens)
        kept[name] = any(shape[-2:] == (TOKENS, TOKENS) for shape in shapes)
    assert kept == {"plain": True, "ours": False}


def test_every_block_of_beit_and_no_other_backbone():
    arguments = {"embed_dim": 24, "depth": 4, "num_heads": 3}
    beit = create_encoder("beit_base_patch16_224", image_size=64, weights="none", arguments=arguments).network
    assert isinstance(beit.model, Beit)
    assert sum(isinstance(module, PositionBiasedAttention) for module in beit.modules()) == 4
    vit = create_encoder("vit_tiny_patch16_224", image_size=32, weights="none").network
    assert not any(isinstance(module, PositionBiasedAttention) for module in vit.modules())
