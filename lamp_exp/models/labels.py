"""The labels of a task as the tokens that spell them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from lamp_exp.errors import InputError


@dataclass(frozen=True)
class Labels:
    """Each label and the tokens that spell it; the last token of each ends an answer."""

    texts: tuple[str, ...]
    rows: tuple[tuple[int, ...], ...]

    def check(self, most: int, decoding: str) -> None:
        """Raises InputError where there are none, or `most` tokens cannot tell them apart."""
        if not self.texts:
            raise InputError(
                f"model.decoding={decoding} is for tasks with labels (lamp1, lamp2, lamp2_news, "
                "lamp3): use model.decoding=free"
            )
        if self.longest > most:
            raise InputError(
                f"model.decoding={decoding} needs max_new_tokens={self.longest} or more: a label "
                "has so many tokens"
            )
        if len(set(self.rows)) < len(self.rows):
            raise InputError(
                f"model.decoding={decoding}: to this model's tokenizer two labels are the same "
                "tokens: use model.decoding=free"
            )

    @property
    def longest(self) -> int:
        """The most tokens of a label."""
        return max(map(len, self.rows))

    @cached_property
    def _next(self) -> dict[tuple[int, ...], list[int]]:
        """Which tokens may follow what has been written of a label."""
        tree: dict[tuple[int, ...], set[int]] = {}
        for row in self.rows:
            for n, token in enumerate(row):
                tree.setdefault(row[:n], set()).add(token)
        return {written: sorted(tokens) for written, tokens in tree.items()}

    def following(self, written: Sequence[int]) -> list[int]:
        """The tokens that may come next; the end after what is whole, or no label's beginning."""
        return self._next.get(tuple(written), [self.rows[0][-1]])

    def spelt(self, written: Sequence[int]) -> int:
        """The number of the label that a row of tokens spells; what follows its end is padding.

        Raises InputError where options of generation have kept it from being whole.
        """
        numbers = {row: n for n, row in enumerate(self.rows)}
        for length in range(1, len(written) + 1):
            if (row := tuple(written[:length])) in numbers:
                return numbers[row]
        raise InputError(
            "model.decoding=labels: an option of model.generation (such as suppress_tokens or "
            "min_new_tokens) forbids tokens of a label: leave it out, or use "
            "model.decoding=likelihood"
        )
