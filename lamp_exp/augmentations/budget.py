"""Cuts profile items so that they fit into a prompt.

Source: `prompts/utils.py` of the benchmark's repository, whose prompts it repeats byte for byte.
Where that code drops all items, shows one without any of its text, or lets them push the
instruction out of the prompt, the best items that fit are kept instead; `official=True` repeats the
official prompts in these cases, too.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from lamp_exp.contracts import Task, TokenCounter
from lamp_exp.values import ProfileItem

INPUT_SHARE = 0.6  # of a prompt's tokens is reserved for the input at first, then less


class DoesNotFit(Exception):
    """An item's share of the budget is too small for it."""


@dataclass(frozen=True, slots=True)
class FittedPrompt:
    """A prompt with the best `items` items, of which `cut_texts` have a shortened body."""

    text: str
    items: int = 0
    cut_texts: int = 0


@dataclass(frozen=True, slots=True)
class Budget:
    """The room of a prompt: `max_length` tokens of the generating model, less a summary's."""

    task: Task
    counter: TokenCounter
    max_length: int
    official: bool = False
    summary: str = ""

    def fit(self, input: str, items: Sequence[ProfileItem]) -> FittedPrompt:
        """The prompt with as many of the best `items` as fit; the input alone if none fits."""
        fewest = max(len(items) - 1, 0) if self.official else 0
        for count in range(len(items), fewest, -1):
            fitted = self._fit_all(input, items[:count])
            if fitted and (self.official or self._instruction_survives(fitted.text, input)):
                return fitted
        return FittedPrompt(self._join(input, []))

    def summary_tokens(self, input: str) -> int:
        """The tokens that the summary adds to an input."""
        if not self.summary:
            return 0
        count = self.counter.count
        return count(self.task.place_summary(input, self.summary)) - count(input)

    def _join(self, input: str, entries: Sequence[str]) -> str:
        prompt = self.task.join(input, entries)
        return self.task.place_summary(prompt, self.summary) if self.summary else prompt

    def _fit_all(self, input: str, items: Sequence[ProfileItem]) -> FittedPrompt | None:
        for share in input_shares():
            try:
                entries, cut_texts = self._entries(input, items, share)
            except DoesNotFit:
                continue  # a smaller share for the input leaves more for the items
            return FittedPrompt(self._join(input, entries), len(items), cut_texts)
        return None

    def _entries(
        self, input: str, items: Sequence[ProfileItem], share: float
    ) -> tuple[list[str], int]:
        """The entries, and how many bodies were cut; what an item leaves over, the next may use."""
        per_item = self._per_item(input, len(items), share)
        entries, spare, cut_texts = [], 0, 0
        for item in items:
            overhead = self.task.overhead_tokens(item, self.counter)
            body, used, is_cut = self._cut(self.task.body(item), per_item + spare - overhead)
            entries.append(self.task.entry(item, body))
            spare += per_item - used - overhead
            cut_texts += is_cut
        return entries, cut_texts

    def _per_item(self, input: str, items: int, share: float) -> int:
        task, count = self.task, self.counter.count
        length = self.max_length - self.summary_tokens(input)
        room = length - min(count(input), int(share * length))
        fixed = count(task.fixed_text) if task.fixed_text else 0
        joiners = 2 * (items - 1)
        return (room - task.separator_tokens - joiners - fixed) // items

    def _cut(self, body: str, limit: int) -> tuple[str, int, bool]:
        """The body cut to `limit` tokens, its number of tokens, and whether it was cut."""
        length = self.counter.count(body)
        if limit == 0 and self.official:  # the official code's tokenizer takes 0 for no limit
            return body, length, False
        if limit < 1:
            raise DoesNotFit
        text, used = self.counter.truncate(body, limit)
        if not self.official and not text.strip() and body.strip():
            raise DoesNotFit  # the end token alone, or pieces of white space
        return text, used, used < length

    def _instruction_survives(self, prompt: str, input: str) -> bool:
        """Whether the instruction is complete once the tokenizer cuts the prompt."""
        end = self.task.instruction_end(prompt, input)
        return self.counter.count(prompt[:end]) <= self.max_length


def fit_summary(
    task: Task, counter: TokenCounter, max_length: int, input: str, summary: str
) -> str:
    """The summary, cut to the room that a prompt has for it; empty if nothing of it fits.

    `INPUT_SHARE` of the tokens is reserved for an input that needs them, and always the
    instruction.
    """
    room = max_length - min(counter.count(input), int(INPUT_SHARE * max_length))
    limit = counter.count(summary)
    while limit > counter.count(""):
        uncut = limit >= counter.count(summary)
        budget = Budget(task, counter, max_length, summary=_shown(counter, summary, limit, uncut))
        if not budget.summary.strip():
            return ""
        prompt = task.place_summary(input, budget.summary)
        start = prompt[: task.instruction_end(prompt, input)]
        over = max(budget.summary_tokens(input) - room, counter.count(start) - max_length)
        if over <= 0:
            return budget.summary
        limit -= over
    return ""


def _shown(counter: TokenCounter, text: str, limit: int, uncut: bool) -> str:
    """The text itself if it is not cut: a tokenizer may decode it to another one."""
    return text if uncut else counter.truncate(text, limit)[0]


def input_shares() -> Iterator[float]:
    """0.6, 0.5, … 0, in the floating-point steps of the official code."""
    share = INPUT_SHARE
    while share >= 0:
        yield share
        share -= 0.1
