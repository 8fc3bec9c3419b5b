"""A transformers tokenizer as prompts need it."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from transformers import AutoTokenizer

from lamp_exp.errors import first_line
from lamp_exp.types import InputError


class ModelTokens:
    """Counts and cuts text exactly as the model's tokenizer will when it reads it."""

    def __init__(self, tokenizer: Any) -> None:
        """`tokenizer` is any of transformers."""
        self.tokenizer = tokenizer
        self._measure = lru_cache(maxsize=1 << 16)(self._measure_once)

    def count(self, text: str) -> int:
        """The number of tokens, special ones included."""
        return self._measure(text)[0]

    def unknown(self, text: str) -> int:
        """The number of unknown tokens."""
        return self._measure(text)[1]

    def _measure_once(self, text: str) -> tuple[int, int]:
        ids = self.tokenizer(text, verbose=False)["input_ids"]
        return len(ids), ids.count(self.tokenizer.unk_token_id)

    def cut(self, text: str, limit: int) -> tuple[str, int]:
        """`text` cut from the right to `limit` tokens, special ones counted but not shown."""
        ids = self.tokenizer(text, max_length=limit, truncation=True)["input_ids"]
        return self.tokenizer.decode(ids, skip_special_tokens=True), len(ids)


def load_tokenizer(name: str, option: str = "model.name", **where: Any) -> Any:
    """The tokenizer of a hub id or a folder; `option` is what the user has to mend."""
    try:
        return AutoTokenizer.from_pretrained(name, **where)
    except (OSError, ValueError, ImportError) as error:
        raise InputError(
            f"{option}={name}: no tokenizer could be loaded from it ({first_line(error)}): give a "
            "hub id (and a network) or a local folder"
        ) from error
