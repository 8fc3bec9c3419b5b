"""Questions in the official format, made of few words: small parts for components that learn."""

from __future__ import annotations

from random import Random
from typing import Any

from lamp_exp.tasks.lamp4 import Lamp4

WORDS = (
    "oven", "rose", "lake", "nurse", "sailor", "singer", "city", "bread", "river", "garden", "king",
    "horse",
)  # fmt: skip


def official_item(n: int, word: str) -> dict[str, str]:
    return {"id": str(n), "title": f"the {word}", "text": f"near the {word} one {word}"}


def official_rows(part: str, count: int) -> tuple[list[dict[str, Any]], list[dict[str, str]]]:
    """Questions of LaMP-4 by a user each, and their golds."""
    questions, golds = [], []
    for number in range(count):
        word, *others = Random(f"{part}{number}").sample(WORDS, 6)
        profile = [official_item(n, other) for n, other in enumerate([*others, word])]
        id = f"{part}{number}"
        text = f"{Lamp4().instruction} near the {word} one {word}"
        questions.append({"id": id, "user_id": id, "input": text, "profile": profile})
        golds.append({"id": id, "output": f"the {word}"})
    return questions, golds
