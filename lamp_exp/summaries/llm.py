"""A summary that a language model writes of a profile (PAG, arXiv 2310.20081).

The writer reads the newest items or a sample of them, as many as fit, and below them an instruction
for the task.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from datetime import datetime
from random import Random

from lamp_exp.contracts import Task, TokenCounter, WrittenSummary
from lamp_exp.errors import InputError
from lamp_exp.values import ProfileItem, SummaryRequest

NEWEST, SAMPLED = "newest", "sampled"


class LlmSummary(WrittenSummary):
    """An instruction of the task, and items of the profile for the writer to read."""

    def __init__(
        self,
        instructions: Mapping[str, str],
        max_tokens: int = 128,
        items: str = SAMPLED,
        max_items: int = 10,
        item_tokens: int = 200,
        input_tokens: int = 1024,
        max_new_tokens: int = 128,
        seed: int = 0,
        model: str | None = None,
        name: str | None = None,
        allow_api: bool = False,
    ) -> None:
        """`instructions` by the name of the task's file, such as `lamp2_news`.

        At most `max_items` items are read, each with at most `item_tokens` of its body: the newest
        ones, or a sample that `seed` and the content of the profile decide.
        """
        self.instructions = instructions
        self.max_tokens = max_tokens
        self.items = items
        self.max_items = max_items
        self.item_tokens = item_tokens
        self.input_tokens = input_tokens
        self.max_new_tokens = max_new_tokens
        self.seed = seed
        self.model = model
        self.name = name
        self.allow_api = allow_api

    def validate(self, task: Task, dated: bool) -> None:
        """The task needs an instruction, the newest items need dates."""
        self._instruction(task)
        if self.items == NEWEST and not dated:
            raise InputError(
                f"summary.items={NEWEST} needs dates, which not all of these profiles have: use "
                f"summary.items={SAMPLED}, or split=time"
            )

    def request(
        self, task: Task, profile: Sequence[ProfileItem], counter: TokenCounter
    ) -> SummaryRequest | None:
        """The items that fit, one a line, and the instruction; the first is cut if it does not."""
        end = f"\n\n{self._instruction(task)}"
        entries: list[str] = []
        room = self.input_tokens - counter.count(end)
        cut = 0
        for item in self._chosen(task, profile):
            body, limit = task.body(item), self.item_tokens
            text = task.entry(item, _shortened(body, limit, counter))
            if (over := counter.count(text) - room) > 0:
                limit = min(counter.count(body), limit) - over
                if entries or limit <= counter.count(""):
                    break
                text = task.entry(item, _shortened(body, limit, counter))
            entries.append(text)
            cut += counter.count(body) > limit
            room -= counter.count(text) + 1  # the line's end, where the tokenizer counts it
        while len(entries) > 1 and counter.count("\n".join(entries) + end) > self.input_tokens:
            entries.pop()
        text = "\n".join(entry.strip() for entry in entries) + end
        return SummaryRequest(text, len(entries), cut) if entries else None

    def _chosen(self, task: Task, profile: Sequence[ProfileItem]) -> list[ProfileItem]:
        """The items to be read, in order; no id decides, so that equal profiles have equal ones."""
        if self.items == NEWEST:
            order = range(len(profile))
            dates = [item.date or datetime.min for item in profile]  # `validate` wants all of them
            newest = sorted(order, key=lambda number: (dates[number], number), reverse=True)
            return [profile[number] for number in newest[: self.max_items]]
        content = "\n".join(task.entry(item, task.body(item)) for item in profile)
        digest = hashlib.sha256(content.encode()).hexdigest()
        chance = Random(f"{self.seed}:{digest}:summary")
        return chance.sample(list(profile), min(self.max_items, len(profile)))

    def _instruction(self, task: Task) -> str:
        name = type(task).__module__.rpartition(".")[2]
        if not self.instructions.get(name):
            raise InputError(
                f"summary.instructions has none for this task: add +summary.instructions.{name}="
            )
        return self.instructions[name]


def _shortened(text: str, limit: int, counter: TokenCounter) -> str:
    return text if counter.count(text) <= limit else counter.truncate(text, limit)[0]
