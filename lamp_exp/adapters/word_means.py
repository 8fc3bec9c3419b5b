"""Texts as the mean of the answering model's own word embeddings."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from lamp_exp.contracts import Component
from lamp_exp.errors import InputError


class WordMeans(Component):
    """The mean over the first `max_length` tokens of a text; needs no other model."""

    def __init__(self, max_length: int) -> None:
        if type(max_length) is not int or max_length < 1:
            raise InputError(f"adapter.encoder.max_length={max_length} must be a number from 1 on")
        self.max_length = max_length

    def tokens(self, tokenizer: Any, texts: Sequence[str]) -> list[list[int]]:
        """The tokens of each text, none of them special, before it is cut."""
        if not texts:
            return []
        valid = [text.encode("utf-8", "replace").decode("utf-8") for text in texts]
        ids: list[list[int]] = tokenizer(valid, add_special_tokens=False, verbose=False)[
            "input_ids"
        ]
        return ids

    def count_cut(self, tokenizer: Any, texts: Sequence[str]) -> int:
        """The number of texts that are too long."""
        return sum(len(row) > self.max_length for row in self.tokens(tokenizer, texts))
