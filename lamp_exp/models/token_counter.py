"""A transformers tokenizer as prompts need it.

Tokenising takes most of the time of making prompts, and is done once for each distinct text; once
for each distinct word where the tokenizer never looks beyond a space, as T5's.
"""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Sequence
from functools import lru_cache
from itertools import chain
from typing import Any

from transformers import AutoTokenizer

from lamp_exp.contracts import TokenCounter
from lamp_exp.errors import InputError, first_line

TEXTS, WORDS = 1 << 12, 1 << 18  # that are remembered: memory
Ids = tuple[int, ...]
_PROBE = "The  (odd) words, naïve: 3.5% of\nthem\t“new”. e\u0301 😀 -- it's 'so' "


class TransformersTokenCounter(TokenCounter):
    """Counts and cuts text exactly as the model's tokenizer will when it reads it."""

    def __init__(self, tokenizer: Any) -> None:
        """`tokenizer` is any of transformers."""
        self.tokenizer = tokenizer
        self._special: int = tokenizer.num_special_tokens_to_add()
        self._words: dict[str, Ids] = {}
        self.by_words = _stops_at_spaces(tokenizer) and self._split(_PROBE) == self._whole(_PROBE)
        self._ids = lru_cache(TEXTS)(self._split if self.by_words else self._whole)
        self._decoded = lru_cache(TEXTS)(self._decode)

    def count(self, text: str) -> int:
        """The number of tokens, special ones included."""
        return len(self._ids(text)) + self._special

    def count_unknown(self, text: str) -> int:
        """The number of unknown tokens."""
        unknown: int = self._ids(text).count(self.tokenizer.unk_token_id)
        return unknown

    def truncate(self, text: str, limit: int) -> tuple[str, int]:
        """`text` cut from the right to `limit` tokens, special ones counted but not shown."""
        ids = self._ids(text)[: max(limit - self._special, 0)]
        return self._decoded(ids), len(ids) + self._special

    def _decode(self, ids: Ids) -> str:
        text: str = self.tokenizer.decode(ids, skip_special_tokens=True)
        return text

    def _whole(self, text: str) -> Ids:
        """The tokens of a text, without special ones around it."""
        return self._tokenised([text])[0]

    def _split(self, text: str) -> Ids:
        """The same, from the tokens of its words."""
        words = text.split(" ")
        new = [word for word in dict.fromkeys(words) if word not in self._words]
        if any(map(_joins_the_space, new)):
            return self._whole(text)
        if len(self._words) + len(new) > WORDS:
            self._words, new = {}, list(dict.fromkeys(words))
        if new:
            self._words.update(zip(new, self._tokenised(new), strict=True))
        return tuple(chain.from_iterable(map(self._words.__getitem__, words)))

    def _tokenised(self, texts: Sequence[str]) -> list[Ids]:
        rows = self.tokenizer(list(texts), add_special_tokens=False, verbose=False)["input_ids"]
        return list(map(tuple, rows))


def _stops_at_spaces(tokenizer: Any) -> bool:
    """Whether no token, and nothing done to a text before, ever reaches beyond a space."""
    if not tokenizer.is_fast or any(" " in word for word in tokenizer.get_added_vocab()):
        return False
    first = json.loads(tokenizer.backend_tokenizer.to_str())["pre_tokenizer"] or {}
    while first.get("pretokenizers"):
        first = first["pretokenizers"][0]
    return bool(first.get("type") == "WhitespaceSplit")


def _joins_the_space(word: str) -> bool:
    """Whether the word's first character may become one with the space before it."""
    return not word[:1].isascii() and unicodedata.category(word[0]) in {"Mn", "Mc", "Me", "Cf"}


def load_tokenizer(name: str, option: str = "model.name", **where: Any) -> Any:
    """The tokenizer of a hub id or a folder; `option` is what the user has to mend."""
    try:
        return AutoTokenizer.from_pretrained(name, **where)
    except (OSError, ValueError, ImportError) as error:
        raise InputError(
            f"{option}={name}: no tokenizer could be loaded from it ({first_line(error)}): give a "
            "hub id (and a network) or a local folder"
        ) from error
