"""The question's own item inside its profile: a leak, which LaMP-1 has by the dozen."""

from __future__ import annotations

from collections.abc import Iterable

from lamp_exp.contracts import Task
from lamp_exp.values import ProfileItem

_HEAD = 16  # characters that tell nearly all texts apart


def own_items(task: Task, input: str, items: Iterable[ProfileItem]) -> list[ProfileItem]:
    """The items that are what the question asks about: the same text.

    Equal ids alone are no leak, and neither are two blank texts.
    """
    own = plain(task.query_source_text(input))
    return [item for item in items if _is_plainly(own, task.item_source_text(item))]


def same_text(one: str, other: str) -> bool:
    """Whether two texts are the same, and not blank: case and spacing aside, nothing else."""
    return _is_plainly(plain(one), other)


def _is_plainly(text: str, other: str) -> bool:
    return text.startswith(plain(other[:_HEAD])) and bool(text) and text == plain(other)


def plain(text: str) -> str:
    """A text without differences of case and spacing."""
    return " ".join(text.split()).casefold()
