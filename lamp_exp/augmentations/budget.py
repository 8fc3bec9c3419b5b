"""How much of each profile item fits into a prompt: the official code's rule, made explicit.

Source: `prompts/utils.py` of the benchmark's repository, whose output it repeats byte for byte.
Where that code gives up and returns the bare input, or lets the profile push the instruction
over the edge, the best items that fit are kept instead, and the loss is counted. `official=True`
repeats it there, too.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from lamp_exp.contracts import Task, TokenCounter
from lamp_exp.values import ProfileItem

INPUT_SHARE = 0.6  # of a prompt's tokens is set aside for the input at first, then less


class DoesNotFit(Exception):
    """An item's share of the budget is smaller than the words around it."""


@dataclass(frozen=True, slots=True)
class Fitted:
    """A prompt's text, how many of the best items are in it, and how many texts were cut."""

    text: str
    kept: int = 0
    cuts: int = 0


@dataclass(frozen=True, slots=True)
class Budget:
    """The room of one prompt: `max_length` of the generating model's `counter`."""

    task: Task
    counter: TokenCounter
    max_length: int
    official: bool = False

    def fit(self, input: str, items: Sequence[ProfileItem]) -> Fitted:
        """The prompt of as many of the best `items` as fit; the bare input if none does."""
        fewest = max(len(items) - 1, 0) if self.official else 0
        for kept in range(len(items), fewest, -1):
            fitted = self._fit_all(input, items[:kept])
            if fitted and (self.official or self._instruction_survives(fitted.text, input)):
                return fitted
        return Fitted(self.task.join(input, []))

    def _fit_all(self, input: str, items: Sequence[ProfileItem]) -> Fitted | None:
        for share in input_shares():
            try:
                entries, cuts = self._entries(input, items, share)
            except DoesNotFit:
                continue  # a smaller share for the input leaves more for the items
            return Fitted(self.task.join(input, entries), len(items), cuts)
        return None

    def _entries(
        self, input: str, items: Sequence[ProfileItem], share: float
    ) -> tuple[list[str], int]:
        """The entries, and how many texts were cut; what one item leaves, the next one has."""
        per_item = self._per_item(input, len(items), share)
        entries, spare, cuts = [], 0, 0
        for item in items:
            frame = self.task.overhead_tokens(item, self.counter)
            shown, used, cut = self._cut(self.task.body(item), per_item + spare - frame)
            entries.append(self.task.entry(item, shown))
            spare += per_item - used - frame
            cuts += cut
        return entries, cuts

    def _per_item(self, input: str, items: int, share: float) -> int:
        task, count = self.task, self.counter.count
        room = self.max_length - min(count(input), int(share * self.max_length))
        fixed = count(task.fixed_text) if task.fixed_text else 0
        joiners = 2 * (items - 1)
        return (room - task.separator_tokens - joiners - fixed) // items

    def _cut(self, body: str, limit: int) -> tuple[str, int, bool]:
        """The body within `limit` tokens, its token count, and whether it was cut."""
        whole = self.counter.count(body)
        if limit == 0 and self.official:  # to the official code's tokenizer, 0 means no limit
            return body, whole, False
        if limit < 1:
            raise DoesNotFit
        shown, used = self.counter.truncate(body, limit)
        return shown, used, used < whole

    def _instruction_survives(self, prompt: str, input: str) -> bool:
        """Whether the tokenizer's cut of `prompt` to `max_length` leaves the instruction whole."""
        end = self.task.instruction_end(prompt, input)
        return self.counter.count(prompt[:end]) <= self.max_length


def input_shares() -> Iterator[float]:
    """0.6, 0.5, … 0, in the floating-point steps of the official code."""
    share = INPUT_SHARE
    while share >= 0:
        yield share
        share -= 0.1
