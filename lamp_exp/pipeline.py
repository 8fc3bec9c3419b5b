"""From questions to a record: load, rank, augment, predict, score."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Any, TypeVar

from tqdm import tqdm

from lamp_exp.data import Part, load
from lamp_exp.types import (
    Augmentation,
    Document,
    Example,
    Hit,
    InputError,
    Lesson,
    Model,
    Prediction,
    Prompt,
    Query,
    Retriever,
    Scores,
    Task,
)

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
    augmentation: Augmentation | None
    model: Model | None
    trainer: Callable[..., Any] | None
    logger: Callable[..., Any] | None
    max_length: int
    data_dir: str | None
    limit: int | None
    choices: Mapping[str, str]
    settings: Mapping[str, Any]

    @property
    def used_k(self) -> int:
        """How many items a prompt is given at the most."""
        return self.k if self.retriever.reads_profile else 0

    def check(self) -> None:
        """Raises InputError for choices that do not go together."""
        if self.augmentation is None or self.model is None:
            return
        many = self.augmentation.passages_per_prompt == "many"
        if many and not self.model.reads_passages and self.mode is not Mode.prompts:
            raise InputError(
                "augmentation=fid reads several passages apart, which only an encoder-decoder "
                "model can: use augmentation=ipa, or a model such as model=flan_t5_base"
            )
        precision = str(self.settings["trainer"].get("precision", ""))
        self.model.check(self.mode is Mode.finetune, precision)

    def notes(self) -> list[str]:
        """What a reader of the results should know of these choices."""
        notes = []
        many = self.augmentation and self.augmentation.passages_per_prompt == "many"
        if self.mode is Mode.zeroshot and many and self.used_k > 1:
            notes.append("fid without fine-tuning: no model has learned to fuse passages")
        if self.mode is Mode.finetune and self.part == "train":
            notes.append("scored on the part that it was trained on")
        if self.mode is Mode.finetune and self.part == "dev":
            notes.append("the best epoch was chosen on dev, the part that is scored")
        return notes


@dataclass(frozen=True, slots=True)
class Material:
    """The parts that a plan reads: the one it answers, and what a model learns from."""

    asked: Part
    train: Part | None = None
    dev: Part | None = None

    @property
    def parts(self) -> dict[str, Part]:
        """By name, each that there is."""
        named = {"asked": self.asked, "train": self.train, "dev": self.dev}
        return {name: part for name, part in named.items() if part is not None}


@dataclass
class Outcome:
    """All that a run found out."""

    rankings: list[Ranking] = field(default_factory=list)
    prompts: list[Prompt] = field(default_factory=list)
    predictions: list[Prediction] = field(default_factory=list)
    scores: Scores | None = None
    training: Mapping[str, Any] | None = None
    counts: Counter[str] = field(default_factory=Counter)
    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def timed(self, stage: str) -> Iterator[None]:
        """Adds the seconds that a stage takes."""
        start = time.perf_counter()
        yield
        self.seconds[stage] = self.seconds.get(stage, 0.0) + time.perf_counter() - start


def gather(plan: Plan) -> Material:
    """Loads and checks all data before any long work."""

    def read(part: str) -> Part:
        return load(plan.data_dir, plan.task, plan.split, part, plan.limit)

    asked = read(plan.part)
    _refuse_undated(plan, asked)
    if plan.mode is not Mode.finetune:
        plan.check()
        return Material(asked)
    train = asked if plan.part == "train" else read("train")
    dev = asked if plan.part == "dev" else read("dev")
    for name, part in (("train", train), ("dev", dev)):
        if not part.has_golds:
            raise InputError(
                f"mode=finetune needs golds for {name}, but {part.source} has no outputs file "
                "beside it: use mode=zeroshot, or another data_dir"
            )
    if plan.split == "user":
        _refuse_shared_users(train, dev, asked)
    plan.check()
    return Material(asked, train, dev)


def _refuse_undated(plan: Plan, part: Part) -> None:
    if not plan.retriever.needs_dates:
        return
    for example in part.examples:
        for item in example.profile:
            if item.date is None:
                raise InputError(
                    f"this retriever orders items by date, but item {item.id!r} of question "
                    f"{example.id!r} in {part.source} has none: use split=time, or another "
                    "retriever"
                )


def _refuse_shared_users(train: Part, *others: Part) -> None:
    """In the user split, nobody may be in train and in another part."""
    known = {example.user for example in train.examples}
    for other in others:
        if other is train:
            continue
        shared = [example.user for example in other.examples if example.user in known]
        if shared:
            raise InputError(
                f"{len(shared)} users of {other.source} are in train, too (such as "
                f"{shared[0]!r}), which the user split forbids: is it split=time?"
            )


def execute(plan: Plan, material: Material, folder: Path) -> Outcome:
    """Runs all stages that the mode asks for; `folder` takes a model's checkpoint."""
    outcome = Outcome()
    with outcome.timed("rank"):
        outcome.rankings = rank(plan, material.asked)
    _count_data(outcome, material.asked)
    if plan.mode is Mode.rank:
        return outcome
    with outcome.timed("prompts"):
        outcome.prompts = make_prompts(plan, material.asked, outcome.rankings)
    _count_prompts(plan, outcome)
    if plan.mode is Mode.prompts:
        return outcome
    assert plan.model and plan.trainer, "these modes come with a model and a trainer"
    if plan.mode is Mode.finetune:
        lesson = _lesson(plan, material, outcome, folder)
        with outcome.timed("train"):
            outcome.training = plan.model.fit(lesson, plan.trainer)
    with outcome.timed("predict"):
        outcome.predictions = list(plan.model.predict(outcome.prompts, plan.trainer))
    _refuse_misaligned(outcome)
    outcome.counts["outputs_at_the_token_limit"] = sum(p.capped for p in outcome.predictions)
    if material.asked.has_golds:
        with outcome.timed("score"):
            outcome.scores = plan.task.score(
                [prediction.output for prediction in outcome.predictions],
                targets_of(material.asked),
            )
    return outcome


