"""The candidates vote: no learning, and no golds."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from statistics import fmean, median_low
from typing import Any

from lamp_exp.artefacts import Router
from lamp_exp.contracts import Task
from lamp_exp.metrics import Rouge, read_number
from lamp_exp.values import Choice, RoutedQuestion


class Vote(Router):
    """Takes the answer on which the candidates agree most.

    Labels: the most frequent valid one. Ratings, which are labels whose metric is an error: the
    lower median of those that are numbers. Texts: the one with the highest mean ROUGE-1 to the
    others. Of equal answers, the first candidate is taken. Where no answer is valid, or all texts
    are empty, the first candidate is the fallback.
    """

    def __init__(self, candidates: Mapping[str, Mapping[str, Any] | None]) -> None:
        self.candidates = candidates

    def choose(
        self, task: Task, candidates: Sequence[str], questions: Sequence[RoutedQuestion]
    ) -> list[Choice]:
        if not task.labels:
            return [_most_like_the_others(one.outputs) for one in questions]
        if task.main_metric.higher_is_better:
            return [_majority(task, one.outputs) for one in questions]
        return [_lower_median(one.outputs) for one in questions]


def _majority(task: Task, outputs: Sequence[str]) -> Choice:
    labels = [output.strip() if task.is_valid_output(output) else None for output in outputs]
    votes = Counter(label for label in labels if label is not None)
    if not votes:
        return Choice(0, by_rule=False)
    best = votes.most_common(1)[0][0]  # of equal ones, the first that was counted
    return Choice(labels.index(best))


def _lower_median(outputs: Sequence[str]) -> Choice:
    numbers = [read_number(output) for output in outputs]
    known = [number for number in numbers if number is not None]
    return Choice(numbers.index(median_low(known))) if known else Choice(0, by_rule=False)


def _most_like_the_others(outputs: Sequence[str]) -> Choice:
    if not any(output.strip() for output in outputs):
        return Choice(0, by_rule=False)
    if len(set(outputs)) == 1:
        return Choice(0)
    rouge = Rouge("rouge_1", "rouge1")
    likeness = []
    for number, output in enumerate(outputs):
        others = [*outputs[:number], *outputs[number + 1 :]]
        likeness.append(round(fmean(rouge.per_example([output] * len(others), others)), 12))
    return Choice(likeness.index(max(likeness)))
