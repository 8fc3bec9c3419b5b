"""The bound of routing: the candidate that did best, by the golds themselves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from lamp_exp.artefacts import Router
from lamp_exp.contracts import Task
from lamp_exp.values import Choice, RoutedQuestion


class Oracle(Router):
    """Takes the candidate whose answer has the highest reward; of equal ones, the first.

    It reads the golds of the questions that it chooses for: what it reaches is a bound.
    """

    is_bound = True

    def __init__(self, candidates: Mapping[str, Mapping[str, Any] | None]) -> None:
        self.candidates = candidates

    def choose(
        self, task: Task, candidates: Sequence[str], questions: Sequence[RoutedQuestion]
    ) -> list[Choice]:
        """Raises AssertionError for questions without rewards."""
        choices = []
        for one in questions:
            assert one.rewards is not None, "a bound reads rewards"
            choices.append(Choice(one.rewards.index(max(one.rewards))))
        return choices
