"""The contracts of the components: task, metric, retriever, augmentation, summary, model.

This is the file to read before adding one. Each contract is an abstract base class: class
attributes say what a component can do, `validate` refuses what it cannot, before any long work,
and `facts` returns what the run's record should say about the work done.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

from lamp_exp.errors import naming
from lamp_exp.values import (
    Document,
    Documents,
    Example,
    Hit,
    Prediction,
    ProfileItem,
    Prompt,
    Query,
    Ranking,
    SampleText,
    Scores,
    SummaryRequest,
    TrainingSet,
)

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from lamp_exp.artefacts import Adapter


class TokenCounter(ABC):
    """A model's tokenizer as prompts need it; special tokens are counted as it adds them."""

    @abstractmethod
    def count(self, text: str) -> int:
        """The number of tokens of `text`, special tokens included."""

    @abstractmethod
    def count_unknown(self, text: str) -> int:
        """The number of unknown tokens in `text`."""

    @abstractmethod
    def truncate(self, text: str, limit: int) -> tuple[str, int]:
        """`text` cut to `limit` tokens, decoded without special tokens, and its token count."""


class Metric(ABC):
    """A score of outputs against targets.

    `name` is the key in records and tables. `aggregate` says how the scores of the examples become
    one number: `mean` or `root_mean_square` of the per-example scores in `column`, or `macro_f1`
    of the labels themselves. `binary` says that each score is 0 or 1. The metric lies between
    `lowest` and `highest`; None is no bound. `description` is the rule in a few words, for the
    footer of a table. Reports read these facts from a run's record, so that a metric of one's own
    needs no edit elsewhere.
    """

    name: str
    higher_is_better: bool
    aggregate: str = "mean"
    column: str | None = None
    labels: tuple[str, ...] = ()
    binary: bool = False
    lowest: float | None = 0.0
    highest: float | None = None
    description: str = ""

    @property
    def direction(self) -> str:
        """`max` or `min`: which end is better."""
        return "max" if self.higher_is_better else "min"

    def load(self) -> None:  # noqa: B027  (most need nothing)
        """Imports what scoring needs; called before any long work."""

    @abstractmethod
    def per_example(self, outputs: Sequence[str], targets: Sequence[str]) -> Sequence[float] | None:
        """One score per example; None if the scores of `column` come from another metric."""

    @abstractmethod
    def value(
        self,
        per_example: Mapping[str, Sequence[float]],
        outputs: Sequence[str],
        targets: Sequence[str],
    ) -> float:
        """The metric over all examples, given all per-example columns."""


class Component:
    """What tasks, retrievers, augmentations and models have in common.

    `version` is a number that the author raises when the component's results change. It marks
    finished runs as stale where its code does not: the code of installed packages is not compared.
    """

    version: ClassVar[int] = 1

    @property
    def components(self) -> Sequence[Component]:
        """The components that this one is built of; their code decides its results, too."""
        return ()


