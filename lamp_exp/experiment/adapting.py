"""The profiles of the asked questions, which adapters read; they never read their golds."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from lamp_exp.artefacts import ProfileSource, TrainSource
from lamp_exp.contracts import Component, Model, Retriever, Task
from lamp_exp.data.leaks import own_positions
from lamp_exp.errors import naming
from lamp_exp.experiment.code_fingerprint import code_fingerprint
from lamp_exp.experiment.experiment import Configuration, Experiment
from lamp_exp.experiment.identity import deciding_options
from lamp_exp.progress import progress
from lamp_exp.values import (
    Document,
    Documents,
    Example,
    History,
    Hit,
    ProfileItem,
    Prompt,
    Query,
)


@dataclass(frozen=True, slots=True)
class _Profile:
    """Where a profile is first read, as the number of a question, and how many pairs it has."""

    row: int
    items: int
    pairs: int


class Histories:
    """What questions ask about, and the texts of their profiles, read when they are asked for."""

    def __init__(self, task: Task, examples: Sequence[Example]) -> None:
        self.task = task
        self.examples = examples
        self._rows = {id: row for row, id in enumerate(_ids(examples))}

    def of(self, question: str) -> History:
        """The history of the question of that id."""
        task, example = self.task, self.examples[self._rows[question]]
        with naming(task, "document", question):
            items = other_items(task, example)
            about = task.query_source_text(example.input) or task.query(example.input)
            texts = [task.document(item) for item in items]
        return History(about, texts, len(example.profile) - len(items))


def _ids(examples: Sequence[Example]) -> list[str]:
    """The questions' ids; of a part, without reading its profiles."""
    column = getattr(examples, "column", None)
    return list(column("id")) if column else [example.id for example in examples]


def other_items(task: Task, example: Example) -> list[ProfileItem]:
    """The items of a profile that are not the question itself."""
    own = set(own_positions(task, example.input, example.profile))
    return [item for number, item in enumerate(example.profile) if number not in own]


@dataclass(frozen=True)
class AskedProfiles(ProfileSource):
    """The profiles of questions, each less the item that is its question itself."""

    experiment: Experiment
    configuration: Configuration
    examples: Sequence[Example]
    train: TrainSource | None = None

    @property
    def seed(self) -> int:  # type: ignore[override]
        return int(self.configuration.value("seed"))

    @property
    def options(self) -> Mapping[str, Any]:  # type: ignore[override]
        return deciding_options("adapter", self.configuration.value("adapter"))

    @property
    def model(self) -> Model:  # type: ignore[override]
        assert self.experiment.model, "adapters are for modes that answer"
        return self.experiment.model

    @property
    def trainer(self) -> Callable[..., Any]:  # type: ignore[override]
        assert self.experiment.trainer, "adapters are for modes that answer"
        return self.experiment.trainer.build

    @property
    def reading(self) -> Mapping[str, Any]:  # type: ignore[override]
        value, trainer = self.configuration.value, self.experiment.trainer
        return {
            "task_name": self.experiment.task.name,
            "task": value("task"),
            "model": deciding_options("model", value("model")),
            "augmentation": deciding_options("augmentation", value("augmentation")),
            **{name: value(name) for name in ("max_length", "max_new_tokens")},
            "precision": trainer.precision if trainer else "",
        }

    def code(self, component: Component) -> str:
        parts = [self.experiment.task, self.experiment.augmentation, self.experiment.model]
        return code_fingerprint(AskedProfiles, component, *filter(None, parts))

    @cached_property
    def _histories(self) -> Histories:
        return Histories(self.experiment.task, self.examples)

    def history(self, question: str) -> History:
        return self._histories.of(question)

    def profile_keys(self) -> list[str]:
        return list(self._profiles)

    def questions(self) -> list[str]:
        return _ids(self.examples)

    def key_of(self, question: str) -> str:
        return self._keys[question]

    def size(self, key: str) -> int:
        return self._profiles[key].pairs

    @property
    def items_without_pair(self) -> int:
        return sum(profile.items - profile.pairs for profile in self._profiles.values())

    def pairs(self, key: str, base: Retriever, k: int) -> list[tuple[Prompt, str]]:
        task, pairs = self.experiment.task, []
        items = self._items(self.examples[self._profiles[key].row])
        for number, item in enumerate(items):
            if pair := task.item_pair(item, self.seed):
                earlier = tuple(items[:number]) if k else ()
                asked = Example(f"{key}:{number}", key, pair[0], earlier, date=item.date)
                pairs.append((self._prompt(asked, self._best(asked, base, k)), pair[1]))
        return pairs

    def _best(self, asked: Example, base: Retriever, k: int) -> Sequence[Hit]:
        """The best `k` items of a profile."""
        if not (k and asked.profile):
            return ()
        task = self.experiment.task
        documents = [Document(i.id, task.document(i), i.date) for i in asked.profile]
        with naming(base, "rank", asked.id):
            query = Query(asked.id, task.query(asked.input))
            return base.rank(query, Documents.of(documents))[:k]

    def _prompt(self, asked: Example, hits: Sequence[Hit]) -> Prompt:
        augmentation, length = self.experiment.augmentation, self.experiment.max_length
        assert augmentation, "adapters are for modes that answer"
        with naming(augmentation, "__call__", asked.id):
            counter = self.model.token_counter
            return augmentation(self.experiment.task, asked, hits, counter, length)

    # --- profiles ------------------------------------------------------------------------------

    @cached_property
    def _read(self) -> tuple[dict[str, str], dict[str, _Profile]]:
        """The key of each question, and the profiles by their keys."""
        task, keys = self.experiment.task, {}
        profiles: dict[str, _Profile] = {}
        examples = progress(self.examples, len(self.examples), "profiles")
        for row, example in enumerate(examples):
            items = self._items(example)
            key = keys[example.id] = profile_key(items, task.fields)
            if key not in profiles:
                with naming(task, "item_pair", example.id):
                    pairs = sum(task.item_pair(item, self.seed) is not None for item in items)
                profiles[key] = _Profile(row, len(items), pairs)
        return keys, profiles

    @property
    def _keys(self) -> dict[str, str]:
        return self._read[0]

    @property
    def _profiles(self) -> dict[str, _Profile]:
        return self._read[1]

    def _items(self, example: Example) -> list[ProfileItem]:
        """The items that may be learned from: oldest first, if all are dated."""
        task = self.experiment.task
        items = other_items(task, example)
        if all(item.date is not None for item in items):
            items.sort(key=lambda item: (item.date, _content(item, task.fields)))
        return items


def profile_key(items: Sequence[ProfileItem], fields: Sequence[str]) -> str:
    """A name for the content of a profile: dates and texts in their order, and no ids."""
    content = [[str(item.date), *_content(item, fields)] for item in items]
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()[:24]


def _content(item: ProfileItem, fields: Sequence[str]) -> list[str]:
    return [item.fields[name] for name in fields]
