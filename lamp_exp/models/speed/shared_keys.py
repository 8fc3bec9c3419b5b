"""One copy of an example's keys and values for all its decoder rows (beams, labels).

transformers copies an example's encodings, keys and values for each of its rows. Here they are
computed and stored once per example, and the queries of an example's rows are read as one matrix.
With 4 beams, whole answers take two thirds of the time (`tests/benchmarks`).

Where few tokens are decoded, the keys and values are not computed at all: the attention reads the
encodings themselves, and the projections of keys and values are applied to the queries and to what
was read. Likelihoods of titles took 8 to 24% less time on a CPU.

transformers also merges the position bias and the mask, which all layers of T5 share, in each
layer. Here they are merged once, unless the network is trained.
"""

from __future__ import annotations

from typing import Any

import torch
from torch.utils.weak import WeakTensorKeyDictionary
from transformers import (
    AttentionInterface,
    AttentionMaskInterface,
    DynamicCache,
    EncoderDecoderCache,
    PreTrainedModel,
)
from transformers.modeling_outputs import BaseModelOutput

NAME = "lamp_exp_shared_keys"
SDPA = "sdpa"  # transformers' attention by torch's function
ARCHITECTURES = ("t5", "mt5")  # whose attention and cache are known to work with this

# For a position bias: the mask that it was merged with, and both merged. Gone with the bias.
_merged: WeakTensorKeyDictionary = WeakTensorKeyDictionary()


def shared_keys_attention(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    position_bias: torch.Tensor | None = None,
    **options: Any,
) -> tuple[torch.Tensor, None]:
    """The output of transformers' `sdpa` attention, (rows, length, heads, width).

    `query` is (rows, heads, length, width), `key` and `value` (examples, heads, tokens, width). Or
    `key` is the encodings (examples, 1, tokens, d) of `encodings_cache`. If there are more rows
    than examples, the rows of an example follow each other.
    """
    (rows, heads, length, width), examples = query.shape, len(key)
    of_encodings = key.shape[-1] != width
    if rows == examples and not of_encodings:
        if position_bias is not None and attention_mask is not None and not torch.is_grad_enabled():
            attention_mask = _biased_mask(attention_mask, position_bias, key.dtype)
            position_bias = None
        own: tuple[torch.Tensor, None] = AttentionInterface()[SDPA](
            module,
            query,
            key,
            value,
            attention_mask,
            dropout=dropout,
            scaling=scaling,
            position_bias=position_bias,
            **options,
        )
        return own
    if attention_mask is not None:  # which tokens an example has: the same for its rows
        attention_mask = attention_mask[:: rows // examples, :, :1]
    if of_encodings:
        return _read_encodings(module, query, key, attention_mask, scaling), None
    grouped = query.view(examples, -1, heads, length, width).transpose(1, 2).flatten(2, 3)
    output = torch.nn.functional.scaled_dot_product_attention(
        grouped, key, value, attn_mask=attention_mask, scale=scaling
    )
    output = output.view(examples, heads, -1, length, width).permute(0, 2, 3, 1, 4)
    return output.reshape(rows, length, heads, width), None


def _read_encodings(
    module: torch.nn.Module,
    query: torch.Tensor,
    states: torch.Tensor,
    mask: torch.Tensor | None,
    scaling: float | None,
) -> torch.Tensor:
    """The same output without keys and values: q·(K h) is (Kᵀ q)·h, and Σ a (V h) is V (Σ a h)."""
    (rows, heads, length, width), (examples, _, _, size) = query.shape, states.shape
    keys = module.get_parameter("k.weight").view(heads, width, size)
    values = module.get_parameter("v.weight").view(heads, width, size)
    queries = torch.einsum("rhlw,hws->rhls", query, keys).reshape(examples, 1, -1, size)
    read = torch.nn.functional.scaled_dot_product_attention(
        queries, states, states, attn_mask=mask, scale=scaling
    )
    read = read.view(rows, heads, length, size)
    return torch.einsum("rhls,hws->rlhw", read, values)


def _biased_mask(mask: torch.Tensor, bias: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """The bias (1, heads, length, tokens) where the mask allows attention, else the least number.

    As `sdpa` of transformers merges them; `dtype` is that of the keys. A mask that is not boolean
    is added.
    """
    known: torch.Tensor | None
    merged: torch.Tensor
    known, merged = _merged.get(bias, (None, bias))  # type: ignore[no-untyped-call]
    if known is not mask:
        if mask.dtype == torch.bool:
            merged = torch.where(mask, bias, torch.finfo(dtype).min).contiguous()
        else:
            merged = (bias + mask).contiguous()
        _merged[bias] = mask, merged
    return merged


AttentionInterface.register(NAME, shared_keys_attention)
AttentionMaskInterface.register(NAME, AttentionMaskInterface()[SDPA])


def enable(network: PreTrainedModel) -> bool:
    """Gives a network this attention; False, without effect, for other architectures."""
    known = network.config.model_type in ARCHITECTURES
    if known:
        network.set_attn_implementation(NAME)
    return known


class SharedKeys(DynamicCache):  # type: ignore[misc]  # transformers is not typed
    """Keys and values that all rows of an example read, whichever beams survive."""

    def reorder_cache(self, beam_idx: torch.Tensor) -> None:
        """Nothing to reorder."""


@torch.no_grad()
def shared_cache(
    network: PreTrainedModel, states: torch.Tensor, mask: torch.Tensor
) -> EncoderDecoderCache:
    """The keys and values of encodings (examples, tokens, d), for any number of rows per example.

    They are computed by decoding the start token once.
    """
    cache = EncoderDecoderCache(DynamicCache(), SharedKeys())
    start = torch.full((len(states), 1), network.config.decoder_start_token_id)
    network(
        decoder_input_ids=start.to(states.device),
        encoder_outputs=BaseModelOutput(last_hidden_state=states),
        attention_mask=mask,
        cache=cache,
        use_cache=True,
    )
    return EncoderDecoderCache(DynamicCache(), cache.cross_attention_cache)


def reads_encodings(network: PreTrainedModel, tokens: int) -> bool:
    """Whether it is faster to decode `tokens` tokens per example from the encodings themselves.

    On CPUs, where it was measured. False where the projections are not plain matrices, as of LoRA.
    """
    width = network.config.d_kv
    if network.device.type != "cpu" or 2 * tokens > width:
        return False
    if network.config.d_model == width:
        return False  # encodings would look like keys
    crossed = [block.layer[1].EncDecAttention for block in network.get_decoder().block]
    projections = [one for attention in crossed for one in (attention.k, attention.v)]
    return all(type(one) is torch.nn.Linear for one in projections)


def encodings_cache(network: PreTrainedModel, states: torch.Tensor) -> EncoderDecoderCache:
    """A cache that holds the encodings (examples, tokens, d) in place of keys and values.

    All layers share one copy of them.
    """
    cross = SharedKeys()
    cross.update(states[:, None], states[:, None, :, :0], 0)
    cross.layers *= len(network.get_decoder().block)
    return EncoderDecoderCache(DynamicCache(), cross)


def placeholder(states: torch.Tensor) -> BaseModelOutput:
    """Encodings of width 0, for code that only reads their shape: copies of them cost nothing."""
    return BaseModelOutput(last_hidden_state=states[..., :0])
