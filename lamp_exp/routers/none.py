"""No routing: an ordinary run."""

from collections.abc import Mapping, Sequence
from typing import Any

from lamp_exp.artefacts import Router
from lamp_exp.contracts import Task
from lamp_exp.values import Choice, RoutedQuestion


class NoRouter(Router):
    """Takes the first candidate for every question; a run with it has no candidates at all."""

    routes = False

    def __init__(self, candidates: Mapping[str, Any] | None = None) -> None:
        self.candidates = candidates

    def choose(
        self, task: Task, candidates: Sequence[str], questions: Sequence[RoutedQuestion]
    ) -> list[Choice]:
        return [Choice(0) for _ in questions]
