"""Fusion-in-Decoder: one passage per retrieved item, read apart and fused by the decoder.

Source: Izacard and Grave, arXiv 2007.01282, as LaMP (section 3.2) applies it to profiles.
"""

from __future__ import annotations

from collections.abc import Sequence

from lamp_exp.augmentations.ipa import InPromptAugmentation
from lamp_exp.contracts import Augmentation, Task, TokenCounter
from lamp_exp.values import Example, Hit, Prompt


class FusionInDecoder(Augmentation):
    """Each passage is the prompt that In-Prompt Augmentation makes of that item alone."""

    multiple_passages = True

    def __init__(self, official: bool = False) -> None:
        """`official` keeps the official code's output even where it loses the instruction."""
        self._alone = InPromptAugmentation(official)

    def __call__(
        self,
        task: Task,
        example: Example,
        hits: Sequence[Hit],
        counter: TokenCounter,
        max_length: int,
    ) -> Prompt:
        """One passage per hit that fits; without any, one passage of the bare input."""
        made = [self._alone(task, example, [hit], counter, max_length) for hit in hits]
        shown = [prompt for prompt in made if prompt.items]
        read = shown or [self._alone(task, example, [], counter, max_length)]
        return Prompt(
            id=example.id,
            passages=tuple(prompt.passages[0] for prompt in read),
            items=tuple(hit for prompt in shown for hit in prompt.items),
            lost_items=len(made) - len(shown),
            cut_texts=sum(prompt.cut_texts for prompt in shown),
            cut_passages=sum(prompt.cut_passages for prompt in read),
            tokens=sum(prompt.tokens for prompt in read),
        )
