"""BEiT's attention, fused also where its position bias is learned, and with a quick gather of that bias.

Torch's fused attention on a CPU gives no gradient of an additive mask. Where one is wanted it falls back to attention
step by step, which keeps a matrix of tokens × tokens for each head, window and block until the backward pass. Here
the forward pass is the fused one and the backward pass computes such a matrix anew, a head at a time. On a GPU
torch's own memory-efficient attention has that gradient, and is taken.
"""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float, Integer
from timm.models.beit import Attention
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

_TILE = 2**20
"""Scores that are computed at once: 4 MiB, about what a core's caches hold."""


class PositionBiasedAttention(Attention):
    """BEiT's attention to rounding, for less memory and time."""

    def forward(
        self, x: Float[Tensor, "b n channels"], shared_rel_pos_bias: Tensor | None = None
    ) -> Float[Tensor, "b n channels"]:
        """Attends; the arguments are timm's."""
        if shared_rel_pos_bias is not None or not self._learns_on_cpu(x):
            return super().forward(x, shared_rel_pos_bias)
        biases: list[Tensor] = [bias for bias in (self.q_bias, self.k_bias, self.v_bias) if bias is not None]
        bias = torch.cat(biases) if biases else None
        query, key, value = F.linear(x, self.qkv.weight, bias).unflatten(-1, (3, self.num_heads, -1)).unbind(2)
        table, index = self._table_and_index()
        attended = _LearnedBias.apply(
            query.transpose(1, 2), key.transpose(1, 2), value.transpose(1, 2), table, index.flatten(), self.scale
        )
        return self.proj_drop(self.proj(attended.transpose(1, 2).flatten(2)))

    def _learns_on_cpu(self, x: Tensor) -> bool:
        table = self.relative_position_bias_table
        return (
            table is not None
            and table.requires_grad
            and torch.is_grad_enabled()
            and x.device.type == "cpu"
            and self.fused_attn
            and not (self.training and self.attn_drop.p)
            and not torch.compiler.is_compiling()
        )

    def _get_rel_pos_bias(self) -> Float[Tensor, "1 heads n n"]:
        # Head by head, the gradient of the gather is several times as quick as in the table's own layout.
        table, index = self._table_and_index()
        return table.contiguous().index_select(1, index.flatten()).view(1, -1, *index.shape)

    def _table_and_index(self) -> tuple[Float[Tensor, "heads entries"], Integer[Tensor, "n n"]]:
        table, index = self.relative_position_bias_table, self.relative_position_index
        assert table is not None and index is not None, "asked for only where there is a bias"
        return table.t(), index


def quicken_position_bias(network: nn.Module) -> None:
    """Lets every BEiT block of a network attend so; the weights stay as they are."""
    for module in network.modules():
        if type(module) is Attention:
            module.__class__ = PositionBiasedAttention


class _LearnedBias(torch.autograd.Function):
    """Softmax of scaled products of queries and keys plus a bias, times values."""

    @staticmethod
    def forward(
        ctx: Any,
        query: Float[Tensor, "b heads n c"],
        key: Float[Tensor, "b heads n c"],
        value: Float[Tensor, "b heads n c"],
        table: Float[Tensor, "heads entries"],
        index: Integer[Tensor, " n*n"],
        scale: float,
    ) -> Float[Tensor, "b heads n c"]:
        """Attends with torch's fused kernel."""
        table = table.contiguous()
        bias = table.index_select(1, index).view(1, len(table), query.shape[2], -1)
        attended, normalizers = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(
            query, key, value, 0.0, False, attn_mask=bias, scale=scale
        )
        ctx.save_for_backward(query, key, value, table, index, attended, normalizers)
        ctx.scale = scale
        return attended

    @staticmethod
    @once_differentiable
    def backward(  # type: ignore[reportIncompatibleMethodOverride] - made so by the decorator
        ctx: Any, *upstream: Float[Tensor, "b heads n c"]
    ) -> tuple[Tensor | None, ...]:
        """The gradients; scores and their gradients have the bias's precision, whatever the inputs have."""
        query, key, value, table, index, attended, normalizers = ctx.saved_tensors
        gradients = tuple(torch.empty_like(each) for each in (query, key, value))
        of_table = torch.zeros_like(table)
        batch, heads, tokens, _ = query.shape
        at_once = max(1, _TILE // tokens**2)
        # What follows states its own precisions.
        with torch.autocast("cpu", enabled=False):
            for head in range(heads):
                bias = table[head].index_select(0, index).view(tokens, tokens)
                of_bias = torch.zeros_like(bias)
                for first in range(0, batch, at_once):
                    part = (slice(first, first + at_once), head)
                    inputs = (query[part], key[part], value[part])
                    outputs = (attended[part], normalizers[part], upstream[0][part])
                    *found, of_scores = _tile_gradients(*inputs, bias, *outputs, ctx.scale)
                    for gradient, values in zip(gradients, found, strict=True):
                        gradient[part] = values
                    of_bias += of_scores
                of_table[head].index_add_(0, index, of_bias.flatten())
        return *gradients, of_table, None, None


def _tile_gradients(
    query: Float[Tensor, "b n c"],
    key: Float[Tensor, "b n c"],
    value: Float[Tensor, "b n c"],
    bias: Float[Tensor, "n n"],
    attended: Float[Tensor, "b n c"],
    normalizers: Float[Tensor, "b n"],
    upstream: Float[Tensor, "b n c"],
    scale: float,
) -> tuple[Float[Tensor, "b n c"], Float[Tensor, "b n c"], Float[Tensor, "b n c"], Float[Tensor, "n n"]]:
    """Gradients of one head for a few windows: of queries, keys, values, and the bias.

    With ``P`` the softmax of the scores ``S`` and ``dO`` the gradient of ``O = P V``, that of ``S`` is
    ``P * (dO Vᵀ - rowsum(dO * O))`` (Dao et al. 2022, arXiv:2205.14135, appendix B.2).

    Args:
        query: Queries.
        key: Keys.
        value: Values.
        bias: What is added to the scores.
        attended: ``O``.
        normalizers: Logarithms of the softmax's denominators.
        upstream: ``dO``.
        scale: Factor of the products.
    """
    # Scores are rounded once, in the softmax: bfloat16 ones would be off by a percent.
    scores = torch.baddbmm(bias, query.to(bias.dtype), key.to(bias.dtype).mT, alpha=scale)
    shares = scores.sub_(normalizers[..., None]).exp_()
    expected = (upstream.to(bias.dtype) * attended.to(bias.dtype)).sum(-1, keepdim=True)
    of_scores = torch.bmm(upstream, value.mT).to(bias.dtype).sub_(expected).mul_(shares)
    lowered = of_scores.to(query.dtype)
    return (
        torch.bmm(lowered, key).mul_(scale),
        torch.bmm(lowered.mT, query).mul_(scale),
        torch.bmm(shares.to(query.dtype).mT, upstream),
        of_scores.sum(0),
    )
