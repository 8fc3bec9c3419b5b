"""What the tasks of LaMP have in common.

Wording, entries and joins are the benchmark's, checked byte for byte against its own output.
"""

from __future__ import annotations

import re
from abc import abstractmethod
from collections.abc import Sequence

from lamp_exp import metrics
from lamp_exp.contracts import Metric, Task, TokenCounter
from lamp_exp.values import ProfileItem, SampleText, Scores


class LampTask(Task):
    """An input is an instruction and then the text it is about; entries stand before it."""

    instruction: str

    @abstractmethod
    def count_invalid(self, outputs: Sequence[str]) -> int:
        """The number of outputs that are no answer to this task."""

    def score_notes(self, targets: Sequence[str]) -> dict[str, int]:
        """Counts of targets that the metrics cannot judge."""
        return {}

    def score(self, outputs: Sequence[str], targets: Sequence[str]) -> Scores:
        """All metrics of the task."""
        invalid = self.count_invalid(outputs)
        return metrics.score(self.metrics, outputs, targets, invalid, self.score_notes(targets))

    def follows_template(self, input: str) -> bool:
        """Whether the input opens with the task's instruction."""
        return input.startswith(self.instruction)

    def with_template(self, input: str) -> str:
        """The instruction, put before an input that lacks it."""
        return input if self.follows_template(input) else f"{self.instruction} {input}"

    def query(self, input: str) -> str:
        """The text after the instruction; the whole input where it is worded otherwise."""
        return input.removeprefix(self.instruction).strip()

    def query_source_text(self, input: str) -> str:
        """The text that is asked about."""
        return self.query(input)

    def item_source_text(self, item: ProfileItem) -> str:
        """The item's text."""
        return self.body(item)

    def item_target_text(self, item: ProfileItem) -> str | None:
        """None: that a profile holds the right label is no leak."""
        return None

    def overhead_tokens(self, item: ProfileItem, counter: TokenCounter) -> int:
        """The tokens of an entry whose body is one space."""
        return counter.count(self.entry(item, " "))

    def join(self, input: str, entries: Sequence[str]) -> str:
        """`{entries}. {input}`, the entries joined by `, and `."""
        return f"{', and '.join(entries)}. {input}" if entries else input

    def instruction_end(self, prompt: str, input: str) -> int:
        """The input ends the prompt, and its instruction is what must survive a cut."""
        kept = len(self.instruction) if self.follows_template(input) else 0
        return len(prompt) - len(input) + kept


class ClassificationTask(LampTask):
    """A classification: the output is one of `labels`."""

    training_epochs = 10

    def is_valid_output(self, output: str) -> bool:
        """Whether it is one of the labels."""
        return output.strip() in self.labels

    def count_invalid(self, outputs: Sequence[str]) -> int:
        """Outputs that are no label."""
        return sum(not self.is_valid_output(output) for output in outputs)


class GenerationTask(LampTask):
    """A generation: the output is free text."""

    training_epochs = 20
    metrics = (metrics.Rouge("rouge_1", "rouge1"), metrics.Rouge("rouge_l", "rougeL"))

    def is_valid_output(self, output: str) -> bool:
        """Any text is valid."""
        return True

    def count_invalid(self, outputs: Sequence[str]) -> int:
        """Empty outputs."""
        return sum(not output.strip() for output in outputs)

    def score_notes(self, targets: Sequence[str]) -> dict[str, int]:
        """Targets that ROUGE cannot score."""
        count = metrics.references_without_scorable_token(targets)
        return {"references_without_scorable_token": count} if count else {}


class TitleTask(GenerationTask):
    """A title is asked for a text like those of the profile: LaMP-4 and LaMP-6."""

    fields = ("text", "title")

    def body(self, item: ProfileItem) -> str:
        """The text that bears the title."""
        return item.fields["text"]

    def item_target_text(self, item: ProfileItem) -> str | None:
        """The title."""
        return item.fields["title"]

    def entry(self, item: ProfileItem, body: str) -> str:
        """`"{title}" is the title for "{text}" `."""
        return f'"{item.fields["title"]}" is the title for "{body}" '

    def sample_item(self, text: SampleText) -> dict[str, str]:
        """A text under this author's kind of title."""
        return {"text": text.text, "title": text.title}

    def sample_question(self, text: SampleText) -> tuple[str, str]:
        """A text that wants such a title."""
        return f"{self.instruction} {text.text}", text.title


def classification_metrics(labels: tuple[str, ...]) -> tuple[Metric, ...]:
    """Accuracy, and macro F1 over the fixed labels."""
    return (metrics.Accuracy(), metrics.MacroF1(labels))


def label_list(instruction: str) -> tuple[str, ...]:
    """The labels that an instruction names between square brackets."""
    found = re.search(r"\[(.*)\]", instruction)
    assert found, "an instruction with labels names them in brackets"
    return tuple(found[1].split(", "))
