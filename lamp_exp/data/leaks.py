"""The question's own item inside its profile: a leak, which LaMP-1 has in about 8% of profiles."""

from __future__ import annotations

from lamp_exp.types import ProfileItem, Task


def is_own_item(task: Task, input: str, item: ProfileItem) -> bool:
    """Whether an item is what the question asks about: the same text, case and spacing aside.

    Equal ids alone are no leak, and neither are two blank texts.
    """
    own = plain(task.own_text(input))
    return bool(own) and own == plain(task.own_item_text(item))


def plain(text: str) -> str:
    """A text without differences of case and spacing."""
    return " ".join(text.split()).casefold()
