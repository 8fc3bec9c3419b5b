"""LaMP-5: the title that this author would give a paper."""

from __future__ import annotations

from collections.abc import Sequence

from lamp_exp.tasks.base import Written
from lamp_exp.types import ProfileItem, Tokens, Writing


class Lamp5(Written):
    """Personalised scholarly titles."""

    name = "LaMP_5"
    folders = ("LaMP_5",)
    fields = ("title", "abstract")
    instruction = "Generate a title for the following abstract of a paper:"
    fixed_words = "Following the given patterns"

    def document(self, item: ProfileItem) -> str:
        """`{title} {abstract}`."""
        return f"{item.fields['title']} {item.fields['abstract']}"

    def body(self, item: ProfileItem) -> str:
        """The abstract."""
        return item.fields["abstract"]

    def answer_text(self, item: ProfileItem) -> str | None:
        """The title."""
        return item.fields["title"]

    def entry(self, item: ProfileItem, body: str) -> str:
        """`"{title}" is a title for "{abstract}" `."""
        return f'"{item.fields["title"]}" is a title for "{body}" '

    def frame_tokens(self, item: ProfileItem, tokens: Tokens) -> int:
        """Counted without the word `for`, as the official code does."""
        return tokens.count(f'"{item.fields["title"]}" is a title " " ')

    def join(self, input: str, entries: Sequence[str]) -> str:
        """`{entries}. Following the given patterns {input}`."""
        if not entries:
            return input
        return f"{', and '.join(entries)}. {self.fixed_words} {input}"

    def made_item(self, writing: Writing) -> dict[str, str]:
        """A paper under this author's kind of title."""
        return {"title": writing.title, "abstract": writing.text}

    def made_question(self, writing: Writing) -> tuple[str, str]:
        """An abstract that wants such a title."""
        return f"{self.instruction} {writing.text}", writing.title
