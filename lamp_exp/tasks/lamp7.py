"""LaMP-7: a tweet in this user's own words."""

from __future__ import annotations

from collections.abc import Sequence

from lamp_exp.tasks.base import Written
from lamp_exp.types import ProfileItem, Tokens, Writing


class Lamp7(Written):
    """Personalised tweet paraphrasing."""

    name = "LaMP_7"
    folders = ("LaMP_7",)
    fields = ("text",)
    instruction = "Paraphrase the following tweet without any explanation before or after it:"
    # The official code sets aside these words, but writes others into the prompt.
    fixed_words = "are written by user. Following the given patterns"

    def document(self, item: ProfileItem) -> str:
        """The tweet."""
        return item.fields["text"]

    def body(self, item: ProfileItem) -> str:
        """The tweet."""
        return item.fields["text"]

    def answer_text(self, item: ProfileItem) -> str | None:
        """The tweet."""
        return item.fields["text"]

    def entry(self, item: ProfileItem, body: str) -> str:
        """The quoted tweet."""
        return f'"{body}" '

    def frame_tokens(self, item: ProfileItem, tokens: Tokens) -> int:
        """Counted without a body at all, as the official code does."""
        return tokens.count('"" ')

    def join(self, input: str, entries: Sequence[str]) -> str:
        """`{entries} are written by a person. Following the given patterns {input}`."""
        if not entries:
            return input
        written = ", and ".join(entries)
        return f"{written} are written by a person. Following the given patterns {input}"

    def made_item(self, writing: Writing) -> dict[str, str]:
        """A tweet in this user's style."""
        return {"text": writing.restyled}

    def made_question(self, writing: Writing) -> tuple[str, str]:
        """A plain tweet, to be put into that style."""
        return f"{self.instruction} {writing.text}", writing.restyled
