"""In-Prompt Augmentation: one prompt that holds all retrieved items."""

from __future__ import annotations

from collections.abc import Sequence

from lamp_exp.augmentations.budget import Budget
from lamp_exp.contracts import Augmentation, Task, TokenCounter
from lamp_exp.values import Example, Hit, Prompt


class InPromptAugmentation(Augmentation):
    """All items share one prompt's budget (LaMP, section 3.2)."""

    multiple_passages = False

    def __init__(self, official: bool = False) -> None:
        """`official` keeps the official code's output even where it loses the instruction."""
        self.official = official

    def __call__(
        self,
        task: Task,
        example: Example,
        hits: Sequence[Hit],
        counter: TokenCounter,
        max_length: int,
    ) -> Prompt:
        """One passage with as many of the best hits as fit."""
        by_id = {item.id: item for item in example.profile}
        items = [by_id[hit.id] for hit in hits]
        fitted = Budget(task, counter, max_length, self.official).fit(example.input, items)
        length = counter.count(fitted.text)
        return Prompt(
            id=example.id,
            passages=(fitted.text,),
            items=tuple(hits[: fitted.kept]),
            lost_items=len(hits) - fitted.kept,
            cut_texts=fitted.cuts,
            cut_passages=int(length > max_length),
            tokens=min(length, max_length),
        )
