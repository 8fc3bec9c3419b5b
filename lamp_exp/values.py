"""The immutable values that the stages of an experiment pass to each other."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, MutableMapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, overload

if TYPE_CHECKING:
    from lamp_exp.contracts import Metric


# Profiles have many items, documents and hits: named tuples are made four times as fast as frozen
# dataclasses.


class ProfileItem(NamedTuple):
    """One document from a user's history; `fields` has LaMP's own names, which only tasks read."""

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
class SampleText:
    """A made-up text from which each task makes its own items and questions.

    `title` and `choice` show the author's taste, which only the author's other texts reveal.
    `restyled` is `text` in the author's style. `related` is a title by the same author on the same
    topic, `unrelated` a title on a topic foreign to the author; `swapped` puts the unrelated title
    first.
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
    """The text that a profile is searched with, and the id of its question."""

    id: str
    text: str


class Document(NamedTuple):
    """What a retriever sees of a profile item."""

    id: str
    text: str
    date: datetime | None = None


class Hit(NamedTuple):
    """A ranked document; within one ranking, higher scores are better."""

    id: str
    score: float


@dataclass(frozen=True, slots=True)
class Documents(Sequence[Document]):
    """The documents of one profile as columns, in the profile's order."""

    ids: Sequence[str]
    texts: Sequence[str]
    dates: Sequence[datetime | None]

    @classmethod
    def of(cls, documents: Sequence[Document]) -> Documents:
        """`documents` as columns; returned as they are if they are columns already."""
        if isinstance(documents, Documents):
            return documents
        columns = [(d.id, d.text, d.date) for d in documents]
        ids, texts, dates = zip(*columns, strict=True) if columns else ((), (), ())
        return cls(ids, texts, dates)

    def __len__(self) -> int:
        return len(self.ids)

    @overload
    def __getitem__(self, index: int) -> Document: ...
    @overload
    def __getitem__(self, index: slice) -> Documents: ...
    def __getitem__(self, index: int | slice) -> Document | Documents:
        if isinstance(index, slice):
            return Documents(self.ids[index], self.texts[index], self.dates[index])
        return Document(self.ids[index], self.texts[index], self.dates[index])

    def __iter__(self) -> Iterator[Document]:
        return map(Document, self.ids, self.texts, self.dates)


@dataclass(frozen=True, slots=True)
class Ranking(Sequence[Hit]):
    """A ranked profile as columns: a sequence of hits, best first, that are made when read.

    Hit `n` is document `positions[n]` of `ids`, the ids of the profile in the profile's order.
    """

    ids: Sequence[str]
    positions: Sequence[int]
    scores: Sequence[float]

    @classmethod
    def of(cls, ids: Sequence[str], hits: Sequence[Hit]) -> Ranking:
        """Hits as columns; `ids` are those of the profile.

        Raises AssertionError if an id is not ranked exactly once.
        """
        if isinstance(hits, Ranking) and hits.ids is ids:
            ranking = hits
        else:
            position = {document_id: n for n, document_id in enumerate(ids)}
            order = [position.get(hit.id, -1) for hit in hits]
            ranking = cls(ids, order, [hit.score for hit in hits])
        assert sorted(ranking.positions) == list(range(len(ids))), "each item must be ranked once"
        return ranking

    def __len__(self) -> int:
        return len(self.positions)

    @overload
    def __getitem__(self, index: int) -> Hit: ...
    @overload
    def __getitem__(self, index: slice) -> list[Hit]: ...
    def __getitem__(self, index: int | slice) -> Hit | list[Hit]:
        if isinstance(index, slice):
            pairs = zip(self.positions[index], self.scores[index], strict=True)
            return [Hit(self.ids[position], score) for position, score in pairs]
        return Hit(self.ids[self.positions[index]], self.scores[index])

    def __iter__(self) -> Iterator[Hit]:
        return map(Hit, self.item_ids(), self.scores)

    def item_ids(self) -> Iterator[str]:
        """The ids of the hits, best first."""
        return map(self.ids.__getitem__, self.positions)


@dataclass(frozen=True, slots=True)
class Prompt:
    """What a model reads for one question; the model's tokenizer cuts each passage.

    `items` are the hits whose text is in the prompt, best first. The counts say what is not:
    items that did not fit, texts of items that were cut, passages longer than `max_length`.
    `summary_tokens` are those of the summary, in all passages; it may be cut, or lost because
    nothing of it fits.
    """

    id: str
    passages: tuple[str, ...]
    items: tuple[Hit, ...] = ()
    lost_items: int = 0
    cut_texts: int = 0
    cut_passages: int = 0
    tokens: int = 0
    summary_tokens: int = 0
    summary_cut: bool = False
    summary_lost: bool = False


class SummaryRequest(NamedTuple):
    """What a writer is asked about one user; `items` of the profile are in it, `cut` are cut."""

    text: str
    items: int
    cut: int


