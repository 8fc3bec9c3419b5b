"""Fusion-in-Decoder: one passage per retrieved item, encoded separately, fused by the decoder.

Source: Izacard and Grave, arXiv 2007.01282, applied to profiles as in LaMP (section 3.2).
"""

from __future__ import annotations

from collections.abc import Sequence

from lamp_exp.augmentations.ipa import InPromptAugmentation
from lamp_exp.contracts import Augmentation, Task, TokenCounter
from lamp_exp.values import Example, Hit, Prompt


class FusionInDecoder(Augmentation):
    """Each passage is the prompt that In-Prompt Augmentation makes with one item."""

    multiple_passages = True

    def __init__(self, official: bool = False) -> None:
        """`official` is that of InPromptAugmentation."""
        self._ipa = InPromptAugmentation(official)

    def __call__(
        self,
        task: Task,
        example: Example,
        hits: Sequence[Hit],
        counter: TokenCounter,
        max_length: int,
        summary: str = "",
    ) -> Prompt:
        """One passage per hit that fits; if none does, the input as the only passage.

        The summary is in each.
        """
        room = (counter, max_length, summary)
        prompts = [self._ipa(task, example, [hit], *room) for hit in hits]
        fitting = [prompt for prompt in prompts if prompt.items]
        shown = fitting or [self._ipa(task, example, [], *room)]
        return Prompt(
            id=example.id,
            passages=tuple(prompt.passages[0] for prompt in shown),
            items=tuple(hit for prompt in shown for hit in prompt.items),
            lost_items=len(prompts) - len(fitting),
            cut_texts=sum(prompt.cut_texts for prompt in shown),
            cut_passages=sum(prompt.cut_passages for prompt in shown),
            tokens=sum(prompt.tokens for prompt in shown),
            summary_tokens=sum(prompt.summary_tokens for prompt in shown),
            summary_cut=any(prompt.summary_cut for prompt in shown),
            summary_lost=any(prompt.summary_lost for prompt in shown),
        )
