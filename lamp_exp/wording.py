"""Counts in sentences."""

from __future__ import annotations


def count_of(number: int, word: str, words: str | None = None) -> str:
    """`1 job`, `2 jobs`; `words` are those for several, where an `s` does not make them."""
    return f"{number} {word}" if number == 1 else f"{number} {words or f'{word}s'}"
