"""The contracts of what is made once and needed by many runs: feedback, fitted components, …

An artefact states what it is (`identity`) and what it needs (`requires`). `storage.artefacts` makes
it once, after what it needs, under a lock, and resumes what was interrupted. A component that
learns says which artefacts it needs, given a `FitSource`, and loads them.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from lamp_exp.contracts import Component, Model, Retriever, Task
from lamp_exp.errors import InputError, naming

if TYPE_CHECKING:
    from lamp_exp.values import (
        Choice,
        History,
        Prediction,
        Prompt,
        RewardedList,
        RoutedQuestion,
        TrainQuestion,
    )

WORK = "work"  # below an artefact's folder: what an interrupted call goes on from


@dataclass(frozen=True, slots=True)
class Cost:
    """What making an artefact takes, as far as it is known beforehand: `units` of `what`.

    `what` is in the singular; `more` follows it in messages.
    """

    units: int
    what: str
    more: str = ""

    def __str__(self) -> str:
        return f"{self.units:,} {self.what}{'' if self.units == 1 else 's'}{self.more}"


class Artefact(ABC):
    """Something that is made once, below a folder of its own.

    `kind` is its name in messages and in the store.
    """

    kind: ClassVar[str]

    @abstractmethod
    def identity(self) -> Mapping[str, Any]:
        """All that decides its content, as JSON, what it requires included."""

    def requires(self) -> Sequence[Artefact]:
        """The artefacts that must be made before; no artefact requires itself."""
        return ()

    @abstractmethod
    def cost(self) -> Cost:
        """What making it takes; nothing is loaded and no network is used."""

    @abstractmethod
    def make(self, folder: Path, required: Sequence[Path]) -> Mapping[str, Any]:
        """Makes it in `folder`, which holds what an interrupted call left; returns its facts.

        `required` are the folders of what it requires, in that order. What only serves to resume
        goes into `folder / WORK`, which is there, and removed once the artefact is finished.
        """


class KeyedArtefact(Artefact):
    """One unit per key, such as an adapter per profile; units are made and kept one by one.

    `identity` says how a unit is made, but not of which keys: runs on other questions share the
    units of equal keys.
    """

    @abstractmethod
    def unit_keys(self) -> Sequence[str]:
        """The distinct keys of the units that are needed, as names of folders."""

    @abstractmethod
    def make_units(
        self, keys: Sequence[str], write: UnitWriter, required: Sequence[Path]
    ) -> Mapping[str, Any]:
        """Makes the units of `keys`, each through `write`; returns facts."""

    def unit_facts(self, folder: Path) -> Mapping[str, Any]:
        """For the record: facts on all units that are needed, whenever they were made."""
        return {}

    def check_unit(self, folder: Path) -> None:
        """Raises Damaged if the files of a unit are not what was written; it is then made again."""

    def make(self, folder: Path, required: Sequence[Path]) -> Mapping[str, Any]:
        """Not used: the store calls `make_units`."""
        raise NotImplementedError


class UnitWriter(ABC):
    """Keeps the units of a `KeyedArtefact`, each whole or not at all."""

    @abstractmethod
    def unit(self, key: str) -> Any:
        """A context that yields an empty folder; it is the unit of `key` when the block ends."""


@dataclass(frozen=True, slots=True)
class Made:
    """A finished artefact: its folder, its facts, and whether it was there before."""

    kind: str
    folder: Path
    facts: Mapping[str, Any] = field(default_factory=dict)
    was_there: bool = False


class FitSource(ABC):
    """What a component may learn from: the questions of train, and never those that are asked.

    `options` are those options of the component that decide its results, as JSON. `seed` is the
    run's.
    """

    seed: int
    options: Mapping[str, Any]

    @abstractmethod
    def code(self, component: Component) -> str:
        """The fingerprint of a component's code, for the identity of what it learns."""

    @abstractmethod
    def feedback(self, base: Retriever) -> Artefact:
        """The rewards of the items that `base` ranks best, for the questions of train."""

    @abstractmethod
    def rewarded_lists(self, feedback: Path) -> list[RewardedList]:
        """The rewarded items of each question of train, with the texts that retrievers read."""


