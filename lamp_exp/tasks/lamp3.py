"""LaMP-3: how many stars does this user give with such a review?"""

from __future__ import annotations

from collections.abc import Sequence

from lamp_exp import metrics
from lamp_exp.tasks.base import LampTask
from lamp_exp.values import SampleText


class Lamp3(LampTask):
    """Personalised product rating, 1 to 5."""

    name = "LaMP_3"
    folders = ("LaMP_3",)
    download = "required"
    fields = ("text", "score")
    metrics = (metrics.MeanAbsoluteError(), metrics.RootMeanSquareError())
    labels = ("1", "2", "3", "4", "5")
    training_epochs = 10
    instruction = (
        "What is the score of the following review on a scale of 1 to 5? just answer with 1, 2, "
        "3, 4, or 5 without further explanation. review:"
    )
    document_fields = ("text",)
    body_field = "text"
    answer_field = "score"
    entry_template = '{score} is the score for "{body}" '

    def is_valid_output(self, output: str) -> bool:
        """Whether the output is a number of the scale."""
        number = metrics.read_number(output)
        return number is not None and metrics.LOWEST_RATING <= number <= metrics.HIGHEST_RATING

    def output_counts(self, outputs: Sequence[str]) -> dict[str, int]:
        """Outputs that are no number; numbers off the scale, which the metrics take as they are."""
        unreadable = sum(metrics.read_number(output) is None for output in outputs)
        invalid = sum(not self.is_valid_output(output) for output in outputs)
        return {"outputs_unreadable": unreadable, "outputs_out_of_range": invalid - unreadable}

    def rewards(self, outputs: Sequence[str], targets: Sequence[str]) -> list[float]:
        """1 - error / the worst possible error: 1 is right, 0 the other end of the scale.

        ROPG (arXiv 2404.05970). An output off the scale can have less than 0.
        """
        errors = self.score(outputs, targets).per_example[self.main_metric.column or ""]
        pairs = zip(errors, map(float, targets), strict=True)
        return [1 - error / metrics.largest_error(target) for error, target in pairs]

    def sample_item(self, text: SampleText) -> dict[str, str]:
        return {"text": text.text, "score": self.sample_target(text)}