class Task(Component, ABC):
    """One task of LaMP: its wording, its profile items, and how its outputs are scored.

    `name` is the task's name in the official files (`LaMP_4`). `folders` are where its files may
    lie below the data folder; the official download uses the first. `fields` are required of each
    profile item besides `id`. `metrics` are the official ones; the first selects models and k.
    `labels` are all valid outputs, empty for free text. `training_epochs` is the paper's number.
    A prompt's budget sets aside `separator_tokens` tokens and those of `fixed_text` once.
    `download` says whether the benchmark's server has the task's files: `required` (they must be
    there), `optional` (they may be gone) or `none`. `licence` names the licence that its real texts
    are under, if they may not be passed on. `label_noun` and `writing_noun` are the words for what
    `item_label` and `item_writing` return: a tag, titles.
    """

    name: str
    folders: tuple[str, ...]
    fields: tuple[str, ...]
    metrics: tuple[Metric, ...]
    labels: tuple[str, ...] = ()
    training_epochs: int
    separator_tokens: int = 1
    fixed_text: str = ""
    download: str = "none"
    licence: str = ""
    label_noun: str = "label"
    writing_noun: str = "texts"

    @property
    def main_metric(self) -> Metric:
        """The metric that selects models and k."""
        return self.metrics[0]

    @abstractmethod
    def follows_template(self, input: str) -> bool:
        """Whether a question's input follows the official template."""

    @abstractmethod
    def with_template(self, input: str) -> str:
        """An input that lacks the official template, put into it; other inputs unchanged."""

    @abstractmethod
    def is_valid_output(self, output: str) -> bool:
        """Whether `output` is a possible answer: a label, a rating, or any text."""

    def output_counts(self, outputs: Sequence[str]) -> dict[str, int]:
        """How many outputs are no answer, and how many are odd in another way; needs no golds."""
        return {"outputs_unreadable": sum(not self.is_valid_output(output) for output in outputs)}

    @abstractmethod
    def query(self, input: str) -> str:
        """The text that the profile is searched with."""

    @abstractmethod
    def query_source_text(self, input: str) -> str:
        """The text that identifies the question's own item, should the profile contain it."""

    @abstractmethod
    def item_source_text(self, item: ProfileItem) -> str:
        """The text of an item that is compared with `query_source_text`."""

    @abstractmethod
    def item_target_text(self, item: ProfileItem) -> str | None:
        """The item's text of the kind that is asked for; None where equality is no leak."""

    @abstractmethod
    def document(self, item: ProfileItem) -> str:
        """The text of an item that retrievers read."""

    @abstractmethod
    def body(self, item: ProfileItem) -> str:
        """The part of an item that a prompt may shorten."""

    @abstractmethod
    def entry(self, item: ProfileItem, body: str) -> str:
        """An item as it is shown in a prompt, with `body` as its (shortened) body."""

    @abstractmethod
    def overhead_tokens(self, item: ProfileItem, counter: TokenCounter) -> int:
        """The tokens of an entry without its body, as the official code counts them."""

    @abstractmethod
    def join(self, input: str, entries: Sequence[str]) -> str:
        """The whole prompt; without entries, the input alone."""

    def place_summary(self, prompt: str, summary: str) -> str:
        """A joined prompt with a summary of the user in it; here before everything else."""
        return f"{summary}\n{prompt}"

    def item_label(self, item: ProfileItem) -> str | None:
        """The user's label of the item: its tag, category or score; None where items have none."""
        return None

    def item_writing(self, item: ProfileItem) -> str:
        """What the user wrote of the item: its title, tweet or text. Here, its body."""
        return self.body(item)

    @abstractmethod
    def instruction_end(self, prompt: str, input: str) -> int:
        """The number of characters of a joined `prompt` that must survive a cut."""

    def item_pair(self, item: ProfileItem, seed: int) -> tuple[str, str] | None:
        """An input and its target, made of an item, from which a model can learn about its author.

        What is drawn depends on `seed` and on the item's content. None if the item has no text to
        learn. A task without this method cannot be used with adapters.
        """
        raise NotImplementedError

    @abstractmethod
    def score(self, outputs: Sequence[str], targets: Sequence[str]) -> Scores:
        """The official metrics of `outputs` against `targets`, which have the same length."""

    def rewards(self, outputs: Sequence[str], targets: Sequence[str]) -> list[float]:
        """The main metric of each output, as a reward: higher is better.

        Where a lower metric is better, its negative.
        """
        metric = self.main_metric
        assert metric.column, "the main metric has a score per example"
        scores = self.score(outputs, targets).per_example[metric.column]
        return [score if metric.higher_is_better else -score for score in scores]

    @abstractmethod
    def sample_item(self, text: SampleText) -> dict[str, str]:
        """The fields of a profile item for the made-up sample."""

    @abstractmethod
    def sample_question(self, text: SampleText) -> tuple[str, str]:
        """An input and its target for the made-up sample."""


class TextTokens(NamedTuple):
    """What an encoder reads of a text: its tokens, the unknown ones of them, whether it was cut."""

    tokens: int
    unknown: int = 0
    cut: bool = False


class TextVectors(ABC):
    """Vectors of texts by one encoder. Ask `missing` about each text before calling `rows`.

    Both take the `keys` of the texts, if they are known already.
    """

    @abstractmethod
    def keys(self, texts: Sequence[str]) -> NDArray[np.bytes_]:
        """What stands for each text."""

    @abstractmethod
    def missing(self, texts: Sequence[str], keys: NDArray[np.bytes_] | None = None) -> list[str]:
        """The distinct texts that have no vector yet, in order."""

    @abstractmethod
    def add(
        self, texts: Sequence[str], vectors: NDArray[np.float32], read: Sequence[TextTokens]
    ) -> None:
        """Stores vectors (texts, dimensions), and what the encoder read of each text."""

    @abstractmethod
    def rows(
        self, texts: Sequence[str], keys: NDArray[np.bytes_] | None = None
    ) -> NDArray[np.float32]:
        """The vectors of `texts` as a new matrix, one row per text."""

    @abstractmethod
    def counts(self) -> Mapping[str, int]:
        """Distinct texts so far: `texts_encoded`, `texts_from_cache`."""

    @abstractmethod
    def take_counts(self) -> Mapping[str, int]:
        """Of the distinct texts since the last call: `texts_cut`, and counts of their tokens.

        `tokens_read` are all that the encoder read, `unknown_tokens` those without a meaning to it.
        """


