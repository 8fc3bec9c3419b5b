"""The values that travel through an experiment, and the contracts of its components.

This is the one file to read before adding a task, a retriever, an augmentation or a model.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import (
    Callable,
    Iterable,
    Iterator,
    Mapping,
    MutableMapping,
    Sequence,
)
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


class InputError(ValueError):
    """A mistake of the user's: its message says what, where and what to do, in one line."""


@dataclass(frozen=True, slots=True)
class ProfileItem:
    """One text of a user's past; `fields` keeps LaMP's own names, which only the task knows."""

    id: str
    fields: Mapping[str, str]
    date: datetime | None = None


@dataclass(frozen=True, slots=True)
class Example:
    """One question of the benchmark; `target` is None where no gold is known."""

    id: str
    user: str
    input: str
    profile: tuple[ProfileItem, ...]
    target: str | None = None
    date: datetime | None = None


@dataclass(frozen=True, slots=True)
class Writing:
    """A made-up text and all that tasks may ask about it; tasks turn it into their own words.

    `title` and `choice` show its author's taste, which only the author's other writings tell;
    `restyled` is `text` as this author would have put it. `related` is a title of the same
    author and topic, `unrelated` one of a topic foreign to the author; `swapped` says that the
    unrelated one is to be offered first.
    """

    text: str
    title: str
    choice: int
    restyled: str
    related: str
    unrelated: str
    swapped: bool


@dataclass(frozen=True, slots=True)
class Query:
    """What to search a profile with; `id` is the question's, so that chance can depend on it."""

    id: str
    text: str


@dataclass(frozen=True, slots=True)
class Document:
    """What a retriever sees of a profile item."""

    id: str
    text: str
    date: datetime | None = None


@dataclass(frozen=True, slots=True)
class Hit:
    """A ranked document: higher scores are better within one ranking."""

    id: str
    score: float


@dataclass(frozen=True, slots=True)
class Prompt:
    """What a model reads for one question, as text; the model's tokenizer cuts each passage.

    `items` are the hits whose text is really in it, best first; the counts tell what is not.
    """

    id: str
    passages: tuple[str, ...]
    items: tuple[Hit, ...] = ()
    lost_items: int = 0
    cut_texts: int = 0
    cut_passages: int = 0
    tokens: int = 0


@dataclass(frozen=True, slots=True)
class Prediction:
    """A model's answer to one question; `capped` if it was cut off at the most new tokens."""

    id: str
    output: str
    tokens: int = 0
    capped: bool = False


@dataclass(frozen=True, slots=True)
class Scores:
    """Metrics over all examples, the same per example, and what the scorer could not use."""

    metrics: Mapping[str, float]
    per_example: Mapping[str, Sequence[float]]
    unreadable: int = 0
    notes: Mapping[str, int] = field(default_factory=dict)


class Tokens(Protocol):
    """A tokenizer as a prompt's budget sees it: special tokens are counted, as it adds them."""

    def count(self, text: str) -> int:
        """The number of tokens of `text`, special tokens included."""
        ...

    def unknown(self, text: str) -> int:
        """How many of them stand for what the tokenizer does not know."""
        ...

    def cut(self, text: str, limit: int) -> tuple[str, int]:
        """`text` cut to `limit` tokens and decoded without special ones, and its token count."""
        ...


