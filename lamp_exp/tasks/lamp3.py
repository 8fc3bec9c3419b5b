"""LaMP-3: how many stars would this user give with such a review?"""

from __future__ import annotations

from collections.abc import Sequence

from lamp_exp import metrics
from lamp_exp.tasks.base import LampTask
from lamp_exp.types import ProfileItem, Scores, Writing


class Lamp3(LampTask):
    """Personalised product rating, 1 to 5."""

    name = "LaMP_3"
    folders = ("LaMP_3",)
    fields = ("text", "score")
    monitor = ("mae", "min")
    labels = ("1", "2", "3", "4", "5")
    epochs = 10
    instruction = (
        "What is the score of the following review on a scale of 1 to 5? just answer with 1, 2, "
        "3, 4, or 5 without further explanation. review:"
    )

    def readable(self, target: str) -> bool:
        """Whether it is a number of the scale."""
        number = metrics.read_number(target)
        return number is not None and metrics.LOWEST <= number <= metrics.HIGHEST

    def document(self, item: ProfileItem) -> str:
        """The review."""
        return item.fields["text"]

    def body(self, item: ProfileItem) -> str:
        """The review."""
        return item.fields["text"]

    def entry(self, item: ProfileItem, body: str) -> str:
        """`{score} is the score for "{text}" `."""
        return f'{item.fields["score"]} is the score for "{body}" '

    def score(self, outputs: Sequence[str], targets: Sequence[str]) -> Scores:
        """MAE and RMSE."""
        return metrics.rating(outputs, targets)

    def made_item(self, writing: Writing) -> dict[str, str]:
        """A review with this user's stars for such products."""
        return {"text": writing.text, "score": self._stars(writing)}

    def made_question(self, writing: Writing) -> tuple[str, str]:
        """A review of such a product."""
        return f"{self.instruction} {writing.text}", self._stars(writing)

    def _stars(self, writing: Writing) -> str:
        return str(1 + writing.choice % int(metrics.HIGHEST))
