"""The beginning that all prompts of a batch share: a decoder-only network reads it once.

What such a network keeps of a token depends on the tokens before it alone, so it is the same for
all prompts. Padding, which else stands before a prompt, then stands after the shared beginning.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from transformers import DynamicCache, PreTrainedModel
from transformers.cache_utils import DynamicLayer

WORTH_IT = 16  # tokens: reading fewer once more costs less than reading them apart


def length(rows: Sequence[Sequence[int]]) -> int:
    """How many tokens all rows begin with; each keeps at least one for itself."""
    shortest = min(map(len, rows)) - 1
    columns = zip(*rows, strict=False)
    return next((n for n, column in enumerate(columns) if len(set(column)) > 1), shortest)


@torch.no_grad()
def read_once(
    network: PreTrainedModel, asked: dict[str, torch.Tensor], common: int, rows: int
) -> dict[str, Any]:
    """What `generate` is given instead of `asked`: prompts whose `common` tokens are read already.

    `asked` are prompts padded on the left, for each of which `rows` answers are written together.
    Where it would not pay, or the network keeps anything but the keys and values of all tokens (a
    window of them, a state), `asked` as it is.
    """
    examples = len(asked["input_ids"])
    if common < WORTH_IT or examples < 2:
        return asked
    moved = _padded_after(common, **asked)
    cache = DynamicCache(config=network.config)
    network(input_ids=moved["input_ids"][:1, :common], cache=cache, use_cache=True)
    if any(type(layer) is not DynamicLayer for layer in cache.layers):
        return asked
    cache.batch_repeat_interleave(examples * rows)
    return {**moved, "cache": cache}


def _padded_after(
    common: int, input_ids: torch.Tensor, attention_mask: torch.Tensor
) -> dict[str, torch.Tensor]:
    """The same prompts with their padding moved from the left to after `common` tokens."""
    place = torch.arange(input_ids.shape[1], device=input_ids.device).expand_as(input_ids)
    padding = (attention_mask == 0).sum(dim=1, keepdim=True)
    begun = torch.where(place < common, place + padding, place)
    origin = torch.where((place >= common) & (place < common + padding), place - common, begun)
    return {
        "input_ids": input_ids.gather(1, origin),
        "attention_mask": attention_mask.gather(1, origin),
    }
