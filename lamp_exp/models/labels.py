"""Turns a task's labels into token sequences, for restricted decoding."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from lamp_exp.errors import InputError


@dataclass(frozen=True)
class Labels:
    """The labels and the token ids of each; the last token of each is the end token."""

    texts: tuple[str, ...]
    token_ids: tuple[tuple[int, ...], ...]

    def validate(self, max_new_tokens: int, decoding: str) -> None:
        """Raises InputError if there are no labels, or if they cannot be told apart in time."""
        if not self.texts:
            raise InputError(
                f"model.decoding={decoding} is for tasks with labels (lamp1, lamp2, lamp2_news, "
                "lamp3): use model.decoding=free"
            )
        if self.max_tokens > max_new_tokens:
            raise InputError(
                f"model.decoding={decoding} needs max_new_tokens={self.max_tokens} or more: a "
                "label has so many tokens"
            )
        if len(set(self.token_ids)) < len(self.token_ids):
            raise InputError(
                f"model.decoding={decoding}: to this model's tokenizer two labels are the same "
                "tokens: use model.decoding=free"
            )

    @property
    def max_tokens(self) -> int:
        """The number of tokens of the longest label."""
        return max(map(len, self.token_ids))

    @cached_property
    def _next_tokens(self) -> dict[tuple[int, ...], list[int]]:
        tree: dict[tuple[int, ...], set[int]] = {}
        for row in self.token_ids:
            for n, token in enumerate(row):
                tree.setdefault(row[:n], set()).add(token)
        return {prefix: sorted(tokens) for prefix, tokens in tree.items()}

    def next_tokens(self, prefix: Sequence[int]) -> list[int]:
        """The tokens that may follow `prefix`; the end token after a whole label or any other."""
        return self._next_tokens.get(tuple(prefix), [self.token_ids[0][-1]])

    def index(self, tokens: Sequence[int]) -> int:
        """The number of the label that `tokens` begin with; padding may follow its end token.

        Raises InputError if there is none, because generation options forbade tokens of a label.
        """
        numbers = {row: n for n, row in enumerate(self.token_ids)}
        for length in range(1, len(tokens) + 1):
            if (row := tuple(tokens[:length])) in numbers:
                return numbers[row]
        raise InputError(
            "model.decoding=labels: an option of model.generation (such as suppress_tokens or "
            "min_new_tokens) forbids tokens of a label: leave it out, or use "
            "model.decoding=likelihood"
        )
