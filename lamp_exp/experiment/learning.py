"""Makes what the components of an experiment have to learn before it can run, and loads it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from lamp_exp.artefacts import Artefact, FitSource, KeyedArtefact, LearnedRetriever, Made
from lamp_exp.contracts import Component, Retriever
from lamp_exp.data import Part
from lamp_exp.data.view import is_held_out
from lamp_exp.errors import InputError
from lamp_exp.experiment.adapting import AskedProfiles
from lamp_exp.experiment.code_fingerprint import code_fingerprint
from lamp_exp.experiment.experiment import Configuration, Experiment, Reader
from lamp_exp.experiment.feedback import METRIC, Feedback, validate_reader
from lamp_exp.experiment.identity import deciding_options
from lamp_exp.experiment.parts import Parts
from lamp_exp.experiment.queries import queries
from lamp_exp.experiment.ranking import QUESTIONS_AT_ONCE, PartRanking
from lamp_exp.experiment.summaries import Summaries, written_summaries
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
        cache = RankingCache(self.experiment.data.cache_dir / "rankings")
        where = (self.experiment, self.configuration, cache, self.part)
        choice = self.configuration.choices["task"]
        return Feedback(self.reader, choice, part_ranking(*where, base, place))

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


def part_ranking(
    experiment: Experiment,
    configuration: Configuration,
    cache: RankingCache,
    part: Part,
    retriever: Retriever,
    place: str,
) -> PartRanking:
    """The ranking of a part by a retriever of the experiment, whose options are at `place`."""
    retrieval = experiment.retrieval
    return PartRanking(
        retriever,
        configuration.value(place),
        experiment.task,
        configuration.value("task"),
        part,
        cache,
        retrieval.document_dates,
        retrieval.processes,
    )


def artefacts_of(
    experiment: Experiment,
    configuration: Configuration,
    parts: Parts,
    profiles: AskedProfiles | None = None,
) -> dict[str, Sequence[Artefact]]:
    """What the component of each group needs before the experiment can run; nothing is made.

    `profiles` are those that an adapter learns from, if they are read already.
    """
    profiles = profiles or _asked_profiles(experiment, configuration, parts)
    adapter = experiment.adapter
    return {
        "summary": written_summaries(experiment, parts.prompted),
        "retriever": _retriever_artefacts(experiment, configuration, parts.with_rewards),
        "adapter": adapter.artefacts(profiles) if adapter and profiles else (),
    }


def _asked_profiles(
    experiment: Experiment, configuration: Configuration, parts: Parts
) -> AskedProfiles | None:
    """The profiles that an adapter learns from, those of the asked questions; None without one."""
    if experiment.adapter is None or "adapter" not in experiment.usage.others:
        return None
    return AskedProfiles(experiment, configuration, parts.asked.examples)


def _retriever_artefacts(
    experiment: Experiment, configuration: Configuration, part: Part
) -> Sequence[Artefact]:
    """`part` is the one whose golds are read: train to learn from, for a bound the asked part."""
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
    experiment: Experiment, configuration: Configuration, parts: Parts
) -> dict[str, Sequence[Made]]:
    """Makes what the components need, and loads it; by group, all that was needed, in order."""
    store, adapter = store_of(experiment), experiment.adapter
    profiles = _asked_profiles(experiment, configuration, parts)
    made: dict[str, Sequence[Made]] = {}
    own: dict[str, list[Made]] = {}  # without what these require
    for group, artefacts in artefacts_of(experiment, configuration, parts, profiles).items():
        if artefacts:
            made[group] = _make_all(store, [*_required(artefacts), *artefacts])
            by_path = {one.folder: one for one in made[group]}
            own[group] = [by_path[store.path(one)] for one in artefacts]
        if group == "summary":
            _load_summaries(artefacts, own.get(group, ()))
    retriever = experiment.retrieval.retriever
    if isinstance(retriever, LearnedRetriever) and "retriever" in own:
        retriever.load(own["retriever"])
    if adapter is not None and profiles is not None:
        adapter.load(own.get("adapter", ()), profiles)
        profiles.model.use_adapter(adapter)
    return made


def _make_all(store: ArtefactStore, artefacts: Sequence[Artefact]) -> list[Made]:
    """Makes what is missing, each once, and adds the facts of units to the others."""
    needed = {store.path(one): one for one in artefacts}
    made = {path: (artefact, store.make(artefact)) for path, artefact in needed.items()}
    return [
        replace(one, facts={**_unit_facts(artefact, one.folder), **one.facts})
        for artefact, one in made.values()
    ]


def _unit_facts(artefact: Artefact, folder: Path) -> Mapping[str, Any]:
    return artefact.unit_facts(folder) if isinstance(artefact, KeyedArtefact) else {}


def _load_summaries(artefacts: Sequence[Artefact], made: Sequence[Made]) -> None:
    for artefact, one in zip(artefacts, made, strict=True):
        assert isinstance(artefact, Summaries)
        artefact.load(one.folder)


def needed_artefacts(
    experiment: Experiment, configuration: Configuration, parts: Parts
) -> list[tuple[Artefact, str]]:
    """All that has to be made for the experiment, in order, each with its state.

    The state is `there`, `to make`, or `unknown` where an encoder that decides it cannot be loaded
    here.
    """
    store, found = store_of(experiment), []
    for artefacts in artefacts_of(experiment, configuration, parts).values():
        for artefact in [*_required(artefacts), *artefacts]:
            try:
                state = "to make" if store.find(artefact) is None else "there"
            except InputError:  # a real run names it, before any long work
                state = "unknown"
            found.append((artefact, state))
    return found


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
    if experiment.mode == FEEDBACK and not experiment.usage.retrieves:
        raise InputError("mode=feedback rewards items, and this retriever ranks none: use another")
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


def learned_facts(made: Mapping[str, Sequence[Made]]) -> list[dict[str, Any]]:
    """What was learned, for the record: group, kind, artefact, facts; whether it was made now."""
    return [
        {
            "group": group,
            "kind": one.kind,
            "artefact": one.folder.name,
            "made_now": not one.was_there,
            **one.facts,
        }
        for group, artefacts in made.items()
        for one in artefacts
    ]