class Task(Protocol):
    """One task of LaMP: its words, and how its answers are scored."""

    @property
    def name(self) -> str:
        """The task as the official files call it, such as `LaMP_4`."""
        ...

    @property
    def folders(self) -> tuple[str, ...]:
        """Where its files may lie below the data folder, such as `LaMP_4`; the first counts."""
        ...

    @property
    def fields(self) -> tuple[str, ...]:
        """The fields that each profile item must have, besides `id`."""
        ...

    @property
    def monitor(self) -> tuple[str, str]:
        """The metric that selects models and its better direction: `("mae", "min")`."""
        ...

    @property
    def labels(self) -> tuple[str, ...]:
        """All answers that there are; none where the answer is free text."""
        ...

    @property
    def epochs(self) -> int:
        """For how many epochs the paper trains it."""
        ...

    @property
    def separator_tokens(self) -> int:
        """Tokens that a prompt's budget sets aside once, for the stop after the entries."""
        ...

    @property
    def fixed_words(self) -> str:
        """Words of the joined prompt that a budget sets aside once."""
        ...

    def well_worded(self, input: str) -> bool:
        """Whether a question's input follows the official wording."""
        ...

    def reworded(self, input: str) -> str:
        """An input that lacks the official wording, with it; others as they are."""
        ...

    def readable(self, target: str) -> bool:
        """Whether `target` can be an answer to this task."""
        ...

    def query(self, input: str) -> str:
        """What to search the profile with."""
        ...

    def own_text(self, input: str) -> str:
        """By which text the question's own item would be known, if its profile held it."""
        ...

    def own_item_text(self, item: ProfileItem) -> str:
        """The text of an item to compare with that."""
        ...

    def answer_text(self, item: ProfileItem) -> str | None:
        """An item's text of the kind that is asked for, where a gold in a profile is a leak."""
        ...

    def document(self, item: ProfileItem) -> str:
        """Under which text an item is found."""
        ...

    def body(self, item: ProfileItem) -> str:
        """The part of an item that may be shortened."""
        ...

    def entry(self, item: ProfileItem, body: str) -> str:
        """The words shown around an item's (shortened) body."""
        ...

    def frame_tokens(self, item: ProfileItem, tokens: Tokens) -> int:
        """What the official code counts for an entry without its body."""
        ...

    def join(self, input: str, entries: Sequence[str]) -> str:
        """The whole prompt; without entries, the bare input."""
        ...

    def instruction_end(self, prompt: str, input: str) -> int:
        """How many characters of a joined `prompt` must survive for it to be understood."""
        ...

    def score(self, outputs: Sequence[str], targets: Sequence[str]) -> Scores:
        """The official metrics of `outputs` against `targets`, which are of one length."""
        ...

    def made_item(self, writing: Writing) -> dict[str, str]:
        """A profile item's fields for the made-up sample."""
        ...

    def made_question(self, writing: Writing) -> tuple[str, str]:
        """An input and its gold for the made-up sample."""
        ...


