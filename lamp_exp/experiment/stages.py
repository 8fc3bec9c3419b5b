"""From questions to a record: load, rank, augment, predict, score."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, fields, replace
from datetime import datetime
from enum import Enum
from functools import partial
from pathlib import Path
from typing import Any, TypeVar, cast

from lamp_exp.contracts import Augmentation, Model, Retriever, Task
from lamp_exp.data import Part, load, own_items
from lamp_exp.errors import InputError
from lamp_exp.experiment.code_fingerprint import code_fingerprint
from lamp_exp.experiment.identity import essence
from lamp_exp.experiment.queries import Questions
from lamp_exp.experiment.ranking import Ranked, Ranker
from lamp_exp.progress import progress
from lamp_exp.results.folder import RunFolder, training_settings
from lamp_exp.results.journal import AnswerJournal
from lamp_exp.storage.rankings import RankingCache
from lamp_exp.values import Example, Hit, PartView, Prediction, Prompt, Scores, TrainingSet

T = TypeVar("T")
Ranking = list[Hit]


class Mode(Enum):
    """How far an experiment goes."""

    finetune = "finetune"
    zeroshot = "zeroshot"
    prompts = "prompts"
    rank = "rank"


@dataclass(frozen=True, slots=True)
class Plan:
    """One experiment as objects: what is None, its mode does not need."""

    mode: Mode
    task: Task
    split: str
    part: str
    retriever: Retriever
    k: int
    skip: int
    augmentation: Augmentation | None
    model: Model | None
    trainer: Callable[..., Any] | None
    logger: Callable[..., Any] | None
    max_length: int
    data_dir: str | None
    cache_dir: Path
    rankings: RankingCache
    limit: int | None
    selection: str
    document_dates: bool
    rank_processes: int | None
    shape: PartView
    choices: Mapping[str, str]
    settings: Mapping[str, Any]

    @property
    def used_k(self) -> int:
        """How many items a prompt is given at the most."""
        return self.k if self.retriever.uses_profile else 0

    @property
    def used_skip(self) -> int:
        """How many of the best items are passed over before those that prompts are given."""
        return self.skip if self.used_k else 0

    def check(self) -> None:
        """Raises InputError for choices that do not go together, or that cannot be loaded."""
        if self.used_k or self.mode is Mode.rank:
            self.retriever.validate()
        if self.augmentation is None or self.model is None:
            return
        many = self.augmentation.multiple_passages
        if many and not self.model.multiple_passages and self.mode is not Mode.prompts:
            raise InputError(
                "augmentation=fid reads several passages apart, which only an encoder-decoder "
                "model can: use augmentation=ipa, or a model such as model=flan_t5_base"
            )
        precision = str(self.settings["trainer"].get("precision", ""))
        self.model.validate(self.mode is Mode.finetune, precision, self.trainer)

    @property
    def fine_tuned(self) -> bool:
        """Whether the model is a checkpoint of this project."""
        return bool(training_settings(str(self.settings["model"].get("name"))))

    def notes(self) -> list[str]:
        """What a reader of the results should know of these choices."""
        notes = []
        if self.used_k and self.shape.profile.control != "none":
            notes.append(f"a control: profile.control={self.shape.profile.control}")
        many = self.augmentation and self.augmentation.multiple_passages
        if self.mode is Mode.zeroshot and many and self.used_k > 1 and not self.fine_tuned:
            notes.append("fid without fine-tuning: no model has learned to fuse passages")
        if self.mode is Mode.finetune and self.part == "train":
            notes.append("scored on the part that it was trained on")
        if self.mode is Mode.finetune and self.part == "dev" and self.selection == "dev":
            notes.append("the best epoch was chosen on dev, the part that is scored")
        if self.used_skip and self.mode is not Mode.rank:
            notes.append("the best items of each profile were passed over (skip)")
        return notes


@dataclass(frozen=True, slots=True)
class Material:
    """The parts that a plan reads: the one it answers, what a model learns from, and the one
    (`dev`, or users held out of train) on which its best epoch is chosen.
    """

    asked: Part
    train: Part | None = None
    dev: Part | None = None

    @property
    def parts(self) -> dict[str, Part]:
        """By name, each that there is."""
        named = {"asked": self.asked, "train": self.train, "selection": self.dev}
        return {name: part for name, part in named.items() if part is not None}


@dataclass(frozen=True, slots=True)
class ProfileFacts:
    """What a report may ask of a question's profile; days are None where dates are not known.

    The official files date items (in the time split) and no questions: only the days from the
    oldest to the newest item are then known.
    """

    profile_size: int
    newest_item_days: float | None  # from the newest item to the question
    profile_days: float | None  # from the oldest item to the newest

    @classmethod
    def of(cls, example: Example) -> ProfileFacts:
        """Undated items are passed over."""
        dates = [item.date for item in example.profile if item.date is not None]
        if not dates:
            return cls(len(example.profile), None, None)
        newest = max(dates)
        age = None if example.date is None else _days(newest, example.date)
        return cls(len(example.profile), age, _days(min(dates), newest))


def _days(first: datetime, last: datetime) -> float:
    return (last - first).total_seconds() / 86400


@dataclass
class Outcome:
    """All that a run found out."""

    profiles: list[ProfileFacts] = field(default_factory=list)
    top_similarity: list[float | None] = field(default_factory=list)
    prompts: list[Prompt] = field(default_factory=list)
    predictions: list[Prediction] = field(default_factory=list)
    scores: Scores | None = None
    training: Mapping[str, Any] | None = None
    counts: Counter[str] = field(default_factory=Counter)
    learned_from: dict[str, dict[str, int]] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def timed(self, stage: str) -> Iterator[None]:
        """Adds the seconds that a stage takes."""
        start = time.perf_counter()
        yield
        self.seconds[stage] = self.seconds.get(stage, 0.0) + time.perf_counter() - start

    def timing(self, stage: str, values: Iterable[T]) -> Iterator[T]:
        """The values; adds the seconds that each takes to come."""
        left, end = iter(values), object()
        while True:
            with self.timed(stage):
                value = next(left, end)
            if value is end:
                return
            yield cast("T", value)


def gather(plan: Plan) -> Material:
    """Loads and checks all data before any long work."""

    def read(part: str, user_subset: str | None = None) -> Part:
        where = (plan.data_dir, plan.task, plan.split, part, plan.limit, plan.cache_dir)
        return load(*where, replace(plan.shape, user_subset=user_subset))

    asked = read(plan.part)
    _refuse_undated(plan, asked)
    if plan.mode is not Mode.finetune:
        plan.check()
        return Material(asked)
    held_out = plan.selection == "holdout"
    train = read("train", "rest" if held_out else None)
    dev = read("train", "holdout") if held_out else asked if plan.part == "dev" else read("dev")
    for name, part in (("train", train), ("selection", dev)):
        if not part.has_golds:
            raise InputError(
                f"mode=finetune needs golds for {name}, but {part.source} has no outputs file "
                "beside it: use mode=zeroshot, or another data_dir"
            )
        if not len(part.examples):
            raise InputError(f"no questions are left for {name}: raise limit, or use selection=dev")
    if plan.split == "user":
        _refuse_shared_users(train, dev, asked)
    plan.check()
    return Material(asked, train, dev)


def _refuse_undated(plan: Plan, part: Part) -> None:
    if plan.retriever.needs_dates and part.first_undated:
        question, item = part.first_undated
        raise InputError(
            f"this retriever orders items by date, but item {item!r} of question {question!r} in "
            f"{part.source} has none: use split=time, or another retriever"
        )


def _refuse_shared_users(train: Part, *others: Part) -> None:
    """In the user split, nobody may be in train and in another part."""
    known = set(train.examples.column("user"))
    for other in others:
        if other.source == train.source:
            continue  # scored on train, or chosen on users held out of it
        shared = [user for user in other.examples.column("user") if user in known]
        if shared:
            raise InputError(
                f"{len(shared)} users of {other.source} are in train, too (such as "
                f"{shared[0]!r}), which the user split forbids: is it split=time?"
            )


def execute(plan: Plan, material: Material, folder: RunFolder) -> Outcome:
    """Runs all stages that the mode asks for; each writes what it made into `folder`."""
    outcome, part = Outcome(), material.asked
    if plan.mode is Mode.rank:
        with outcome.timed("rank"):
            pairs = rank(plan, part, outcome)
            folder.write_rankings((example.id, hits) for example, hits in pairs)
        return outcome
    prompts = _counted_prompts(plan, outcome, _prompts(plan, part, outcome, outcome))
    if plan.mode is Mode.prompts:
        folder.write_prompts(prompts)
        return outcome
    outcome.prompts = list(prompts)
    folder.write_prompts(outcome.prompts)
    _answer(plan, material, outcome, folder)
    return outcome


def _answer(plan: Plan, material: Material, outcome: Outcome, folder: RunFolder) -> None:
    """Fine-tunes if asked to, predicts, and scores where there are golds."""
    assert plan.model, "these modes come with a model"
    assert plan.trainer, "and with a trainer"
    if plan.mode is Mode.finetune:
        lesson = _lesson(plan, material, outcome, folder.path)
        with outcome.timed("train"):
            outcome.training = plan.model.fit(lesson, plan.trainer)
    with outcome.timed("predict"):
        journal = AnswerJournal(folder.path, outcome.prompts)
        outcome.predictions = list(plan.model.predict(outcome.prompts, plan.trainer, journal))
    _refuse_misaligned(outcome)
    outcome.counts["outputs_at_the_token_limit"] = sum(p.capped for p in outcome.predictions)
    part = material.asked
    answers = [(part.original_id(p.id), p.output) for p in outcome.predictions]
    folder.write_predictions(plan.task.name, answers)
    if part.has_golds:
        with outcome.timed("score"):
            outputs = [prediction.output for prediction in outcome.predictions]
            outcome.scores = plan.task.score(outputs, part.examples.column("target"))
    folder.write_examples(
        {**question_columns(part, outcome), "top_similarity": outcome.top_similarity},
        outcome.prompts, outcome.predictions, outcome.scores,
    )  # fmt: skip


def question_columns(part: Part, outcome: Outcome) -> dict[str, list[Any]]:
    """What `examples.parquet` tells of questions before any is answered."""
    columns = {name: part.examples.column(name) for name in ("id", "user", "target")}
    names = [fact.name for fact in fields(ProfileFacts)]
    return columns | {name: [getattr(one, name) for one in outcome.profiles] for name in names}


def follow(plan: Plan, material: Material, folder: Path) -> None:
    """What a process does that shares a run's model work: the same calls of the model, no record.

    `folder` is the run's: weights and answers are left there, as the leader's are.
    """
    assert plan.model and plan.trainer, "only runs of a model are shared"
    outcome = Outcome()
    outcome.prompts = list(_prompts(plan, material.asked, outcome, outcome))
    trainer = partial(plan.trainer, logger=False)
    if plan.mode is Mode.finetune:
        plan.model.fit(_lesson(plan, material, outcome, folder), trainer)
    plan.model.predict(outcome.prompts, trainer, AnswerJournal(folder, outcome.prompts))


def rank(plan: Plan, part: Part, outcome: Outcome) -> Iterator[Ranked]:
    """Each example with its whole profile, best item first; counts the examples on the way.

    Rankings of a profile are kept: every job that asks for the same ones reads them.
    """
    ranker = Ranker(
        plan.retriever, plan.task, part.examples, plan.document_dates, plan.rank_processes
    )
    if not plan.retriever.uses_profile or (not plan.used_k and plan.mode is not Mode.rank):
        pairs = ranker.unranked()  # a run without a profile needs no order of it
    else:
        ids = part.examples.column("id")
        pairs = ranker.ranked(plan.rankings, _ranking_key(plan, part), ids)
    return _counted(plan.task, outcome, progress(pairs, len(part.examples), "read"))


def _counted(task: Task, outcome: Outcome, pairs: Iterable[Ranked]) -> Iterator[Ranked]:
    for example, hits in pairs:
        count_example(task, outcome, example)
        yield example, hits


def _ranking_key(plan: Plan, part: Part) -> dict[str, Any]:
    """All that decides the rankings of a part, and nothing else; k does not."""
    questions = Questions(plan.task, part.examples, plan.document_dates)
    deciding = (plan.task, plan.retriever, part.examples.view, questions)
    return {
        "task_name": plan.task.name,
        "task": essence("task", plan.settings["task"]),
        "retriever": essence("retriever", plan.settings["retriever"]),
        "depends_on": dict(plan.retriever.dependencies()),
        "document_dates": plan.document_dates,
        "data": part.fingerprint,
        "reading": dict(part.reading),
        "code": code_fingerprint(*deciding),
    }


def _prompts(plan: Plan, part: Part, outcome: Outcome, counted: Outcome) -> Iterator[Prompt]:
    """What the model reads for each question of a part, made as they are asked for.

    Time goes to `outcome`; what is counted of the data, to `counted`.
    """
    with outcome.timed("rank"):
        pairs = rank(plan, part, counted)
    for example, ranking in outcome.timing("rank", pairs):
        counted.top_similarity.append(ranking[0].score if ranking else None)
        with outcome.timed("prompts"):
            prompt = make_prompt(plan, example, ranking[plan.skip : plan.skip + plan.k])
        yield prompt


def make_prompt(plan: Plan, example: Example, shown: Ranking) -> Prompt:
    """What a model reads to answer a question, given the hits that it is to be shown."""
    assert plan.augmentation, "every mode but rank has an augmentation"
    assert plan.model, "and a model, whose tokenizer counts"
    return plan.augmentation(plan.task, example, shown, plan.model.token_counter, plan.max_length)


def _lesson(plan: Plan, material: Material, outcome: Outcome, folder: Path) -> TrainingSet:
    """Train and dev as prompts with their golds, retrieved as the asked part is."""
    assert material.train and material.dev, "gather loads both"

    def pairs(name: str, part: Part) -> list[tuple[Prompt, str]]:
        asked = part is material.asked
        prompts = outcome.prompts if asked else list(_prompts(plan, part, outcome, Outcome()))
        outcome.learned_from[name] = prompt_counts(prompts)
        return list(zip(prompts, part.examples.column("target"), strict=True))

    return TrainingSet(
        train=pairs("train", material.train),
        validation=pairs("selection", material.dev),
        score=plan.task.score,
        main_metric=plan.task.main_metric,
        epochs=plan.settings["trainer"]["max_epochs"] or plan.task.training_epochs,
        folder=folder,
    )


def count_example(task: Task, outcome: Outcome, example: Example) -> None:
    """Adds what is to be told of a question and its profile."""
    own = own_items(task, example.input, example.profile)
    outcome.profiles.append(ProfileFacts.of(example))
    outcome.counts.update(
        questions=1,
        profile_items=len(example.profile),
        empty_profiles=not example.profile,
        items_dated_after_the_question=_later_items(example),
        profiles_that_hold_the_question=bool(own),
    )


def _later_items(example: Example) -> int:
    if example.date is None:
        return 0
    return sum(item.date is not None and item.date > example.date for item in example.profile)


def _counted_prompts(plan: Plan, outcome: Outcome, prompts: Iterable[Prompt]) -> Iterator[Prompt]:
    assert plan.model, "prompts are made with a model's tokenizer"
    outcome.counts.update(prompt_counts([]), unknown_tokens=0)
    for prompt in prompts:
        outcome.counts.update(prompt_counts([prompt]))
        outcome.counts["unknown_tokens"] += sum(
            map(plan.model.token_counter.count_unknown, prompt.passages)
        )
        yield prompt


def prompt_counts(prompts: Sequence[Prompt]) -> dict[str, int]:
    """What is in prompts, and what was cut or lost on the way."""
    return {
        "passages": sum(len(prompt.passages) for prompt in prompts),
        "prompt_tokens": sum(prompt.tokens for prompt in prompts),
        "items_shown": sum(len(prompt.items) for prompt in prompts),
        "items_lost": sum(prompt.lost_items for prompt in prompts),
        "prompts_that_lost_items": sum(prompt.lost_items > 0 for prompt in prompts),
        "texts_cut": sum(prompt.cut_texts for prompt in prompts),
        "passages_cut": sum(prompt.cut_passages for prompt in prompts),
    }


def _refuse_misaligned(outcome: Outcome) -> None:
    asked = [prompt.id for prompt in outcome.prompts]
    answered = [prediction.id for prediction in outcome.predictions]
    assert asked == answered, "a model must answer each prompt once, in order"