class VectorStore(ABC):
    """Stores the vectors of texts, so that each text is encoded once per encoder."""

    @abstractmethod
    def open(self, encoder: Mapping[str, Any]) -> TextVectors:
        """The vectors of one encoder: its `name` and all else that decides a vector, as JSON."""


class Retriever(Component, ABC):
    """Ranks a whole profile; how many hits are used is decided later, by slicing.

    `uses_profile` is False for the retriever that returns nothing. `needs_dates` refuses undated
    profiles. `per_question` says that each question is ranked by itself, so that several processes
    may share the work. `at_random` says that documents are not read, so that a sample of them can
    stand for all. `batch_size` questions are given to `rank_batch` at a time. `learns` says that it
    needs artefacts (`lamp_exp.artefacts.LearnedRetriever`), `is_bound` that it reads the golds of
    the questions that it ranks for, so that its results are an upper bound and no system's.
    """

    uses_profile: ClassVar[bool] = True
    needs_dates: ClassVar[bool] = False
    per_question: ClassVar[bool] = False
    at_random: ClassVar[bool] = False
    learns: ClassVar[bool] = False
    is_bound: ClassVar[bool] = False
    batch_size: ClassVar[int] = 100

    @abstractmethod
    def rank(self, query: Query, documents: Sequence[Document]) -> Sequence[Hit]:
        """All documents once, best first; equal scores keep the profile's order."""

    def rank_batch(
        self, questions: Sequence[tuple[Query, Sequence[Document]]]
    ) -> Iterator[Sequence[Hit]]:
        """The rankings of several questions, in order. Override where a batch is faster."""
        for query, documents in questions:
            with naming(self, "rank", query.id):
                ranking = self.rank(query, documents)
            yield ranking

    def use_vector_store(self, store: VectorStore) -> None:
        """Called once before any ranking, with a store for vectors that are costly to compute."""

    def validate(self) -> None:
        """Raises InputError, before any long work, for what this retriever cannot do."""

    def dependencies(self) -> Mapping[str, Any]:
        """What rankings depend on besides options and code, as JSON: library versions, weights."""
        return {}

    def facts(self) -> Mapping[str, Any]:
        """For the record: the encoder, the device, …"""
        return {}

    def take_counts(self) -> Mapping[str, Any]:
        """Counts of what was read since the last call: texts cut, unknown tokens, …

        They are kept with a part's rankings, and added up in the record of each run that uses
        them, in the same place as `facts`. Counts of components may be mappings, as in `facts`.
        """
        return {}


class DenseRetriever(Retriever):
    """A retriever that compares vectors of texts; others may use its encoder, too."""

    @abstractmethod
    def encoder_key(self) -> Mapping[str, Any]:
        """All that decides a vector, as JSON; `name` is a hub id, or a folder's content."""

    @abstractmethod
    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """The vectors of `texts` (texts, dimensions); each distinct text is encoded once."""


class Augmentation(Component, ABC):
    """Turns a question and its retrieved items into what a model reads.

    `multiple_passages` says that the model must encode several passages separately.
    """

    multiple_passages: ClassVar[bool] = False

    @abstractmethod
    def __call__(
        self,
        task: Task,
        example: Example,
        hits: Sequence[Hit],
        counter: TokenCounter,
        max_length: int,
        summary: str = "",
    ) -> Prompt:
        """The prompt of one question; without hits and summary, the input alone.

        Each passage shows the summary where the task places it, and what is left of it where it
        is too long. It takes its tokens before the items do.
        """


class Summary(Component, ABC):
    """A text on a user, made of the profile, which prompts show beside the items.

    `uses_profile` is False for the summary that is none. `writes` says that a model writes the
    texts before they are needed (see `WrittenSummary`). `max_tokens` of the answering model are the
    most of it that a prompt shows.
    """

    uses_profile: ClassVar[bool] = True
    writes: ClassVar[bool] = False
    max_tokens: int

    @abstractmethod
    def text(self, task: Task, profile: Sequence[ProfileItem]) -> str:
        """The summary of a profile, as the question sees it; empty if there is nothing to say."""

    def validate(self, task: Task, dated: bool) -> None:
        """Raises InputError, before any long work, for what this summary cannot do.

        `dated` says that all items have dates.
        """


