"""What the tasks of LaMP have in common.

Wording, entries and joins are the benchmark's, checked byte for byte against its own output.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from lamp_exp import metrics
from lamp_exp.types import ProfileItem, Scores, Tokens, Writing


class LampTask:
    """An input is an instruction and then the text it is about; entries stand before it."""

    name: str
    folders: tuple[str, ...]
    fields: tuple[str, ...]
    instruction: str
    monitor: tuple[str, str]
    epochs: int
    labels: tuple[str, ...] = ()
    separator_tokens: int = 1
    fixed_words: str = ""

    def well_worded(self, input: str) -> bool:
        """Whether the input opens with the task's instruction."""
        return input.startswith(self.instruction)

    def reworded(self, input: str) -> str:
        """The instruction, put before an input that lacks it."""
        return input if self.well_worded(input) else f"{self.instruction} {input}"

    def query(self, input: str) -> str:
        """The text after the instruction; the whole input where it is worded otherwise."""
        return input.removeprefix(self.instruction).strip()

    def body(self, item: ProfileItem) -> str:
        """The part of an item that may be shortened; each task has its own."""
        raise NotImplementedError

    def own_text(self, input: str) -> str:
        """The text that is asked about."""
        return self.query(input)

    def own_item_text(self, item: ProfileItem) -> str:
        """The item's text."""
        return self.body(item)

    def answer_text(self, item: ProfileItem) -> str | None:
        """None: that a profile holds the right label is no leak."""
        return None

    def entry(self, item: ProfileItem, body: str) -> str:
        """The words shown around an item's body; each task has its own."""
        raise NotImplementedError

    def frame_tokens(self, item: ProfileItem, tokens: Tokens) -> int:
        """The tokens of an entry whose body is one space."""
        return tokens.count(self.entry(item, " "))

    def join(self, input: str, entries: Sequence[str]) -> str:
        """`{entries}. {input}`, the entries joined by `, and `."""
        return f"{', and '.join(entries)}. {input}" if entries else input

    def instruction_end(self, prompt: str, input: str) -> int:
        """The input ends the prompt, and its instruction is what must survive a cut."""
        kept = len(self.instruction) if self.well_worded(input) else 0
        return len(prompt) - len(input) + kept


class Labelled(LampTask):
    """A classification: the answer is one of `labels`."""

    monitor = ("accuracy", "max")
    epochs = 10

    def readable(self, target: str) -> bool:
        """Whether it is one of the labels."""
        return target.strip() in self.labels

    def score(self, outputs: Sequence[str], targets: Sequence[str]) -> Scores:
        """Accuracy and macro F1 over the fixed labels."""
        return metrics.classification(outputs, targets, self.labels)


class Written(LampTask):
    """A generation: the answer is free text."""

    monitor = ("rouge_1", "max")
    epochs = 20

    def readable(self, target: str) -> bool:
        """Any text is."""
        return True

    def score(self, outputs: Sequence[str], targets: Sequence[str]) -> Scores:
        """ROUGE-1 and ROUGE-L."""
        return metrics.rouge(outputs, targets)


class Titled(Written):
    """A title is asked for a text like those of the profile: LaMP-4 and LaMP-6."""

    fields = ("text", "title")

    def body(self, item: ProfileItem) -> str:
        """The text that bears the title."""
        return item.fields["text"]

    def answer_text(self, item: ProfileItem) -> str | None:
        """The title."""
        return item.fields["title"]

    def entry(self, item: ProfileItem, body: str) -> str:
        """`"{title}" is the title for "{text}" `."""
        return f'"{item.fields["title"]}" is the title for "{body}" '

    def made_item(self, writing: Writing) -> dict[str, str]:
        """A text under this author's kind of title."""
        return {"text": writing.text, "title": writing.title}

    def made_question(self, writing: Writing) -> tuple[str, str]:
        """A text that wants such a title."""
        return f"{self.instruction} {writing.text}", writing.title


def label_list(instruction: str) -> tuple[str, ...]:
    """The labels that an instruction names between square brackets."""
    found = re.search(r"\[(.*)\]", instruction)
    assert found, "an instruction with labels names them in brackets"
    return tuple(found[1].split(", "))
