"""An experiment as a value: built components and typed options, and the configuration behind them.

`Experiment` is what the stages work with. `Configuration` is what the user chose, as plain values:
identity, record and messages are made from it, and no stage reads it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lamp_exp.artefacts import Adapter
from lamp_exp.contracts import Augmentation, DenseRetriever, Model, Retriever, Summary, Task
from lamp_exp.errors import naming
from lamp_exp.options import FEEDBACK, Usage, value_at
from lamp_exp.values import Example, FeedbackOptions, Hit, PartView, Prompt

NO_PROFILE = 0  # as k: the baseline


@dataclass(frozen=True, slots=True)
class DataOptions:
    """Which questions are read, and from where.

    `selection` says what epochs are chosen on. With a `fold`, only that half of the users of train
    is asked, and everything learns from the other half.
    `neighbours_by` compares profiles, for profile.pool=neighbours.
    """

    data_dir: str | None
    split: str
    part: str
    limit: int | None
    view: PartView
    selection: str
    cache_dir: Path
    neighbours_by: DenseRetriever | None = None
    fold: int | None = None


@dataclass(frozen=True, slots=True)
class Retrieval:
    """How profiles are ranked, and which ranks are shown: `k` items after the first `skip`."""

    retriever: Retriever
    k: int
    skip: int
    document_dates: bool
    processes: int | None

    @property
    def used_k(self) -> int:
        """The most items that a prompt can show."""
        return self.k if self.retriever.uses_profile else NO_PROFILE

    @property
    def used_skip(self) -> int:
        """The ranks passed over, if any item is shown."""
        return self.skip if self.used_k else 0


@dataclass(frozen=True, slots=True)
class TrainerOptions:
    """`build` makes Lightning's trainer; `max_epochs` is None where the task decides.

    `train_batches` is how many batches of an epoch are used, or their share; None: all.
    """

    build: Callable[..., Any]
    precision: str
    max_epochs: int | None
    train_batches: int | float | None = None

    def one_process(self, **options: Any) -> Any:
        """Lightning's trainer for one process, without files and bars of its own."""
        alone = {"devices": 1, "num_nodes": 1, "strategy": "auto"}
        quiet = {"logger": False, "enable_progress_bar": False}
        return self.build(**{**alone, **quiet, **options})


@dataclass(frozen=True, slots=True)
class Reader:
    """The model that gives feedback, and how its prompts are made.

    `build` makes the model with the weights of another folder, or anew with its own (None).
    `settings` are the options that decide its rewards, and `training` those of fine-tuning it, as
    JSON. `checkpoint` says how the prompts of a fine-tuned reader were made; it is empty for any
    other.
    """

    model: Model
    build: Callable[[str | None], Model]
    augmentation: Augmentation
    max_length: int
    trainer: TrainerOptions
    feedback: FeedbackOptions
    settings: Mapping[str, Any]
    training: Mapping[str, Any]
    checkpoint: Mapping[str, Any]

    def prompt(self, task: Task, example: Example, hits: Sequence[Hit]) -> Prompt:
        """What the reader reads for a question with some items."""
        with naming(self.augmentation, "__call__", example.id):
            counter = self.model.token_counter
            return self.augmentation(task, example, hits, counter, self.max_length)

    def one_process(self, **options: Any) -> Any:
        """See `TrainerOptions.one_process`."""
        return self.trainer.one_process(**options)


@dataclass(frozen=True, slots=True)
class Writer:
    """The model that writes summaries.

    `model` has its tokenizer and its checks; `build` makes another one with weights, so that they
    can be given up when the texts are written. `settings` are the options that decide them, as
    JSON.
    """

    model: Model
    build: Callable[[], Model]
    trainer: TrainerOptions
    settings: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Experiment:
    """One experiment; components that its mode does not need are None."""

    mode: str
    task: Task
    data: DataOptions
    retrieval: Retrieval
    augmentation: Augmentation | None
    model: Model | None
    max_length: int
    trainer: TrainerOptions | None
    logger: Callable[..., Any] | None
    from_checkpoint: bool  # of this project: its model was fine-tuned before
    reader: Reader | None = None
    adapter: Adapter | None = None
    personal_groups: frozenset[str] = frozenset()  # of options.PERSONAL_GROUPS: those in use
    general_groups: frozenset[str] = frozenset()  # those of them that read no profile
    summary: Summary | None = None
    writer: Writer | None = None

    @property
    def usage(self) -> Usage:
        """What the experiment does, which decides the options that matter."""
        retriever, k = self.retrieval.retriever, self.retrieval.k
        others, writes = self.personal_groups, self.writer is not None
        reads = (retriever.uses_profile, k, retriever.learns)
        return Usage.of(self.mode, *reads, others, writes, self.general_groups)

    @property
    def learns_from_train(self) -> bool:
        """Whether a component other than the model learns from train."""
        return bool(self.learners)

    @property
    def learners(self) -> tuple[str, ...]:
        """The groups whose component learns from train, but for the model."""
        retriever, usage, found = self.retrieval.retriever, self.usage, []
        if usage.reads and self.mode != FEEDBACK and not retriever.is_bound:
            found.append("retriever")
        if self.adapter and self.adapter.learns_from_train and "adapter" in usage.others:
            found.append("adapter")
        return tuple(found)

    @property
    def neighbours_by(self) -> DenseRetriever | None:
        """What compares profiles, if profiles are read and neighbours are asked for."""
        return self.data.neighbours_by if self.usage.reads_profile else None


@dataclass(frozen=True, slots=True)
class Configuration:
    """The configuration of an experiment as plain values.

    `choices` are the names of the chosen group options, `settings` the whole resolved
    configuration. `changed` holds the options that differ from their defaults, by dotted name;
    `component_values` the other options of the chosen components, at the values of their YAML.
    """

    choices: Mapping[str, str]
    settings: Mapping[str, Any]
    changed: Mapping[str, Any]
    component_values: Mapping[str, Any]

    def value(self, name: str) -> Any:
        """A resolved value by its dotted name; None where there is none."""
        return value_at(self.settings, name)


def flatten(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Nested values by their dotted names; empty mappings count as values."""
    for key, value in values.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping) and value:
            yield from flatten(value, f"{name}.")
        else:
            yield name, value
