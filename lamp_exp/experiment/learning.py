"""Makes what the components of an experiment have to learn before it can run, and loads it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from lamp_exp.artefacts import Artefact, FitSource, LearnedRetriever, Made
from lamp_exp.contracts import Component, Retriever
from lamp_exp.data import Part
from lamp_exp.data.view import is_held_out
from lamp_exp.errors import InputError
from lamp_exp.experiment.adapting import AskedProfiles
from lamp_exp.experiment.code_fingerprint import code_fingerprint
from lamp_exp.experiment.experiment import Configuration, Experiment, Reader
from lamp_exp.experiment.feedback import METRIC, Feedback, validate_reader
from lamp_exp.experiment.identity import deciding_options
from lamp_exp.experiment.queries import queries
from lamp_exp.experiment.ranking import QUESTIONS_AT_ONCE, rank_part, ranking_key
from lamp_exp.options import FEEDBACK
from lamp_exp.storage.artefacts import ArtefactStore
from lamp_exp.storage.feedback import read_feedback, rewards_by_question
from lamp_exp.storage.rankings import RankingCache
from lamp_exp.values import RewardedList


@dataclass(frozen=True)
class PartSource(FitSource):
    """The questions of one part, with their golds as feedback.

    The part is train, but for a bound, which reads the golds of the asked part.
    """

    experiment: Experiment
    configuration: Configuration
    part: Part
    reader: Reader

    @property
    def seed(self) -> int:  # type: ignore[override]
        return int(self.configuration.value("seed"))

    @property
    def options(self) -> Mapping[str, Any]:  # type: ignore[override]
        return deciding_options("retriever", self.configuration.value("retriever"))

    def code(self, component: Component) -> str:
        return code_fingerprint(component)

    def feedback(self, base: Retriever) -> Feedback:
        return self._feedback(base, "retriever.base")

    def own_feedback(self) -> Feedback:
        """The rewards of the items that the experiment's own retriever ranks best."""
        return self._feedback(self.experiment.retrieval.retriever, "retriever")

    def _feedback(self, base: Retriever, place: str) -> Feedback:
        retrieval, task = self.experiment.retrieval, self.experiment.task
        dates, options = retrieval.document_dates, self.configuration.value(place)
        task_options = self.configuration.value("task")
        key = ranking_key(task, task_options, base, options, dates, self.part)
        cache = RankingCache(self.experiment.data.cache_dir / "rankings")
        where = (self.part, cache, key, dates, retrieval.processes)
        return Feedback(self.reader, task, self.part, key, partial(rank_part, base, task, *where))

    def rewarded_lists(self, feedback: Path) -> list[RewardedList]:
        examples, rewards = self.part.examples, rewards_by_question(read_feedback(feedback))
        task, dates = self.experiment.task, self.experiment.retrieval.document_dates
        users, lists = examples.column("user"), []
        for start in range(0, len(examples), QUESTIONS_AT_ONCE):
            block = queries(task, examples, start, start + QUESTIONS_AT_ONCE, dates)
            for number, (query, documents) in enumerate(block, start):
                items = rewards.get(query.id, {})
                texts = dict(zip(documents.ids, documents.texts, strict=True))
                lists.append(
                    RewardedList(
                        query.id,
                        users[number],
                        query.text,
                        [texts[item] for item in items],
                        list(items.values()),
                        is_held_out(users[number]),
                    )
                )
        return lists


def artefacts_of(
    experiment: Experiment, configuration: Configuration, part: Part
) -> Sequence[Artefact]:
    """What the experiment's components need before it can run; nothing is made.

    `part` is the one whose golds are read: train to learn from, for a bound the asked part.
    """
    if not experiment.usage.reads:
        return ()
    assert experiment.reader, "an experiment with feedback has a reader"
    retriever, reader = experiment.retrieval.retriever, experiment.reader
    if experiment.mode == FEEDBACK:
        return [PartSource(experiment, configuration, part, reader).own_feedback()]
    assert isinstance(retriever, LearnedRetriever)
    if retriever.is_bound:  # by the metric that is reported
        reader = replace(reader, feedback=replace(reader.feedback, reward=METRIC, folds=1))
    return retriever.artefacts(PartSource(experiment, configuration, part, reader))


