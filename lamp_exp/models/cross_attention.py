"""Cross-attention of several decoder rows per example (beams, labels) to one copy of its passages.

transformers copies an example's encodings, keys and values for each of its rows. Here they are
made and kept once an example, and its rows read them together: their queries become one matrix.
"""

from __future__ import annotations

from typing import Any

import torch
from transformers import (
    AttentionInterface,
    AttentionMaskInterface,
    DynamicCache,
    EncoderDecoderCache,
    PreTrainedModel,
)
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask
from transformers.modeling_outputs import BaseModelOutput

NAME = "lamp_exp_shared"


def attention(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float | None = None,
    **options: Any,
) -> tuple[torch.Tensor, None]:
    """The library's own `sdpa`, also for more rows of queries than of keys.

    `query` is (rows, heads, length, width), `key` and `value` (examples, heads, tokens, width); the
    rows of an example follow each other. Gives (rows, length, heads, width).
    """
    (rows, heads, length, width), examples = query.shape, len(key)
    if rows == examples:
        own: tuple[torch.Tensor, None] = sdpa_attention_forward(
            module, query, key, value, attention_mask, scaling=scaling, **options
        )
        return own
    if attention_mask is not None:  # which tokens of an example there are: the same for its rows
        attention_mask = attention_mask[:: rows // examples, :, :1]
    grouped = query.view(examples, -1, heads, length, width).transpose(1, 2)
    read = torch.nn.functional.scaled_dot_product_attention(
        grouped.flatten(2, 3), key, value, attn_mask=attention_mask, scale=scaling
    )
    read = read.view(examples, heads, -1, length, width).permute(0, 2, 3, 1, 4)
    return read.reshape(rows, length, heads, width), None


AttentionInterface.register(NAME, attention)
AttentionMaskInterface.register(NAME, sdpa_mask)


class SharedKeys(DynamicCache):  # type: ignore[misc]  # the library is not typed
    """Keys and values that all rows of an example read: whichever beams go on, they stay."""

    def reorder_cache(self, beam_idx: torch.Tensor) -> None:
        """Nothing to do."""


def share(network: PreTrainedModel) -> bool:
    """Gives a network this attention, if its own can be exchanged; whether it has it."""
    if network.config._attn_implementation == "sdpa":
        network.set_attn_implementation(NAME)
    return bool(network.config._attn_implementation == NAME)


@torch.no_grad()
def shared_cache(
    network: PreTrainedModel, states: torch.Tensor, mask: torch.Tensor
) -> EncoderDecoderCache:
    """The keys and values of encodings (examples, tokens, d), for any number of rows an example.

    Made by decoding the start token once, as every architecture makes its own.
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


def stand_in(states: torch.Tensor) -> BaseModelOutput:
    """Encodings without content, where only their shape is looked at: copies of it cost nothing."""
    return BaseModelOutput(last_hidden_state=states[..., :0])