def rank(plan: Plan, part: Part) -> list[Ranking]:
    """The whole profile of each question, best item first."""
    questions = (
        (
            Query(example.id, plan.task.query(example.input)),
            [Document(i.id, plan.task.document(i), i.date) for i in example.profile],
        )
        for example in part.examples
    )
    ranked = plan.retriever.rank_all(questions)
    return list(progress(ranked, len(part.examples), "rank"))


def make_prompts(plan: Plan, part: Part, rankings: Sequence[Ranking]) -> list[Prompt]:
    """What the model reads for each question, from its first k hits."""
    assert plan.augmentation and plan.model, "every mode but rank has both"
    pairs = zip(part.examples, rankings, strict=True)
    return [
        plan.augmentation(plan.task, example, ranking[: plan.k], plan.model.tokens, plan.max_length)
        for example, ranking in progress(pairs, len(rankings), "prompts")
    ]


def _lesson(plan: Plan, material: Material, outcome: Outcome, folder: Path) -> Lesson:
    """Train and dev as prompts with their golds, retrieved as the asked part is."""
    assert material.train and material.dev, "gather loads both"

    def pairs(part: Part) -> list[tuple[Prompt, str]]:
        if part is material.asked:
            return list(zip(outcome.prompts, targets_of(part), strict=True))
        with outcome.timed("rank"):
            rankings = rank(plan, part)
        with outcome.timed("prompts"):
            prompts = make_prompts(plan, part, rankings)
        return list(zip(prompts, targets_of(part), strict=True))

    metric, direction = plan.task.monitor
    return Lesson(
        train=pairs(material.train),
        dev=pairs(material.dev),
        score=plan.task.score,
        monitor=(metric, direction),
        epochs=plan.settings["trainer"]["max_epochs"] or plan.task.epochs,
        folder=folder,
    )


def targets_of(part: Part) -> list[str]:
    """The golds, in the order of the examples."""
    return [example.target for example in part.examples if example.target is not None]


def progress(values: Iterable[T], total: int, label: str) -> Iterable[T]:
    """A progress bar where a person watches."""
    bar: Iterable[T] = tqdm(values, label, total, disable=None, leave=False)
    return bar


def _count_data(outcome: Outcome, part: Part) -> None:
    outcome.counts["questions"] = len(part.examples)
    outcome.counts["profile_items"] = sum(len(example.profile) for example in part.examples)
    outcome.counts["empty_profiles"] = sum(not example.profile for example in part.examples)
    outcome.counts["items_dated_after_the_question"] = sum(map(_later_items, part.examples))


def _later_items(example: Example) -> int:
    if example.date is None:
        return 0
    return sum(item.date is not None and item.date > example.date for item in example.profile)


def _count_prompts(plan: Plan, outcome: Outcome) -> None:
    assert plan.model, "prompts are made with a model's tokenizer"
    prompts, tokens = outcome.prompts, plan.model.tokens
    passages = [text for prompt in prompts for text in prompt.passages]
    outcome.counts.update(
        passages=len(passages),
        prompt_tokens=sum(prompt.tokens for prompt in prompts),
        unknown_tokens=sum(map(tokens.unknown, passages)),
        items_shown=sum(len(prompt.items) for prompt in prompts),
        items_lost=sum(prompt.lost_items for prompt in prompts),
        prompts_that_lost_items=sum(prompt.lost_items > 0 for prompt in prompts),
        texts_cut=sum(prompt.cut_texts for prompt in prompts),
        passages_cut=sum(prompt.cut_passages for prompt in prompts),
    )


def _refuse_misaligned(outcome: Outcome) -> None:
    asked = [prompt.id for prompt in outcome.prompts]
    answered = [prediction.id for prediction in outcome.predictions]
    assert asked == answered, "a model must answer each prompt once, in order"
