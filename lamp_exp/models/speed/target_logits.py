"""Logits of target tokens only: those of prompts and padding are the largest matrix of a step.

In training a decoder-only model of 32,100 words on prompts of 512 tokens, a step takes a fifth of
the time (`tests/benchmarks`).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from transformers import PreTrainedModel


@contextmanager
def target_logits(network: PreTrainedModel, wanted: torch.Tensor) -> Iterator[None]:
    """While the block runs, the network's logits are (wanted, words).

    `wanted` is a boolean mask (rows, tokens) of the positions whose logits are computed.
    """

    def select(head: Any, inputs: tuple[torch.Tensor, ...]) -> torch.Tensor:
        (states,) = inputs
        return states[wanted]

    hook = network.get_output_embeddings().register_forward_pre_hook(select)
    try:
        yield
    finally:
        hook.remove()