class LearnedRetriever(Retriever):
    """A retriever that needs artefacts before it can rank.

    `is_bound` says that it reads the golds of the asked part: its results are a bound, and no
    system. Its source then has the feedback of that part, and of no other.
    """

    learns: ClassVar[bool] = True

    def validate_base(self, base: Retriever) -> None:
        """Raises InputError for a retriever that cannot rank the candidates of this one."""
        if base.learns:
            raise InputError(
                "retriever.base learns from feedback itself: choose a fixed one, such as "
                "retriever@retriever.base=bm25"
            )
        if not base.uses_profile:
            raise InputError("retriever.base ranks nothing: choose another one")
        base.validate()

    @abstractmethod
    def artefacts(self, source: FitSource) -> Sequence[Artefact]:
        """What it needs; the same for the same source and options."""

    @abstractmethod
    def load(self, made: Sequence[Made]) -> None:
        """Called with what `artefacts` asked for, before any ranking."""


class TrainSource(ABC):
    """The questions of train with their golds, for an adapter that learns from them.

    `identity` is all that decides them and their prompts, as JSON. `requires` are the artefacts
    that their prompts need, such as summaries.
    """

    task: Task
    identity: Mapping[str, Any]
    requires: Sequence[Artefact]

    @abstractmethod
    def questions(self) -> Sequence[TrainQuestion]:
        """All of them, with their prompts."""

    @abstractmethod
    def history(self, question: str) -> History:
        """What the question of that id asks about, and its user's items."""


class ProfileSource(ABC):
    """What an adapter may learn from: the profiles of the questions that are asked, and train.

    Each profile is without its question's own item, and has a key that its content decides:
    questions with equal profiles share one. `model` is the one that answers, `trainer` builds the
    trainer that it runs with. `reading` is all that decides its weights and the pairs of a profile,
    as JSON: `model` and more. `options` are those options of the adapter that decide its results.
    `train` is there for an adapter that `learns_from_train`, and None for any other.
    """

    seed: int
    options: Mapping[str, Any]
    model: Model
    trainer: Callable[..., Any]
    reading: Mapping[str, Any]
    train: TrainSource | None = None

    @abstractmethod
    def code(self, component: Component) -> str:
        """The fingerprint of a component's code, for the identity of what it learns."""

    @abstractmethod
    def profile_keys(self) -> Sequence[str]:
        """The distinct keys, in the order of the questions."""

    @abstractmethod
    def questions(self) -> Sequence[str]:
        """The ids of the questions."""

    @abstractmethod
    def key_of(self, question: str) -> str:
        """The key of the profile of a question, given its id."""

    @abstractmethod
    def history(self, question: str) -> History:
        """What the question of that id asks about, and its user's items."""

    @abstractmethod
    def size(self, key: str) -> int:
        """The number of items that the profile has pairs of."""

    @property
    @abstractmethod
    def items_without_pair(self) -> int:
        """The number of items, over all keys, that there is nothing to learn from."""

    @abstractmethod
    def pairs(self, key: str, base: Retriever, k: int) -> list[tuple[Prompt, str]]:
        """A prompt with its target for each item, oldest first; in the profile's order if undated.

        The prompt shows the best `k` of the items before it, as `base` ranks them.
        """