class TextVectors(Protocol):
    """Vectors of texts by one encoder. Each text is asked of `missing` before `rows` gives it."""

    def missing(self, texts: Sequence[str]) -> list[str]:
        """Those that have no vector yet, each once, in their order."""
        ...

    def add(self, texts: Sequence[str], vectors: NDArray[np.float16], cut: Sequence[bool]) -> None:
        """Keeps vectors (texts x dimensions); `cut` says whose text the encoder cut."""
        ...

    def rows(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """The vectors of `texts` as a matrix of the caller's own, one a row."""
        ...

    def report(self) -> Mapping[str, int]:
        """Distinct texts asked for so far: `texts_encoded`, `texts_from_cache`, `texts_cut`."""
        ...


class VectorStore(Protocol):
    """Keeps the vectors of texts, so that each is made once per encoder."""

    def open(self, encoder: Mapping[str, Any]) -> TextVectors:
        """Those of one encoder: `name` and all else that decides a vector, as JSON values."""
        ...


class Retriever(ABC):
    """Ranks a whole profile; how many of its hits are used is decided later, by slicing."""

    reads_profile: bool = True
    needs_dates: bool = False
    independent: bool = False  # each question by itself: processes may share the work
    questions_at_once: int = 100  # given to `rank_all` together, and held meanwhile

    @abstractmethod
    def rank(self, query: Query, documents: Sequence[Document]) -> list[Hit]:
        """All documents once, best first; equal scores keep the profile's own order."""

    def keep(self, store: VectorStore) -> None:  # noqa: B027  (most have nothing to keep)
        """Told once, before any ranking, where it may keep what is costly to compute."""

    def check(self) -> None:  # noqa: B027  (most can do all)
        """Raises InputError, before any long work, for what this retriever cannot do."""

    def depends_on(self) -> Mapping[str, Any]:
        """What rankings depend on besides options and code, as JSON values: library versions, …"""
        return {}

    def rank_all(
        self, questions: Sequence[tuple[Query, Sequence[Document]]]
    ) -> Iterator[list[Hit]]:
        """The rankings of some of a part's questions, in their order.

        Override where a batch is faster.
        """
        for query, documents in questions:
            yield self.rank(query, documents)

    def report(self) -> Mapping[str, Any]:
        """What the record should tell of the work done: counts of texts cut, the device, …"""
        return {}


class Augmentation(Protocol):
    """Turns a question and its retrieved items into what a model reads."""

    @property
    def passages_per_prompt(self) -> str:
        """`one`, or `many` where the model must read several passages apart."""
        ...

    def __call__(
        self, task: Task, example: Example, hits: Sequence[Hit], tokens: Tokens, max_length: int
    ) -> Prompt:
        """The prompt of one question; no hits give the bare input."""
        ...


def by_score(documents: Sequence[Document], scores: Sequence[float]) -> list[Hit]:
    """Hits in order of falling score; equal scores keep the order of `documents`."""
    pairs = zip(documents, scores, strict=True)
    hits = [Hit(document.id, float(score)) for document, score in pairs]
    return sorted(hits, key=lambda hit: -hit.score)


@dataclass
class ProfileOptions:
    """Profiles other than the benchmark's, for science; the defaults leave them as they are."""

    max_items: int | None = None  # keep so many: how little is enough?
    keep: str = "newest"  # which ones: newest, first
    before: str | None = None  # only items dated before that day
    control: str = "none"  # shuffled_user: the profile of another user of the same part
    own_items: str = "keep"  # remove: items that are the question itself (they are always counted)


@dataclass(frozen=True, slots=True)
class Shape:
    """How a part is read: which of its users, and what becomes of its examples.

    `carve` takes a fixed share of a part's users (`holdout`), or the others (`rest`).
    """

    profile: ProfileOptions = field(default_factory=ProfileOptions)
    fixes: str = "none"
    seed: int = 0
    carve: str | None = None


@dataclass
class Training:
    """What fine-tuning varies; the trainer's own options (epochs, precision, …) are Lightning's."""

    lr: float = 5e-5
    weight_decay: float = 1e-4
    warmup: float = 0.05  # share of all optimiser steps
    batch_size: int = 16  # examples per step, over all devices
    patience: int | None = None  # epochs without a better dev score before it stops
    gradient_checkpointing: bool = False
    lora_rank: int | None = None  # low-rank adapters of that rank instead of all weights
    lora_alpha: int = 32
    lora_dropout: float = 0.05


@dataclass(frozen=True, slots=True)
class ModelSettings:
    """What every model is given at the door; `answers` keeps what an API once answered.

    `labels` are those of the task, of which a model may be told to choose one.
    """

    max_length: int
    max_new_tokens: int
    predict_batch_size: int
    seed: int
    training: Training
    answers: MutableMapping[str, str] = field(default_factory=dict)
    labels: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Lesson:
    """What a model learns from, and how it is told whether it got better."""

    train: Sequence[tuple[Prompt, str]]
    dev: Sequence[tuple[Prompt, str]]
    score: Callable[[Sequence[str], Sequence[str]], Scores]
    monitor: tuple[str, str]
    epochs: int
    folder: Path


@dataclass(frozen=True, slots=True)
class About:
    """What a logger is told of a run before it begins."""

    run: str
    folder: Path
    sweep: str | None  # the sweep that it belongs to
    mode: str
    tags: tuple[str, ...]
    settings: Mapping[str, Any]


class RunLog(Protocol):
    """Where one run's curves and results go, besides its own record."""

    @property
    def lightning(self) -> Any:
        """The logger that Lightning's trainer is given."""
        ...

    def finished(self, result: Mapping[str, Any]) -> None:
        """Told the content of `result.json` once the record is whole."""
        ...


class Journal(Protocol):
    """Answers kept as they come, so that a run that is broken off loses none of them."""

    def known(self) -> Iterable[Prediction]:
        """What has been kept for these prompts so far, by any process."""
        ...

    def keep(self, predictions: Iterable[Prediction]) -> None:
        """On disk when it returns."""
        ...


class Model(Protocol):
    """Answers prompts; `reads_passages` says whether it can read several passages apart."""

    @property
    def reads_passages(self) -> bool:
        """True of encoder-decoder models: Fusion-in-Decoder needs it."""
        ...

    @property
    def shares_work(self) -> bool:
        """Whether several processes can do its work together, as Lightning's trainers do."""
        ...

    @property
    def tokens(self) -> Tokens:
        """The tokenizer that will read the prompts; available without the weights."""
        ...

    def check(
        self, trains: bool, precision: str, trainer: Callable[..., Any] | None = None
    ) -> None:
        """Raises InputError, before any long work, for what this model cannot do.

        Without a `trainer` only its tokenizer will be needed.
        """
        ...

    def fit(self, lesson: Lesson, trainer: Callable[..., Any]) -> Mapping[str, Any]:
        """Learns, keeps the epoch best on dev, saves it below `lesson.folder`; for the record.

        Goes on with what it left there when it was broken off.
        """
        ...

    def predict(
        self,
        prompts: Sequence[Prompt],
        trainer: Callable[..., Any],
        journal: Journal | None = None,
    ) -> Sequence[Prediction]:
        """One prediction for each prompt, in their order; those in `journal` are not asked for."""
        ...

    def report(self) -> Mapping[str, Any]:
        """What the record should tell: weights, generation settings, …"""
        ...
