"""Vectors that a network reads in front of the tokens of a prompt, as if they were embeddings."""

from __future__ import annotations

import torch
from torch.nn.utils.rnn import pad_sequence
from transformers import PreTrainedModel

SOFT_TOKENS = "soft_tokens"  # in a batch: vectors of shape (examples, tokens, width)


def network_inputs(
    network: PreTrainedModel,
    ids: torch.Tensor,
    mask: torch.Tensor,
    soft: torch.Tensor | None,
    padding_side: str = "right",
) -> dict[str, torch.Tensor]:
    """The inputs of a network for tokens (rows, length), with `soft` in front of each row.

    Without `soft`, the tokens themselves; else embeddings of `soft` and tokens. Padding stays
    outside, on its side.
    """
    if soft is None:
        return {"input_ids": ids, "attention_mask": mask}
    words = network.get_input_embeddings()(ids)
    soft = soft.to(words)
    if padding_side == "right":
        embeddings = torch.cat([soft, words], dim=1)
        return {
            "inputs_embeds": embeddings,
            "attention_mask": torch.cat([mask.new_ones(soft.shape[:2]), mask], dim=1),
        }
    pairs = zip(soft, words, mask, strict=True)
    rows = [torch.cat([own, row[real.bool()]]) for own, row, real in pairs]
    return {
        "inputs_embeds": pad_sequence(rows, True, 0.0, padding_side="left"),
        "attention_mask": torch.cat([mask, mask.new_ones(soft.shape[:2])], dim=1),
    }