class Adapter(Component):
    """Adapts the model that answers to the user of each question.

    This class is also the base of the adapter that does nothing. `uses_profile` says that the
    question's profile decides how the model is adapted, `learns_from_train` that it learns from the
    questions of train and their golds; an adapter of which neither holds is none. `trains_model`
    says that it changes the model's own weights.
    """

    uses_profile: ClassVar[bool]
    learns_from_train: ClassVar[bool] = False

    @property
    def trains_model(self) -> bool:
        """Whether the model's own weights learn along."""
        return False

    def validate(self, mode: str, task: Task, model: Model, precision: str = "") -> None:
        """Raises InputError, before any long work, for what cannot be adapted.

        `precision` is the one that the model runs with.
        """

    def artefacts(self, source: ProfileSource) -> Sequence[Artefact]:
        """What it needs; the same for the same source and options."""
        return ()

    def load(self, made: Sequence[Made], source: ProfileSource) -> None:
        """Called with what `artefacts` asked for, before the model answers."""

    def prepare(self, model: Model) -> None:
        """Called in each process when the model's weights are loaded, before it answers."""

    def groups(self, prompts: Sequence[Prompt]) -> Sequence[Sequence[Prompt]] | None:
        """The prompts in groups, if each must be answered in a batch of its own.

        A group is answered by one process, without others between. None: batches may be mixed.
        """
        return None

    def enter(self, model: Model, ids: Sequence[str]) -> None:
        """Called before a batch with the questions of these ids is answered."""

    def soft_tokens(self, model: Model, ids: Sequence[str]) -> Any:
        """Vectors that the model reads in front of each prompt, (questions, tokens, width).

        Each depends on its question alone, not on the others of the batch. None: there are none.
        """
        return None

    def facts(self) -> Mapping[str, Any]:
        """For the record, after the answers: what was learned, and what it took."""
        return {}


@dataclass(frozen=True, slots=True)
class RouterSource:
    """What a router may learn from: the candidates' answers to the questions of train.

    `options` are those of the router that decide its choices, as JSON; `code` is the fingerprint
    of its code. `seed` is the run's.
    """

    candidates: Sequence[str]
    questions: Sequence[RoutedQuestion]
    options: Mapping[str, Any]
    code: str
    seed: int


@dataclass(frozen=True, slots=True)
class LanguageModel:
    """A model that a component may ask, and how it is run; `max_length` are tokens of a prompt."""

    model: Model
    trainer: Callable[..., Any]
    precision: str
    max_length: int

    def validate(self) -> None:
        """Raises InputError for a model that cannot be loaded or run."""
        self.model.validate(False, self.precision, self.trainer)

    def answer(self, prompts: Sequence[Prompt]) -> Sequence[Prediction]:
        """One prediction per prompt, in order."""
        with naming(self.model, "predict"):
            return self.model.predict(prompts, self.trainer)


class Router(Component, ABC):
    """Chooses, for each question, one of several candidates, each of which has answered it.

    `learns` says that it needs the candidates' answers to train, and their rewards. `is_bound`
    says that it reads the rewards of the asked part: its results are a bound, and no system's.
    `asks_a_model` says that it is built with a `language_model`, by its options `model` (the name
    of a YAML), `name` (weights), `max_length` and `max_new_tokens`.
    """

    routes: ClassVar[bool] = True
    is_bound: ClassVar[bool] = False
    asks_a_model: ClassVar[bool] = False

    @property
    def learns(self) -> bool:
        """Whether it needs the candidates' answers to train."""
        return False

    @property
    def folds(self) -> int:
        """In how many folds the users of train are crossed, if it learns."""
        return 1

    def validate(self, candidates: Sequence[str]) -> None:
        """Raises InputError, before any long work, for what this router cannot do."""

    def artefacts(self, source: RouterSource) -> Sequence[Artefact]:
        """What it needs, if it learns; the same for the same source."""
        return ()

    def load(self, source: RouterSource, made: Sequence[Made]) -> None:
        """Called with what `artefacts` asked for, before any choice, if it learns."""

    @abstractmethod
    def choose(
        self, task: Task, candidates: Sequence[str], questions: Sequence[RoutedQuestion]
    ) -> Sequence[Choice]:
        """One choice per question, in order; each depends on its question alone.

        Questions have rewards only if `is_bound`.
        """

    def facts(self) -> Mapping[str, Any]:
        """For the record: counts of texts cut, the device, …"""
        return {}
