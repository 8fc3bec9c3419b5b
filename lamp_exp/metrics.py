"""The official metrics of LaMP.

Source: the benchmark's evaluation code, except that ROUGE is a plain mean instead of a bootstrap
median, so that a score does not depend on chance.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

from lamp_exp.contracts import Metric
from lamp_exp.values import Scores

LOWEST_RATING, HIGHEST_RATING = 1.0, 5.0  # the scale of LaMP-3
LARGEST_NUMBER = 1e6  # a larger output is a model that repeats digits, not a rating
Columns = Mapping[str, Sequence[float]]


class MeanMetric(Metric):
    """A metric that is the mean of its scores per example."""

    def value(self, per_example: Columns, outputs: Sequence[str], targets: Sequence[str]) -> float:
        """The mean of `column`."""
        assert self.column, "the metric has scores per example"
        return mean(per_example[self.column])


class Accuracy(MeanMetric):
    """The share of outputs that equal their target; both are stripped."""

    name = column = "accuracy"
    higher_is_better = True
    binary = True
    highest = 1.0
    description = "the stripped output equals the gold"

    def per_example(self, outputs: Sequence[str], targets: Sequence[str]) -> list[float]:
        """1 where output and target are equal, else 0."""
        pairs = zip(outputs, targets, strict=True)
        return [float(output.strip() == target.strip()) for output, target in pairs]


class MacroF1(Metric):
    """The mean F1 over fixed labels; an unknown output counts as a wrong class of its own."""

    name = "f1"
    higher_is_better = True
    aggregate = "macro_f1"
    highest = 1.0
    description = "macro average over the task's fixed labels, an unknown label is a wrong class"

    def __init__(self, labels: tuple[str, ...]) -> None:
        self.labels = labels

    def per_example(self, outputs: Sequence[str], targets: Sequence[str]) -> None:
        """None: F1 has no value for a single example."""

    def value(self, per_example: Columns, outputs: Sequence[str], targets: Sequence[str]) -> float:
        """The unweighted mean of the labels' F1; a label that occurs nowhere counts as 0."""
        pairs = [(o.strip(), t.strip()) for o, t in zip(outputs, targets, strict=True)]
        return mean([_label_f1(label, pairs) for label in self.labels])


def _label_f1(label: str, pairs: Sequence[tuple[str, str]]) -> float:
    correct = sum(output == label == target for output, target in pairs)
    predicted = sum(output == label for output, _ in pairs)
    expected = sum(target == label for _, target in pairs)
    return 2 * correct / (predicted + expected) if predicted + expected else 0.0


class MeanAbsoluteError(MeanMetric):
    """MAE of ratings; an output that is no number counts as the end of the scale farther away."""

    name = column = "mae"
    higher_is_better = False
    description = (
        "mean absolute error, lower is better; an unreadable output counts as the end of the scale "
        "farther from the gold"
    )

    def per_example(self, outputs: Sequence[str], targets: Sequence[str]) -> list[float]:
        """The absolute error of each output."""
        return [_error(o, float(t)) for o, t in zip(outputs, targets, strict=True)]


class RootMeanSquareError(Metric):
    """RMSE of ratings, from the absolute errors of `MeanAbsoluteError`."""

    name = "rmse"
    column = "mae"
    aggregate = "root_mean_square"
    higher_is_better = False
    description = "root mean squared error by the same rule, lower is better"

    def per_example(self, outputs: Sequence[str], targets: Sequence[str]) -> None:
        """None: the errors are those of the MAE."""

    def value(self, per_example: Columns, outputs: Sequence[str], targets: Sequence[str]) -> float:
        """The root of the mean of the squared errors."""
        return math.sqrt(mean([error * error for error in per_example[self.column]]))


def _error(output: str, target: float) -> float:
    value = read_number(output)
    return largest_error(target) if value is None else abs(value - target)


def largest_error(target: float) -> float:
    """The error of the end of the scale that is farther from a rating."""
    return max(abs(end - target) for end in (LOWEST_RATING, HIGHEST_RATING))


def read_number(text: str) -> float | None:
    """`text` as a finite number of at most `LARGEST_NUMBER`, or None."""
    try:
        value = float(text)
    except ValueError:  # a model may write anything; the caller counts it
        return None
    return value if abs(value) <= LARGEST_NUMBER else None


class Rouge(MeanMetric):
    """ROUGE F-measure by rouge-score, without stemming; an empty output scores 0."""

    higher_is_better = True
    highest = 1.0
    description = "F measure by rouge-score without stemmer, plain mean"

    def __init__(self, name: str, kind: str) -> None:
        """`kind` is rouge-score's own name: `rouge1` or `rougeL`."""
        self.name = self.column = name
        self.kind = kind

    def load(self) -> None:
        _rouge_scorer(self.kind)

    def per_example(self, outputs: Sequence[str], targets: Sequence[str]) -> list[float]:
        """The F-measure of each output."""
        scorer = _rouge_scorer(self.kind)
        return [
            float(scorer.score(target.strip(), output.strip())[self.kind].fmeasure)
            for output, target in zip(outputs, targets, strict=True)
        ]


@lru_cache
def _rouge_scorer(kind: str) -> Any:
    from rouge_score.rouge_scorer import RougeScorer

    return RougeScorer([kind], use_stemmer=False)


def references_without_scorable_token(targets: Sequence[str]) -> int:
    """How many targets can only score 0: rouge-score knows ASCII letters and digits only."""
    return sum(not any(c.isascii() and c.isalnum() for c in target) for target in targets)


def score(
    metrics: Sequence[Metric],
    outputs: Sequence[str],
    targets: Sequence[str],
    invalid_outputs: int = 0,
    notes: Mapping[str, int] | None = None,
) -> Scores:
    """All `metrics` of `outputs` against `targets`, and the per-example columns they rest on."""
    columns: dict[str, Sequence[float]] = {}
    for metric in metrics:
        scores = metric.per_example(outputs, targets)
        if scores is not None:
            columns[metric.column or metric.name] = scores
    values = {metric.name: metric.value(columns, outputs, targets) for metric in metrics}
    return Scores(values, columns, invalid_outputs, dict(notes or {}))


def mean(values: Sequence[float]) -> float:
    """The plain mean; NaN of nothing, since nothing was measured."""
    return math.fsum(values) / len(values) if values else math.nan
