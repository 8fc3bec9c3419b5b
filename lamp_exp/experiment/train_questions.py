"""The questions of train that an adapter learns from, as the run's model reads them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from lamp_exp.artefacts import Artefact, TrainSource
from lamp_exp.contracts import Task
from lamp_exp.data import Part
from lamp_exp.data.view import is_held_out
from lamp_exp.experiment.adapting import Histories
from lamp_exp.experiment.code_fingerprint import code_fingerprint
from lamp_exp.experiment.experiment import Configuration, Experiment
from lamp_exp.experiment.identity import deciding_options
from lamp_exp.experiment.prompting import make_prompt
from lamp_exp.experiment.ranking import PartRanking
from lamp_exp.progress import progress
from lamp_exp.values import History, TrainQuestion


@dataclass(frozen=True)
class TrainQuestions(TrainSource):
    """The questions of `part` with golds, and the prompts that the experiment makes of them.

    `ranking` is that of the part; None where prompts show no items. `requires` are the artefacts
    of the retriever and of the summary.
    """

    experiment: Experiment
    configuration: Configuration
    part: Part
    ranking: PartRanking | None
    requires: Sequence[Artefact] = ()

    @property
    def task(self) -> Task:  # type: ignore[override]
        return self.experiment.task

    @property
    def identity(self) -> Mapping[str, Any]:  # type: ignore[override]
        reading = dict(self.part.reading)
        if not self.experiment.usage.reads_profile:
            reading.pop("profile")
        return {
            "data": self.part.fingerprint,
            "reading": reading,
            "prompts": self._prompt_options(),
            "requires": [dict(one.identity()) for one in self.requires],
            "code": code_fingerprint(*self._components()),
        }

    def _components(self) -> list[object]:
        parts = [self.experiment.summary, self.experiment.augmentation, self.task]
        return [TrainQuestions, *(part for part in parts if part is not None)]

    def _prompt_options(self) -> dict[str, Any]:
        """What decides the items and the summary that prompts show."""
        found: dict[str, Any] = {}
        if self.experiment.summary is not None:
            found["summary"] = self._chosen("summary")
        if self.ranking is not None:
            retrieval, learned = self.experiment.retrieval, self.ranking.retriever.learns
            found |= {"k": retrieval.k, "skip": retrieval.skip}
            # What has been learned is among `requires`; it need not have been made yet.
            found["ranking"] = self._chosen("retriever") if learned else self.ranking.key
        return found

    def _chosen(self, group: str) -> dict[str, Any]:
        configuration = self.configuration
        options = deciding_options(group, configuration.value(group))
        return {"choice": configuration.choices[group], **options}

    def questions(self) -> list[TrainQuestion]:
        examples, found = self.part.examples, []
        retrieval = self.experiment.retrieval
        shown = slice(retrieval.skip, retrieval.skip + retrieval.k)
        rankings = None if self.ranking is None else self.ranking.rankings()
        for row, example in enumerate(progress(examples, len(examples), "prompts of train")):
            hits = () if rankings is None else rankings.hits(row, example)[shown]
            prompt = make_prompt(self.experiment, example, hits)
            assert example.target is not None, "validate_learning refuses a part without golds"
            held_out = is_held_out(example.user)
            found.append(TrainQuestion(example.id, prompt, example.target, held_out))
        return found

    @cached_property
    def _histories(self) -> Histories:
        return Histories(self.task, self.part.examples)

    def history(self, question: str) -> History:
        return self._histories.of(question)
