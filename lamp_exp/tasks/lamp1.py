"""LaMP-1: which of two papers does this author cite?"""

from __future__ import annotations

import re
from collections.abc import Sequence

from lamp_exp.contracts import TokenCounter
from lamp_exp.tasks.base import ClassificationTask, classification_metrics
from lamp_exp.values import ProfileItem, SampleText

_INPUT = re.compile(
    r"For an author who has written the paper with the title \"(?P<own>.*)\", "
    r"which reference is related\? Just answer with \[1\] or \[2\] without explanation\. "
    r"\[1\]: \"(?P<first>.*)\" \[2\]: \"(?P<second>.*)\"\s*",
    re.DOTALL,
)
_QUESTION_END = "without explanation."


class Lamp1(ClassificationTask):
    """Citation identification; entries are inserted after the input's first word `title`."""

    name = "LaMP_1"
    folders = ("LaMP_1",)
    download = "required"
    fields = ("title", "abstract")
    labels = ("[1]", "[2]")
    metrics = classification_metrics(labels)
    separator_tokens = 0  # no full stop follows the entries here
    document_fields = ("title", "abstract")
    body_field = "title"
    writing_noun = "paper titles"
    entry_template = '"{body}"'

    def follows_template(self, input: str) -> bool:
        """Whether the whole input follows the template."""
        return _INPUT.fullmatch(input) is not None

    def with_template(self, input: str) -> str:
        """The input unchanged: without the template, its three titles cannot be told apart."""
        return input

    def query(self, input: str) -> str:
        """The two candidate titles, but not the author's own.

        Titles may contain quotes, where the official code's search for quotes goes wrong.
        """
        match = _INPUT.fullmatch(input)
        return f"{match['first']} {match['second']}" if match else input

    def query_source_text(self, input: str) -> str:
        """The title of the author's own paper."""
        match = _INPUT.fullmatch(input)
        return match["own"] if match else ""

    def overhead_tokens(self, item: ProfileItem, counter: TokenCounter) -> int:
        """Two, for the quotes."""
        return 2

    def join(self, input: str, entries: Sequence[str]) -> str:
        """The input with `, and {entries}` after its first word `title`."""
        if not entries:
            return input
        head, word, rest = input.partition("title")
        return f"{head}{word}, and {', and '.join(entries)}{rest}"

    def instruction_end(self, prompt: str, input: str) -> int:
        """The end of the question, which stands after the author's own title."""
        start = input.find(_QUESTION_END)
        end = start + len(_QUESTION_END) if start >= 0 else 0
        return len(prompt) - len(input) + end

    def item_pair(self, item: ProfileItem, seed: int) -> tuple[str, str] | None:
        """Asks for the abstract of the item's title: a profile holds no citations.

        As in arXiv 2409.09510, in other words.
        """
        title, abstract = item.fields["title"], item.fields["abstract"]
        input = f'Write an abstract for the paper with the title "{title}"'
        return (input, abstract) if abstract.strip() else None

    def sample_item(self, text: SampleText) -> dict[str, str]:
        return {"title": text.title, "abstract": text.text}

    def sample_question(self, text: SampleText) -> tuple[str, str]:
        """A paper, with a related and an unrelated one in either order."""
        pair = [text.related, text.unrelated]
        first, second = reversed(pair) if text.swapped else pair
        input = (
            f'For an author who has written the paper with the title "{text.title}", which '
            "reference is related? Just answer with [1] or [2] without explanation. "
            f'[1]: "{first}" [2]: "{second}"'
        )
        return input, "[2]" if text.swapped else "[1]"