@dataclass(frozen=True, slots=True)
class Prediction:
    """A model's output for one question; `capped` if it was cut off at `max_new_tokens`.

    `raw` is the output with its reasoning, where that was removed. `withheld` is `refused` or
    `filtered` where a server says that its model refused to answer, or that a filter stopped it.
    """

    id: str
    output: str
    tokens: int = 0
    capped: bool = False
    raw: str | None = None
    withheld: str | None = None


@dataclass(frozen=True, slots=True)
class Scores:
    """Metrics over all examples, scores per example, and counts of what could not be scored."""

    metrics: Mapping[str, float]
    per_example: Mapping[str, Sequence[float]]
    invalid_outputs: int = 0
    notes: Mapping[str, int] = field(default_factory=dict)


@dataclass
class ProfileOptions:
    """Changes to the benchmark's profiles, for controlled experiments. The defaults change nothing.

    The options are described in `lamp_exp.options`.
    """

    max_items: int | None = None
    keep: str = "newest"
    before: str | None = None
    control: str = "none"
    own_items: str = "keep"
    pool: str = "own"
    neighbours: int = 5


@dataclass(frozen=True, slots=True)
class PartView:
    """Which users of a part are read, and how their examples are changed on reading.

    `user_subset` selects a fixed share of the users (`holdout`), all others (`rest`), or a fold of
    them (see `lamp_exp.data.view.user_subset_rows`).
    `limit_sample` says which questions a limit takes: the `first`, or `random` ones.
    """

    profile: ProfileOptions = field(default_factory=ProfileOptions)
    fixes: str = "none"
    seed: int = 0
    user_subset: str | None = None
    limit_sample: str = "first"


@dataclass
class TrainingOptions:
    """Options of fine-tuning, described in `lamp_exp.options`."""

    lr: float = 5e-5
    weight_decay: float = 1e-4
    warmup: float = 0.05
    batch_size: int = 16
    patience: int | None = None
    gradient_checkpointing: bool = False
    lora_rank: int | None = None
    lora_alpha: int = 32
    lora_dropout: float = 0.05


@dataclass(frozen=True, slots=True)
class ModelSettings:
    """Settings that every model receives.

    `answers` is the persistent cache of API replies; `labels` are the task's labels, from which a
    model may have to choose.
    """

    max_length: int
    max_new_tokens: int
    predict_batch_size: int
    seed: int
    training: TrainingOptions
    answers: MutableMapping[str, str] = field(default_factory=dict)
    labels: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class TrainingSet:
    """What a model is fine-tuned on, and how its epochs are compared.

    `train` and `validation` are prompts with their targets. After each epoch, `score` is computed
    on `validation`, and the epoch that is best by `main_metric` is kept. Files go to `folder`.
    """

    train: Sequence[tuple[Prompt, str]]
    validation: Sequence[tuple[Prompt, str]]
    score: Callable[[Sequence[str], Sequence[str]], Scores]
    main_metric: Metric
    epochs: int
    folder: Path


@dataclass(frozen=True, slots=True)
class FeedbackOptions:
    """Options of a reader's feedback, described in `lamp_exp.options`."""

    items: int = 16
    reward: str = "metric"
    folds: int = 1


@dataclass(frozen=True, slots=True)
class RewardedList:
    """The items that a retriever ranks best for a question, best first, with a reader's rewards.

    `texts` and `query` are what retrievers read. `held_out` says that the question's user is among
    those on whom epochs are chosen, and who are not learned from.
    """

    question: str
    user: str
    query: str
    texts: Sequence[str]
    rewards: Sequence[float]
    held_out: bool


@dataclass(frozen=True, slots=True)
class RoutedQuestion:
    """A question with what each candidate of a router made of it, in the candidates' order.

    `prompts` are the candidates' prompts and `outputs` their answers. `rewards` are the task's
    rewards of these answers; None where the golds are not known, or may not be read. `held_out`
    says that the user is among those on whom epochs are chosen, and who are not learned from.
    """

    id: str
    user: str
    input: str
    prompts: tuple[str, ...]
    outputs: tuple[str, ...]
    rewards: tuple[float, ...] | None = None
    held_out: bool = False


@dataclass(frozen=True, slots=True)
class Choice:
    """Which candidate a router chose for a question, by its number.

    `probabilities` are those of all candidates, where the router has any. `by_rule` is False where
    the router could not choose by its own rule, and took its fallback.
    """

    candidate: int
    probabilities: tuple[float, ...] | None = None
    by_rule: bool = True


@dataclass(frozen=True, slots=True)
class RunInfo:
    """What a logger receives when a run starts; `sweep` names the sweep it belongs to."""

    run: str
    folder: Path
    sweep: str | None
    mode: str
    tags: tuple[str, ...]
    settings: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class History:
    """What a question asks about, and the texts of its user's items.

    `own_items` is the number of items left out since they are the question itself.
    """

    query: str
    items: Sequence[str]
    own_items: int = 0


@dataclass(frozen=True, slots=True)
class TrainQuestion:
    """A question of train as a model reads it, with its gold.

    `held_out` says that the user is among those on whom epochs are chosen, and who are not learned
    from.
    """

    id: str
    prompt: Prompt
    target: str
    held_out: bool = False
