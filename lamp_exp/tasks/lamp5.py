"""LaMP-5: the title that this author would give a paper."""

from __future__ import annotations

from collections.abc import Sequence

from lamp_exp.contracts import TokenCounter
from lamp_exp.tasks.base import GenerationTask
from lamp_exp.values import ProfileItem, SampleText


class Lamp5(GenerationTask):
    """Personalised scholarly titles."""

    name = "LaMP_5"
    folders = ("LaMP_5",)
    fields = ("title", "abstract")
    instruction = "Generate a title for the following abstract of a paper:"
    fixed_text = "Following the given patterns"

    def document(self, item: ProfileItem) -> str:
        """`{title} {abstract}`."""
        return f"{item.fields['title']} {item.fields['abstract']}"

    def body(self, item: ProfileItem) -> str:
        """The abstract."""
        return item.fields["abstract"]

    def item_target_text(self, item: ProfileItem) -> str | None:
        """The title."""
        return item.fields["title"]

    def entry(self, item: ProfileItem, body: str) -> str:
        """`"{title}" is a title for "{abstract}" `."""
        return f'"{item.fields["title"]}" is a title for "{body}" '

    def overhead_tokens(self, item: ProfileItem, counter: TokenCounter) -> int:
        """Counted without the word `for`, as the official code does."""
        return counter.count(f'"{item.fields["title"]}" is a title " " ')

    def join(self, input: str, entries: Sequence[str]) -> str:
        """`{entries}. Following the given patterns {input}`."""
        if not entries:
            return input
        return f"{', and '.join(entries)}. {self.fixed_text} {input}"

    def sample_item(self, text: SampleText) -> dict[str, str]:
        """A paper under this author's kind of title."""
        return {"title": text.title, "abstract": text.text}

    def sample_question(self, text: SampleText) -> tuple[str, str]:
        """An abstract that wants such a title."""
        return f"{self.instruction} {text.text}", text.title
