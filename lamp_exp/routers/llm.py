"""A language model is asked which candidate will answer a question best."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any

from lamp_exp.artefacts import LanguageModel, Router, RouterSource
from lamp_exp.contracts import Model, Task
from lamp_exp.errors import InputError
from lamp_exp.values import Choice, Prompt, RoutedQuestion

SLOTS = ("{question}", "{candidates}")
NAME_CHARACTERS = r"[\w-]"  # beside which another character ends a name


class LanguageModelRouter(Router):
    """Shows a model the question and what each candidate is; the model names one.

    A reply that names no candidate, or several, is counted, and the fallback is taken: a candidate
    that the options name, or the one with the highest mean reward on the held-out users of train.
    """

    asks_a_model = True

    def __init__(
        self,
        candidates: Mapping[str, Mapping[str, Any] | None],
        instruction: str,
        descriptions: Mapping[str, str],
        fallback: str | None,
        folds: int,
        language_model: LanguageModel,
    ) -> None:
        """`instruction` has the slots {question} and {candidates}.

        `descriptions` say what the candidates are; one without is described by its options.
        """
        self.candidates = candidates
        self.instruction = instruction
        self.descriptions = descriptions
        self.fallback = fallback
        self.language_model = language_model
        self._folds = folds
        self.counts: Counter[str] = Counter()

    @property
    def components(self) -> Sequence[Model]:
        return [self.language_model.model]

    @property
    def learns(self) -> bool:
        return self.fallback is None

    @property
    def folds(self) -> int:
        return self._folds

    def validate(self, candidates: Sequence[str]) -> None:
        missing = [slot for slot in SLOTS if slot not in self.instruction]
        if missing:
            raise InputError(f"router.instruction lacks {' and '.join(missing)}")
        if self.fallback not in (None, *candidates):
            raise InputError(
                f"router.fallback={self.fallback} is none of the candidates {', '.join(candidates)}"
            )
        room = self._room(candidates)
        if room < 1:
            raise InputError(
                f"router.max_length={self.language_model.max_length} has no room for a question "
                "beside router.instruction: raise it"
            )
        self.language_model.validate()

    def load(self, source: RouterSource, made: Sequence[Any]) -> None:
        """Finds the fallback: best on held-out users; of equal ones, the first."""
        held_out = [one.rewards for one in source.questions if one.held_out and one.rewards]
        means = [fmean(rewards) for rewards in zip(*held_out, strict=True)]
        self.fallback = source.candidates[means.index(max(means))]

    def choose(
        self, task: Task, candidates: Sequence[str], questions: Sequence[RoutedQuestion]
    ) -> list[Choice]:
        assert self.fallback is not None, "`load` is called before any choice"
        prompts = [self._prompt(candidates, one) for one in questions]
        replies = self.language_model.answer(prompts)
        named = [named_candidate(reply.output, candidates) for reply in replies]
        fallback = list(candidates).index(self.fallback)
        return [Choice(fallback, by_rule=False) if n is None else Choice(n) for n in named]

    def facts(self) -> dict[str, Any]:
        return {
            "fallback": self.fallback,
            "model": dict(self.language_model.model.facts()),
            **self.counts,
        }

    def _prompt(self, candidates: Sequence[str], question: RoutedQuestion) -> Prompt:
        """The instruction with the question, which is cut so that the rest fits."""
        counter, room = self.language_model.model.token_counter, self._room(candidates)
        text = question.input
        if counter.count(text) > room:
            text, _ = counter.truncate(text, room)
            self.counts["questions_cut"] += 1
        filled = self._filled(candidates, text)
        return Prompt(question.id, (filled,), tokens=counter.count(filled))

    def _room(self, candidates: Sequence[str]) -> int:
        """The tokens that are left for a question."""
        counter = self.language_model.model.token_counter
        return self.language_model.max_length - counter.count(self._filled(candidates, ""))

    def _filled(self, candidates: Sequence[str], question: str) -> str:
        """The instruction with its slots filled; braces of the question stay as they are."""
        lines = "\n".join(f"- {name}: {self._description(name)}" for name in candidates)
        parts = re.split(r"(\{question\}|\{candidates\})", self.instruction)
        values = dict(zip(SLOTS, (question, lines), strict=True))
        return "".join(values.get(part, part) for part in parts).strip()

    def _description(self, name: str) -> str:
        options = self.candidates.get(name) or {}
        given = ", ".join(f"{key}={value}" for key, value in options.items())
        return self.descriptions.get(name) or given or "the usual options"


def named_candidate(reply: str, candidates: Sequence[str]) -> int | None:
    """The number of the one candidate that a reply names; None if it names none or several."""
    text = reply.casefold()
    found = [
        number
        for number, name in enumerate(candidates)
        if re.search(
            rf"(?<!{NAME_CHARACTERS}){re.escape(name.casefold())}(?!{NAME_CHARACTERS})", text
        )
    ]
    return found[0] if len(found) == 1 else None
