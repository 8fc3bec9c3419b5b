"""LaMP-3: how many stars would this user give with such a review?"""

from __future__ import annotations

from collections.abc import Sequence

from lamp_exp import metrics
from lamp_exp.tasks.base import LampTask
from lamp_exp.values import ProfileItem, SampleText


class Lamp3(LampTask):
    """Personalised product rating, 1 to 5."""

    name = "LaMP_3"
    folders = ("LaMP_3",)
    fields = ("text", "score")
    metrics = (metrics.MeanAbsoluteError(), metrics.RootMeanSquareError())
    labels = ("1", "2", "3", "4", "5")
    training_epochs = 10
    instruction = (
        "What is the score of the following review on a scale of 1 to 5? just answer with 1, 2, "
        "3, 4, or 5 without further explanation. review:"
    )

    def is_valid_output(self, output: str) -> bool:
        """Whether it is a number of the scale."""
        number = metrics.read_number(output)
        return number is not None and metrics.LOWEST_RATING <= number <= metrics.HIGHEST_RATING

    def document(self, item: ProfileItem) -> str:
        """The review."""
        return item.fields["text"]

    def body(self, item: ProfileItem) -> str:
        """The review."""
        return item.fields["text"]

    def entry(self, item: ProfileItem, body: str) -> str:
        """`{score} is the score for "{text}" `."""
        return f'{item.fields["score"]} is the score for "{body}" '

    def count_invalid(self, outputs: Sequence[str]) -> int:
        """Outputs that are no number."""
        return sum(metrics.read_number(output) is None for output in outputs)

    def sample_item(self, text: SampleText) -> dict[str, str]:
        """A review with this user's stars for such products."""
        return {"text": text.text, "score": self._stars(text)}

    def sample_question(self, text: SampleText) -> tuple[str, str]:
        """A review of such a product."""
        return f"{self.instruction} {text.text}", self._stars(text)

    def _stars(self, text: SampleText) -> str:
        return str(1 + text.choice % int(metrics.HIGHEST_RATING))
