"""A made-up sample of LaMP's shape, for first runs and for tests.

Each user has topics of their own and a taste in each: what they tag, how they title, how many
stars they give. A question says nothing of the taste; the user's earlier writings on the same
topic do. So a model that reads the right items can answer, and one that reads none cannot. In
the time split users stay with a topic for a while, so that the newest items help, too.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from random import Random
from typing import Any

from lamp_exp.contracts import Task
from lamp_exp.data.arguments import PARTS
from lamp_exp.data.vocabulary import ADJECTIVES, ENDINGS, OPENINGS, PLACES, TASTES, TOPICS, VERBS
from lamp_exp.values import SampleText

VERSION = 1  # of the material: another number, other data
CHOICES = 15
DEFAULT_QUESTIONS = {"train": 2000, "dev": 300, "test": 300}


@dataclass(frozen=True, slots=True)
class Size:
    """How much to make; `questions` None stands for the default of each part."""

    questions: int | None = None
    items: int = 24
    words: int = 10
    seed: int = 0


@dataclass(frozen=True, slots=True)
class Taste:
    """One user: topics, and for each a choice and the two words of its titles."""

    topics: tuple[int, ...]
    choices: tuple[int, ...]
    signatures: tuple[tuple[str, str], ...]
    opening: str
    ending: str


def rows(task: Task, split: str, part: str, size: Size) -> Iterator[tuple[dict[str, Any], str]]:
    """The questions of a part, as the official files hold them, each with its gold.

    Each depends on its user and `size` alone, so that a longer sample begins as a shorter one.
    """
    count = DEFAULT_QUESTIONS[part] if size.questions is None else size.questions
    for number in range(count):
        yield _question(task, split, part, number, size)


def _question(
    task: Task, split: str, part: str, number: int, size: Size
) -> tuple[dict[str, Any], str]:
    """A question with its gold; in the time split, one number is one user in all parts."""
    timed = split == "time"
    user = f"{number}" if timed else f"{part}{number}"
    chance = Random(f"{VERSION}:{size.seed}:{split}:{user}")
    taste = _taste(chance)
    later = Random(f"{VERSION}:{size.seed}:{split}:{part}:{user}")
    step = PARTS.index(part)
    order = _topic_order(chance, later, size, timed, step)
    id = f"{step + 1}{number:05d}"
    items = []
    for position, topic in enumerate(order[:-1]):
        written = Random(f"{VERSION}:{size.seed}:{split}:{user}:{position}")
        item = {"id": f"{id}{position}", **task.sample_item(_writing(written, taste, topic, size))}
        items.append(item | ({"date": _day(position)} if timed else {}))
    input, gold = task.sample_question(_writing(later, taste, order[-1], size))
    row = {"id": id, "input": input, "profile": items}
    return row | ({"user_id": user, "date": _day(len(items))} if timed else {}), gold


def _taste(chance: Random) -> Taste:
    topics = tuple(chance.sample(range(len(TOPICS)), 4))
    words = chance.sample(TASTES, 2 * len(topics))
    return Taste(
        topics=topics,
        choices=tuple(chance.sample(range(CHOICES), len(topics))),
        signatures=tuple(zip(words[::2], words[1::2], strict=True)),
        opening=chance.choice(OPENINGS),
        ending=chance.choice(ENDINGS),
    )


def _topic_order(chance: Random, later: Random, size: Size, timed: bool, step: int) -> list[int]:
    """Which of the user's topics each item is about, and last the question.

    `chance` is the user's and runs the same in all parts; a later part has a longer history.
    Some profiles are empty or have one item, as in the benchmark.
    """
    length = max(chance.choice((0, 1)) if chance.random() < 0.02 else _length(chance, size), 0)
    if not timed:
        return [*(chance.randrange(4) for _ in range(length)), later.randrange(4)]
    runs = [topic for _ in range(length + 8) for topic in [chance.randrange(4)] for _ in range(4)]
    history = length + step if length > 1 else length
    same = later.random() < 0.7 and history
    return [*runs[:history], runs[history - 1] if same else later.randrange(4)]


def _length(chance: Random, size: Size) -> int:
    return chance.randint(size.items // 2, size.items + size.items // 2)


def _writing(chance: Random, taste: Taste, topic: int, size: Size) -> SampleText:
    nouns = chance.sample(TOPICS[taste.topics[topic]], 3)
    foreign = chance.choice([n for n in range(len(TOPICS)) if n not in taste.topics])
    text = _text(chance, nouns, size.words)
    first, second = taste.signatures[topic]
    return SampleText(
        text=text,
        title=f"{first} {second} {nouns[0]}",
        choice=taste.choices[topic],
        restyled=f"{taste.opening} {text} {taste.ending}",
        related=f"{chance.choice(ADJECTIVES)} {nouns[1]} and {nouns[2]}",
        unrelated=f"{chance.choice(ADJECTIVES)} {' and '.join(chance.sample(TOPICS[foreign], 2))}",
        swapped=chance.random() < 0.5,
    )


def _text(chance: Random, nouns: Sequence[str], words: int) -> str:
    """Three nouns of the topic among words of no topic, `words` long but at least 10.

    The first, which the title bears, stands twice: order alone need not tell it.
    """
    first, second, third = nouns
    parts = ["the", chance.choice(ADJECTIVES), first, chance.choice(VERBS), second]
    parts += ["and", third, "near", first, chance.choice(PLACES)]
    while len(parts) < words:
        parts += ["and", "the", chance.choice(ADJECTIVES), chance.choice(PLACES)]
    return " ".join(parts[: max(words, 10)])


def _day(position: int) -> str:
    return (date(2015, 1, 1) + timedelta(days=9 * position)).isoformat()
