"""LaMP-1: which of two papers would this author cite?"""

from __future__ import annotations

import re
from collections.abc import Sequence

from lamp_exp.contracts import TokenCounter
from lamp_exp.tasks.base import ClassificationTask, classification_metrics
from lamp_exp.values import ProfileItem, SampleText

_WORDING = re.compile(
    r"For an author who has written the paper with the title \"(?P<own>.*)\", "
    r"which reference is related\? Just answer with \[1\] or \[2\] without explanation\. "
    r"\[1\]: \"(?P<first>.*)\" \[2\]: \"(?P<second>.*)\"\s*",
    re.DOTALL,
)
_ASKED = "without explanation."


class Lamp1(ClassificationTask):
    """Citation identification; entries are put into the input, after its first word `title`."""

    name = "LaMP_1"
    folders = ("LaMP_1",)
    fields = ("title", "abstract")
    labels = ("[1]", "[2]")
    metrics = classification_metrics(labels)
    separator_tokens = 0  # no stop follows the entries here

    def follows_template(self, input: str) -> bool:
        """Whether the whole input follows the wording."""
        return _WORDING.fullmatch(input) is not None

    def with_template(self, input: str) -> str:
        """As it is: three texts cannot be told apart without the wording."""
        return input

    def query(self, input: str) -> str:
        """The two candidate titles, but not the author's own.

        Titles may hold quotes; the official code's search for quotes then takes wrong parts.
        """
        found = _WORDING.fullmatch(input)
        return f"{found['first']} {found['second']}" if found else input

    def query_source_text(self, input: str) -> str:
        """The title of the author's own paper."""
        found = _WORDING.fullmatch(input)
        return found["own"] if found else ""

    def document(self, item: ProfileItem) -> str:
        """`{title} {abstract}`."""
        return f"{item.fields['title']} {item.fields['abstract']}"

    def body(self, item: ProfileItem) -> str:
        """The title."""
        return item.fields["title"]

    def entry(self, item: ProfileItem, body: str) -> str:
        """The quoted title."""
        return f'"{body}"'

    def overhead_tokens(self, item: ProfileItem, counter: TokenCounter) -> int:
        """Two quotes."""
        return 2

    def join(self, input: str, entries: Sequence[str]) -> str:
        """The input with `, and {entries}` right after its first word `title`."""
        if not entries:
            return input
        head, word, rest = input.partition("title")
        return f"{head}{word}, and {', and '.join(entries)}{rest}"

    def instruction_end(self, prompt: str, input: str) -> int:
        """The question must survive, which stands after the author's own title."""
        after = len(input) - input.find(_ASKED) - len(_ASKED) if _ASKED in input else len(input)
        return len(prompt) - after

    def sample_item(self, text: SampleText) -> dict[str, str]:
        """A paper."""
        return {"title": text.title, "abstract": text.text}

    def sample_question(self, text: SampleText) -> tuple[str, str]:
        """A new paper, and a related and an unrelated one, in either order."""
        pair = [text.related, text.unrelated]
        first, second = reversed(pair) if text.swapped else pair
        input = (
            f'For an author who has written the paper with the title "{text.title}", which '
            "reference is related? Just answer with [1] or [2] without explanation. "
            f'[1]: "{first}" [2]: "{second}"'
        )
        return input, "[2]" if text.swapped else "[1]"
