"""What the tasks of LaMP have in common.

Templates are the benchmark's, tested byte for byte against the prompts of its own code.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from lamp_exp import metrics
from lamp_exp.contracts import Metric, Task, TokenCounter
from lamp_exp.values import ProfileItem, SampleText, Scores


class LampTask(Task):
    """A task whose input is an instruction followed by a text, and whose entries stand before it.

    Templates name an item's fields in braces, and `{body}` for the (shortened) text of the field
    `body_field`. `counted_entry` stands in for `entry_template` where the official code counts the
    tokens around a body. `target_field` is the field of the kind that is asked for; None where
    finding the target in a profile is no leak, as with labels. `label_field` holds the user's label
    of an item, `writing_field` what the user wrote; by default `target_field`, or the body.
    """

    instruction: str
    document_fields: tuple[str, ...]
    body_field: str
    target_field: str | None = None
    label_field: str | None = None
    writing_field: str | None = None
    entry_template: str
    counted_entry: str | None = None
    prompt_template = "{entries}. {input}"

    def follows_template(self, input: str) -> bool:
        """Whether the input starts with the instruction."""
        return input.startswith(self.instruction)

    def with_template(self, input: str) -> str:
        """The input, after the instruction if that is missing."""
        return input if self.follows_template(input) else f"{self.instruction} {input}"

    def query(self, input: str) -> str:
        """The text after the instruction; the whole input if it has another one."""
        return input.removeprefix(self.instruction).strip()

    def query_source_text(self, input: str) -> str:
        """The same as the query."""
        return self.query(input)

    def item_source_text(self, item: ProfileItem) -> str:
        """The item's body."""
        return self.body(item)

    def item_target_text(self, item: ProfileItem) -> str | None:
        """The text of `target_field`."""
        return None if self.target_field is None else item.fields[self.target_field]

    def item_label(self, item: ProfileItem) -> str | None:
        """The text of `label_field`."""
        return None if self.label_field is None else item.fields[self.label_field]

    def item_writing(self, item: ProfileItem) -> str:
        """The text of `writing_field`, of `target_field`, or of `body_field`."""
        return item.fields[self.writing_field or self.target_field or self.body_field]

    def document(self, item: ProfileItem) -> str:
        """The texts of `document_fields`, joined by spaces."""
        return " ".join([item.fields[name] for name in self.document_fields])

    def body(self, item: ProfileItem) -> str:
        return item.fields[self.body_field]

    def entry(self, item: ProfileItem, body: str) -> str:
        """The item in the words of `entry_template`."""
        return self.entry_template.format_map({**item.fields, "body": body})

    def overhead_tokens(self, item: ProfileItem, counter: TokenCounter) -> int:
        """The tokens of `counted_entry`, or of the entry, with a space as its body."""
        template = self.counted_entry or self.entry_template
        return counter.count(template.format_map({**item.fields, "body": " "}))

    def join(self, input: str, entries: Sequence[str]) -> str:
        """Entries, joined by `, and `, and the input in the words of `prompt_template`."""
        if not entries:
            return input
        return self.prompt_template.format(entries=", and ".join(entries), input=input)

    def instruction_end(self, prompt: str, input: str) -> int:
        """The end of the instruction in the input, which ends the prompt."""
        end = len(self.instruction) if self.follows_template(input) else 0
        return len(prompt) - len(input) + end

    def item_pair(self, item: ProfileItem, seed: int) -> tuple[str, str] | None:
        """The question about the item, as the benchmark asks it, and the item's own answer.

        As in arXiv 2409.09510; the item's text is left as it is, with its white space.
        """
        field = self.label_field or self.target_field
        assert field, "an item answers the question"
        target = item.fields[field]
        return (f"{self.instruction} {self.body(item)}", target) if target.strip() else None

    def score_notes(self, targets: Sequence[str]) -> dict[str, int]:
        """Counts of targets that the metrics cannot judge."""
        return {}

    def score(self, outputs: Sequence[str], targets: Sequence[str]) -> Scores:
        notes = self.output_counts(outputs)
        invalid = notes.pop("outputs_unreadable")
        notes |= self.score_notes(targets)
        return metrics.score(self.metrics, outputs, targets, invalid, notes)

    def sample_target(self, text: SampleText) -> str:
        """The target of a question about `text` in the made-up sample."""
        return self.labels[text.choice % len(self.labels)] if self.labels else text.title

    def sample_question(self, text: SampleText) -> tuple[str, str]:
        """The instruction and the text, and its target."""
        return f"{self.instruction} {text.text}", self.sample_target(text)


class ClassificationTask(LampTask):
    """A task whose outputs are labels."""

    training_epochs = 10

    def is_valid_output(self, output: str) -> bool:
        """Whether the output is a label."""
        return output.strip() in self.labels


class GenerationTask(LampTask):
    """A task whose outputs are free text."""

    training_epochs = 20
    metrics = (metrics.Rouge("rouge_1", "rouge1"), metrics.Rouge("rouge_l", "rougeL"))

    def is_valid_output(self, output: str) -> bool:
        """True: any text may be a target, the empty one included."""
        return True

    def output_counts(self, outputs: Sequence[str]) -> dict[str, int]:
        return {"outputs_unreadable": sum(not output.strip() for output in outputs)}

    def score_notes(self, targets: Sequence[str]) -> dict[str, int]:
        """Targets that ROUGE cannot score."""
        count = metrics.references_without_scorable_token(targets)
        return {"references_without_scorable_token": count} if count else {}


class TitleTask(GenerationTask):
    """A task that asks for the title of a text, from texts with titles: LaMP-4 and LaMP-6."""

    fields = ("text", "title")
    body_field = "text"
    target_field = "title"
    entry_template = '"{title}" is the title for "{body}" '

    def sample_item(self, text: SampleText) -> dict[str, str]:
        """A text with its title."""
        return {"text": text.text, "title": text.title}


def classification_metrics(labels: tuple[str, ...]) -> tuple[Metric, ...]:
    """Accuracy, and macro F1 over the fixed labels."""
    return (metrics.Accuracy(), metrics.MacroF1(labels))


def label_list(instruction: str) -> tuple[str, ...]:
    """The labels that an instruction lists in square brackets."""
    match = re.search(r"\[(.*)\]", instruction)
    assert match, "the instruction lists its labels in brackets"
    return tuple(match[1].split(", "))