def learn(
    experiment: Experiment, configuration: Configuration, part: Part, asked: Part
) -> Sequence[Made]:
    """Makes what the components need, and loads it; returns all that was needed, in order.

    `part` is the one whose golds are read, see `artefacts_of`; `asked` the one that is answered,
    of which adapters read the profiles.
    """
    made = _learn_retriever(experiment, configuration, part)
    if experiment.adapter is None or "adapter" not in experiment.usage.others:
        return made
    source, store = AskedProfiles(experiment, configuration, asked.examples), store_of(experiment)
    artefacts = experiment.adapter.artefacts(source)
    there = [store.find(artefact) is not None for artefact in artefacts]
    adapters = [store.make(artefact) for artefact in artefacts]
    experiment.adapter.load(adapters, source)
    source.model.use_adapter(experiment.adapter)
    pairs = zip(adapters, there, strict=True)
    group = {"group": "adapter"}
    return [*made, *(replace(m, was_there=old, facts={**group, **m.facts}) for m, old in pairs)]


def _learn_retriever(
    experiment: Experiment, configuration: Configuration, part: Part
) -> Sequence[Made]:
    artefacts, store = artefacts_of(experiment, configuration, part), store_of(experiment)
    all_of_them = [*_required(artefacts), *artefacts]
    there = [store.find(artefact) is not None for artefact in all_of_them]
    made = [store.make(artefact) for artefact in all_of_them]
    retriever = experiment.retrieval.retriever
    if artefacts and isinstance(retriever, LearnedRetriever):
        retriever.load(made[-len(artefacts) :])
    return [replace(one, was_there=old) for one, old in zip(made, there, strict=True)]


def _required(artefacts: Iterable[Artefact]) -> Iterator[Artefact]:
    """All that artefacts require, what is required first."""
    for artefact in artefacts:
        inner = artefact.requires()
        yield from _required(inner)
        yield from inner


def store_of(experiment: Experiment) -> ArtefactStore:
    """The store of all artefacts that share the experiment's cache."""
    return ArtefactStore(experiment.data.cache_dir / "artefacts")


def validate_learning(experiment: Experiment, part: Part) -> None:
    """Raises InputError, before any long work, for what cannot learn from `part`."""
    if not experiment.usage.reads:
        return
    assert experiment.reader, "an experiment with feedback has a reader"
    retriever = experiment.retrieval.retriever
    if experiment.mode == FEEDBACK and retriever.learns:
        raise InputError(
            "mode=feedback rewards the items of a retriever that needs no feedback itself: use "
            "its base, such as retriever=contriever"
        )
    if retriever.is_bound and experiment.mode == "finetune":
        raise InputError(
            "this retriever reads the golds of the questions that it ranks for, which no model may "
            "learn from: use mode=zeroshot, with model.name=RUN/checkpoint for a fine-tuned model"
        )
    validate_reader(experiment.reader, part)
    if experiment.learns_from_train:
        users = set(part.examples.column("user"))
        held_out = sum(map(is_held_out, users))
        if not 0 < held_out < len(users):
            raise InputError(
                f"{part.source} has {len(users)} users, too few to hold out a tenth of them, on "
                "whom epochs are chosen: raise limit"
            )


def learned_facts(made: Iterable[Made]) -> list[dict[str, Any]]:
    """What was learned, for the record: kind, artefact, facts; `made_now` if it was not there."""
    return [
        {"kind": one.kind, "artefact": one.folder.name, "made_now": not one.was_there, **one.facts}
        for one in made
    ]
