"""LaMP-7: a tweet in this user's own words."""

from __future__ import annotations

from collections.abc import Sequence

from lamp_exp.contracts import TokenCounter
from lamp_exp.tasks.base import GenerationTask
from lamp_exp.values import ProfileItem, SampleText


class Lamp7(GenerationTask):
    """Personalised tweet paraphrasing."""

    name = "LaMP_7"
    folders = ("LaMP_7",)
    fields = ("text",)
    instruction = "Paraphrase the following tweet without any explanation before or after it:"
    # The official code sets aside these words, but writes others into the prompt.
    fixed_text = "are written by user. Following the given patterns"

    def document(self, item: ProfileItem) -> str:
        """The tweet."""
        return item.fields["text"]

    def body(self, item: ProfileItem) -> str:
        """The tweet."""
        return item.fields["text"]

    def item_target_text(self, item: ProfileItem) -> str | None:
        """The tweet."""
        return item.fields["text"]

    def entry(self, item: ProfileItem, body: str) -> str:
        """The quoted tweet."""
        return f'"{body}" '

    def overhead_tokens(self, item: ProfileItem, counter: TokenCounter) -> int:
        """Counted without a body at all, as the official code does."""
        return counter.count('"" ')

    def join(self, input: str, entries: Sequence[str]) -> str:
        """`{entries} are written by a person. Following the given patterns {input}`."""
        if not entries:
            return input
        written = ", and ".join(entries)
        return f"{written} are written by a person. Following the given patterns {input}"

    def sample_item(self, text: SampleText) -> dict[str, str]:
        """A tweet in this user's style."""
        return {"text": text.restyled}

    def sample_question(self, text: SampleText) -> tuple[str, str]:
        """A plain tweet, to be put into that style."""
        return f"{self.instruction} {text.text}", text.restyled
