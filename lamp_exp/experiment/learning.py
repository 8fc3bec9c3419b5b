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
from lamp_exp.experiment.train_questions import TrainQuestions
from lamp_exp.options import FEEDBACK
from lamp_exp.storage.artefacts import ArtefactStore
from lamp_exp.storage.feedback import read_feedback, rewards_by_question
from lamp_exp.storage.rankings import RankingCache
from lamp_exp.values import RewardedList
from lamp_exp.wording import count_of


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
    experiment: Experiment, configuration: Configuration, parts: Parts
) -> dict[str, Sequence[Artefact]]:
    """What the component of each group needs before the experiment can run; nothing is made."""
    needed = _for_prompts(experiment, configuration, parts)
    profiles = _asked_profiles(experiment, configuration, parts, needed)
    return {**needed, "adapter": _adapter_artefacts(experiment, profiles)}


def _for_prompts(
    experiment: Experiment, configuration: Configuration, parts: Parts
) -> dict[str, Sequence[Artefact]]:
    """What the components need that choose and show items."""
    return {
        "summary": written_summaries(experiment, prompted_parts(experiment, parts)),
        "retriever": _retriever_artefacts(experiment, configuration, parts.with_rewards),
    }


def _adapter_artefacts(
    experiment: Experiment, profiles: AskedProfiles | None
) -> Sequence[Artefact]:
    adapter = experiment.adapter
    return adapter.artefacts(profiles) if adapter and profiles else ()


def prompted_parts(experiment: Experiment, parts: Parts) -> list[Part]:
    """The parts whose questions become prompts: also those that an adapter learns from."""
    found = {id(part): part for part in parts.prompted}
    if "adapter" in experiment.learners and parts.learning is not None:
        found[id(parts.learning)] = parts.learning
    return list(found.values())


def _asked_profiles(
    experiment: Experiment,
    configuration: Configuration,
    parts: Parts,
    needed: Mapping[str, Sequence[Artefact]],
) -> AskedProfiles | None:
    """What an adapter may learn from; None without one. `needed` is what prompts need."""
    if experiment.adapter is None or "adapter" not in experiment.usage.others:
        return None
    train = None
    if "adapter" in experiment.learners:
        assert parts.learning, "an experiment with an adapter that learns from train reads it"
        required = [one for artefacts in needed.values() for one in artefacts]
        train = _train_questions(experiment, configuration, parts.learning, required)
    return AskedProfiles(experiment, configuration, parts.asked.examples, train)


def _train_questions(
    experiment: Experiment, configuration: Configuration, part: Part, required: Sequence[Artefact]
) -> TrainQuestions:
    ranking = None
    if experiment.usage.retrieves:
        cache = RankingCache(experiment.data.cache_dir / "rankings")
        where = (experiment, configuration, cache, part)
        ranking = part_ranking(*where, experiment.retrieval.retriever, "retriever")
    return TrainQuestions(experiment, configuration, part, ranking, required)


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
    needed = _for_prompts(experiment, configuration, parts)
    profiles = _asked_profiles(experiment, configuration, parts, needed)
    needed["adapter"] = _adapter_artefacts(experiment, profiles)
    made: dict[str, Sequence[Made]] = {}
    by_path: dict[Path, Made] = {}
    for group, artefacts in needed.items():
        own: list[Made] = []  # without what these require
        if artefacts:
            new = {m.folder: m for m in _make_all(store, [*_required(artefacts), *artefacts])}
            made[group] = [one for path, one in new.items() if path not in by_path]
            by_path |= new
            own = [by_path[store.path(one)] for one in artefacts]
        retriever = experiment.retrieval.retriever
        if group == "summary":
            _load_summaries(artefacts, own)
        elif group == "retriever" and isinstance(retriever, LearnedRetriever) and own:
            retriever.load(own)  # before an adapter learns from prompts with its items
        elif group == "adapter" and adapter is not None and profiles is not None:
            adapter.load(own, profiles)
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
    seen: set[Path] = set()
    for artefacts in artefacts_of(experiment, configuration, parts).values():
        for artefact in [*_required(artefacts), *artefacts]:
            try:
                if store.path(artefact) in seen:
                    continue
                seen.add(store.path(artefact))
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
    if experiment.usage.reads:
        _validate_feedback(experiment, part)
    if "adapter" in experiment.learners and not part.has_golds:
        raise InputError(
            f"this adapter learns from the golds of train, but {part.source} has no outputs file "
            "beside it: use another data_dir"
        )
    if experiment.learns_from_train:
        users = set(part.examples.column("user"))
        held_out = sum(map(is_held_out, users))
        if not 0 < held_out < len(users):
            raise InputError(
                f"{part.source} has {count_of(len(users), 'user')}, too few to hold out a tenth "
                "of them, on whom epochs are chosen: raise limit"
            )


def _validate_feedback(experiment: Experiment, part: Part) -> None:
    assert experiment.reader, "an experiment with feedback has a reader"
    retriever = experiment.retrieval.retriever
    if experiment.mode == FEEDBACK and retriever.learns:
        raise InputError(
            "mode=feedback rewards the items of a retriever that needs no feedback itself: use "
            "its base, such as retriever=contriever"
        )
    if retriever.is_bound and "adapter" in experiment.learners:
        raise InputError(
            "this retriever reads the golds of the questions that it ranks for, which no adapter "
            "may learn from: use another retriever, k=0, or adapter=none"
        )
    if retriever.is_bound and experiment.mode == "finetune":
        raise InputError(
            "this retriever reads the golds of the questions that it ranks for, which no model may "
            "learn from: use mode=zeroshot, with model.name=RUN/checkpoint for a fine-tuned model"
        )
    validate_reader(experiment.reader, part)


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
