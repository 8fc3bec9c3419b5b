"""The contracts of what is made once and needed by many runs: feedback, fitted components, …

An artefact states what it is (`identity`) and what it needs (`requires`). `storage.artefacts` makes
it once, after what it needs, under a lock, and resumes what was interrupted. A component that
learns says which artefacts it needs, given a `FitSource`, and loads them.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from lamp_exp.contracts import Component, Retriever
from lamp_exp.errors import InputError

if TYPE_CHECKING:
    from lamp_exp.values import RewardedList

WORK = "work"  # below an artefact's folder: what an interrupted call goes on from


@dataclass(frozen=True, slots=True)
class Cost:
    """What making an artefact takes, as far as it is known beforehand: `units` of `what`."""

    units: int
    what: str

    def __str__(self) -> str:
        return f"{self.units:,} {self.what}"


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
