"""In-Prompt Augmentation: one prompt with all retrieved items."""

from __future__ import annotations

from collections.abc import Sequence

from lamp_exp.augmentations.budget import Budget, fit_summary
from lamp_exp.contracts import Augmentation, Task, TokenCounter
from lamp_exp.values import Example, Hit, Prompt


class InPromptAugmentation(Augmentation):
    """All items share the budget of one prompt (LaMP, section 3.2)."""

    def __init__(self, official: bool = False) -> None:
        """`official` repeats the official prompts even where they lose items or the instruction."""
        self.official = official

    def __call__(
        self,
        task: Task,
        example: Example,
        hits: Sequence[Hit],
        counter: TokenCounter,
        max_length: int,
        summary: str = "",
    ) -> Prompt:
        """One passage with the summary and as many of the best hits as fit."""
        by_id = {item.id: item for item in example.profile}
        items = [by_id[hit.id] for hit in hits]
        shown = fit_summary(task, counter, max_length, example.input, summary)
        budget = Budget(task, counter, max_length, self.official, shown)
        fitted = budget.fit(example.input, items)
        length = counter.count(fitted.text)
        return Prompt(
            id=example.id,
            passages=(fitted.text,),
            items=tuple(hits[: fitted.items]),
            lost_items=len(hits) - fitted.items,
            cut_texts=fitted.cut_texts,
            cut_passages=int(length > max_length),
            tokens=min(length, max_length),
            summary_tokens=budget.summary_tokens(example.input),
            summary_cut=bool(shown) and shown != summary,
            summary_lost=bool(summary) and not shown,
        )
