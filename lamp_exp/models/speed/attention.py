"""Attention of encoder-decoder models: the library's own, and two cases that it makes dear.

Several decoder rows of an example (beams, labels) read one copy of its keys and values: their
queries become one matrix. And on a CPU, where torch's attention passes over all weights many
times as soon as some are to be dropped, training takes fewer passes and cheaper chance.
"""

from __future__ import annotations

from typing import Any

import torch
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedModel
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

NAME = "lamp_exp"
CHANCES = 1 << 16  # a weight is dropped by a whole number of 16 bits


def attention(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    **options: Any,
) -> tuple[torch.Tensor, None]:
    """What transformers' `sdpa` gives, (rows, length, heads, width).

    `query` is (rows, heads, length, width), `key` and `value` (examples, heads, tokens, width):
    as many examples as rows, or fewer, whose rows then follow each other.
    """
    if len(query) != len(key):
        return _of_shared_keys(query, key, value, attention_mask, scaling), None
    causal = getattr(module, "is_causal", True) and attention_mask is None
    plain = query.shape[1] == key.shape[1] and not causal
    if 0 < dropout < 1 and query.device.type == "cpu" and plain:
        bias = options.get("position_bias")
        return _with_dropout(query, key, value, attention_mask, bias, dropout, scaling), None
    own: tuple[torch.Tensor, None] = sdpa_attention_forward(
        module, query, key, value, attention_mask, dropout=dropout, scaling=scaling, **options
    )
    return own


AttentionInterface.register(NAME, attention)
AttentionMaskInterface.register(NAME, sdpa_mask)


def use(network: PreTrainedModel) -> bool:
    """Gives a network this attention, if its own can be exchanged; whether it has it."""
    if network.config._attn_implementation == "sdpa":
        network.set_attn_implementation(NAME)
    return bool(network.config._attn_implementation == NAME)


def _of_shared_keys(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    mask: torch.Tensor | None,
    scaling: float | None,
) -> torch.Tensor:
    (rows, heads, length, width), examples = query.shape, len(key)
    if mask is not None:  # which tokens of an example there are: the same for its rows
        mask = mask[:: rows // examples, :, :1]
    grouped = query.view(examples, -1, heads, length, width).transpose(1, 2)
    read = torch.nn.functional.scaled_dot_product_attention(
        grouped.flatten(2, 3), key, value, attn_mask=mask, scale=scaling
    )
    read = read.view(examples, heads, -1, length, width).permute(0, 2, 3, 1, 4)
    return read.reshape(rows, length, heads, width)


def _with_dropout(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    mask: torch.Tensor | None,
    bias: torch.Tensor | None,
    dropout: float,
    scaling: float | None,
) -> torch.Tensor:
    scores = query * (query.shape[-1] ** -0.5 if scaling is None else scaling) @ key.mT
    if bias is not None:
        scores += bias
    if mask is not None:
        scores += _additive(mask, scores.dtype)
    weights = scores.softmax(dim=-1)
    dropped = round(dropout * CHANCES)
    kept = (_sixteen_bits(weights) >= dropped - CHANCES // 2).to(weights.dtype)
    # The weights that stay are scaled up, so that their sum is 1 in the mean.
    read = weights * kept @ (value * (CHANCES / (CHANCES - dropped)))
    return read.transpose(1, 2).contiguous()


def _additive(mask: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    if mask.dtype != torch.bool:
        return mask
    return torch.zeros(mask.shape, dtype=dtype).masked_fill_(~mask, torch.finfo(dtype).min)


def _sixteen_bits(like: torch.Tensor) -> torch.Tensor:
    """Random numbers of 16 bits with a sign; four of them are drawn as one of 64."""
    drawn = torch.empty(-(-like.numel() // 4), dtype=torch.int64).random_(-(2**63), None)
    return drawn.view(torch.int16)[: like.numel()].view(like.shape)
