"""Finds profile items that are the question itself, as LaMP-1 has by the dozen."""

from __future__ import annotations

from collections.abc import Sequence

from lamp_exp.contracts import Task
from lamp_exp.values import ProfileItem

_HEAD = 16  # characters that tell nearly all texts apart


def own_items(task: Task, input: str, items: Sequence[ProfileItem]) -> list[ProfileItem]:
    """The items that are what the question asks about: the same text.

    Equal ids alone are no leak, and neither are two blank texts.
    """
    return [items[position] for position in own_positions(task, input, items)]


def own_positions(task: Task, input: str, items: Sequence[ProfileItem]) -> list[int]:
    """The positions of `own_items`."""
    text = normalized(task.query_source_text(input))
    source_texts = map(task.item_source_text, items)
    return [n for n, other in enumerate(source_texts) if _equals_normalized(text, other)]


def same_text(text: str, other: str) -> bool:
    """Whether two texts are equal but for case and spacing, and not blank."""
    return _equals_normalized(normalized(text), other)


def normalized(text: str) -> str:
    """A text without differences of case and spacing."""
    return " ".join(text.split()).casefold()


def _equals_normalized(text: str, other: str) -> bool:
    return text.startswith(normalized(other[:_HEAD])) and bool(text) and text == normalized(other)
