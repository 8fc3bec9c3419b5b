"""A transformers tokenizer, counting and truncating texts for prompts.

Tokenising takes most of the time of making prompts. It is done once per distinct text, and once
per distinct word where the tokenizer never looks beyond a space, as T5's.
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
from lamp_exp.hub import LOAD_ERRORS, check_vocabulary, load_error, only_local_files

MAX_TEXTS, MAX_WORDS = 1 << 12, 1 << 18  # whose tokens are remembered
Ids = tuple[int, ...]
_PROBE = "The  (odd) words, naïve: 3.5% of\nthem\t“new”. e\u0301 😀 -- it's 'so' "


class TransformersTokenCounter(TokenCounter):
    """Counts and truncates exactly as the model's tokenizer does."""

    def __init__(self, tokenizer: Any) -> None:
        self.tokenizer = tokenizer
        self._special: int = tokenizer.num_special_tokens_to_add()
        self._word_ids: dict[str, Ids] = {}
        self.by_words = _stops_at_spaces(tokenizer) and (
            self._ids_by_words(_PROBE) == self._ids_of_text(_PROBE)
        )
        ids = self._ids_by_words if self.by_words else self._ids_of_text
        self._ids = lru_cache(MAX_TEXTS)(ids)
        self._decoded = lru_cache(MAX_TEXTS)(self._decode)

    def count(self, text: str) -> int:
        """The number of tokens, special tokens included."""
        return len(self._ids(text)) + self._special

    def count_unknown(self, text: str) -> int:
        unknown: int = self._ids(text).count(self.tokenizer.unk_token_id)
        return unknown

    def truncate(self, text: str, limit: int) -> tuple[str, int]:
        """`text` cut to `limit` tokens, special ones counted but not shown; and its token count."""
        ids = self._ids(text)[: max(limit - self._special, 0)]
        return self._decoded(ids), len(ids) + self._special

    def shortened(self, text: str, limit: int) -> str:
        """`text` as it is if it has no more than `limit` tokens, else truncated."""
        return text if self.count(text) <= limit else self.truncate(text, limit)[0]

    def _decode(self, ids: Ids) -> str:
        text: str = self.tokenizer.decode(ids, skip_special_tokens=True)
        return text

    def _ids_of_text(self, text: str) -> Ids:
        return self._tokenize([text])[0]

    def _ids_by_words(self, text: str) -> Ids:
        """The same ids, from those of the words."""
        words = text.split(" ")
        new = [word for word in dict.fromkeys(words) if word not in self._word_ids]
        if any(map(_combines_with_space, new)):
            return self._ids_of_text(text)
        if len(self._word_ids) + len(new) > MAX_WORDS:
            self._word_ids, new = {}, list(dict.fromkeys(words))
        if new:
            self._word_ids.update(zip(new, self._tokenize(new), strict=True))
        return tuple(chain.from_iterable(map(self._word_ids.__getitem__, words)))

    def _tokenize(self, texts: Sequence[str]) -> list[Ids]:
        rows = self.tokenizer(list(texts), add_special_tokens=False, verbose=False)["input_ids"]
        return list(map(tuple, rows))


def _stops_at_spaces(tokenizer: Any) -> bool:
    """Whether neither a token nor the normalisation of a text ever reaches beyond a space."""
    if not tokenizer.is_fast or any(" " in word for word in tokenizer.get_added_vocab()):
        return False
    first = json.loads(tokenizer.backend_tokenizer.to_str())["pre_tokenizer"] or {}
    while first.get("pretokenizers"):
        first = first["pretokenizers"][0]
    return bool(first.get("type") == "WhitespaceSplit")


def _combines_with_space(word: str) -> bool:
    """Whether the word's first character may combine with the space before it."""
    return not word[:1].isascii() and unicodedata.category(word[0]) in {"Mn", "Mc", "Me", "Cf"}


def load_tokenizer(name: str, option: str = "model.name", **options: Any) -> Any:
    """The tokenizer of a hub id or a folder; `option` is the one that InputError names."""
    local = only_local_files(name)
    try:
        tokenizer = AutoTokenizer.from_pretrained(name, local_files_only=local, **options)
    except LOAD_ERRORS as error:
        raise load_error(option, name, "tokenizer", error) from error
    check_vocabulary(tokenizer, f"{option}={name}")
    return tokenizer