class WrittenSummary(Summary):
    """A summary that a model writes, given what `request` makes of the profile.

    Each text is written once for all runs, and kept by what the writer reads. `model` names the
    option that is the writer (None: the run's model, before fine-tuning) and `name` its weights.
    It reads at most `input_tokens` and writes at most `max_new_tokens` tokens. `allow_api` lets
    it be an API where the texts are under a licence.
    """

    writes: ClassVar[bool] = True
    model: str | None
    name: str | None
    input_tokens: int
    max_new_tokens: int
    allow_api: bool

    @abstractmethod
    def request(
        self, task: Task, profile: Sequence[ProfileItem], counter: TokenCounter
    ) -> SummaryRequest | None:
        """What the writer reads, by its tokenizer within `input_tokens`; None for no text."""

    def load(self, written: Callable[[str], str], counter: TokenCounter) -> None:
        """Called before any `text`: `written` is the text that answers a request."""
        self._written, self._counter = written, counter

    def text(self, task: Task, profile: Sequence[ProfileItem]) -> str:
        request = self.request(task, profile, self._counter)
        return "" if request is None else self._written(request.text)


class PredictionJournal(ABC):
    """Predictions stored as they are made, so that an interrupted run loses none."""

    @abstractmethod
    def read(self) -> Iterable[Prediction]:
        """The predictions stored so far for these prompts, by any process."""

    @abstractmethod
    def append(self, predictions: Iterable[Prediction]) -> None:
        """Stores predictions; they are on disk when it returns."""


class Model(Component, ABC):
    """Answers prompts, and may be fine-tuned.

    `multiple_passages` is True for models that can encode several passages separately, which
    Fusion-in-Decoder needs. `distributed` says that several processes can share the work, as
    Lightning's trainers do. `uses_trainer` is False for models that run elsewhere.
    `gives_likelihoods` says that `log_likelihoods` works.
    `uses_generation_config` says that `model.generation` holds options of transformers'.
    """

    multiple_passages: ClassVar[bool] = False
    distributed: ClassVar[bool] = False
    uses_trainer: ClassVar[bool] = True
    gives_likelihoods: ClassVar[bool] = False

    @property
    def has_random_weights(self) -> bool:
        """Whether the weights are drawn, and not read."""
        return False

    uses_generation_config: ClassVar[bool] = False

    @property
    def samples(self) -> bool:
        """Whether answers are drawn, so that they depend on the seed."""
        return False

    @property
    @abstractmethod
    def token_counter(self) -> TokenCounter:
        """The tokenizer that will read the prompts; available without the weights."""

    @abstractmethod
    def validate(
        self, trains: bool, precision: str, trainer: Callable[..., Any] | None = None
    ) -> None:
        """Raises InputError, before any long work, for what this model cannot do.

        Without a `trainer`, only the tokenizer will be used.
        """

    @abstractmethod
    def fit(self, data: TrainingSet, trainer: Callable[..., Any]) -> Mapping[str, Any]:
        """Fine-tunes, keeps the best epoch, saves it below `data.folder`; returns facts.

        Resumes from what an interrupted call left in that folder.
        """

    @abstractmethod
    def predict(
        self,
        prompts: Sequence[Prompt],
        trainer: Callable[..., Any],
        journal: PredictionJournal | None = None,
    ) -> Sequence[Prediction]:
        """One prediction per prompt, in order; prompts with an entry in `journal` are skipped."""

    def use_adapter(self, adapter: Adapter) -> None:
        """Called once before any answer, with what adapts this model to users."""
        raise NotImplementedError

    def log_likelihoods(
        self, groups: Sequence[tuple[Sequence[Prompt], str]], trainer: Callable[..., Any]
    ) -> Sequence[Sequence[float]]:
        """The log likelihood of a text as the answer to each prompt of its group.

        The values do not depend on the other groups, nor on their order.
        """
        raise NotImplementedError

    @abstractmethod
    def facts(self) -> Mapping[str, Any]:
        """For the record: weights, generation settings, …"""


class RunLogger(ABC):
    """Where a run's curves and results go, besides its own record."""

    @property
    @abstractmethod
    def lightning_loggers(self) -> Any:
        """What Lightning's trainer receives as `logger`."""

    @abstractmethod
    def log_result(self, result: Mapping[str, Any]) -> None:
        """Called with the content of `result.json` once the record is complete."""


def sort_by_score(documents: Sequence[Document], scores: Sequence[float]) -> Ranking:
    """Hits in order of falling score; equal scores keep the order of `documents`."""
    positions = sorted(range(len(scores)), key=lambda position: -scores[position])
    ids = Documents.of(documents).ids
    return Ranking(ids, positions, [float(scores[position]) for position in positions])
