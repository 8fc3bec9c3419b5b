"""One copy of an example's passages for all its decoder rows (beams, labels).

transformers copies an example's encodings, keys and values for each of its rows. Here they are
made and kept once an example, and read by `attention.attention`.
"""

from __future__ import annotations

import torch
from transformers import DynamicCache, EncoderDecoderCache, PreTrainedModel
from transformers.modeling_outputs import BaseModelOutput


class SharedKeys(DynamicCache):  # type: ignore[misc]  # the library is not typed
    """Keys and values that all rows of an example read: whichever beams go on, they stay."""

    def reorder_cache(self, beam_idx: torch.Tensor) -> None:
        """Nothing to do."""


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
