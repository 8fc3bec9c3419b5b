"""The questions of a part with their profiles, read from a store when they are looked at."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, overload

from lamp_exp.data.store import Profiles, Store
from lamp_exp.data.view import StoreView
from lamp_exp.storage.arrow import strings
from lamp_exp.values import Example, ProfileItem

READ_TOGETHER = 20  # questions: reading them together is faster, and takes memory


@dataclass(frozen=True, slots=True)
class Block:
    """Some questions, and all items of their profiles one after the other."""

    ids: Sequence[str]
    inputs: Sequence[str]
    profiles: Profiles
    items: Iterator[ProfileItem]


class Examples(Sequence[Example]):
    """Some questions of a store, read through a view."""

    def __init__(self, store: Store, rows: Sequence[int], view: StoreView) -> None:
        """`rows` are the questions, in order; nothing is read yet."""
        self.store = store
        self.rows = rows
        self.view = view

    def __len__(self) -> int:
        return len(self.rows)

    @overload
    def __getitem__(self, index: int) -> Example: ...
    @overload
    def __getitem__(self, index: slice) -> list[Example]: ...
    def __getitem__(self, index: int | slice) -> Example | list[Example]:
        if isinstance(index, slice):
            return self._read(self.rows[index])
        return self._read([self.rows[index]])[0]

    def __iter__(self) -> Iterator[Example]:
        for start in range(0, len(self), READ_TOGETHER):
            yield from self[start : start + READ_TOGETHER]

    def column(self, name: str) -> list[Any]:
        """`id`, `user` or `target` of all questions, without their profiles."""
        return self.store.column(name, self.rows)

    def inputs(self) -> list[str]:
        """The inputs of all questions, without their profiles."""
        return self.view.inputs(self.rows)

    def item_ids(self) -> Iterator[Sequence[str]]:
        """The ids of each profile's items, without their texts."""
        for start in range(0, len(self), 25 * READ_TOGETHER):
            profiles = self.view.profiles(self.rows[start : start + 25 * READ_TOGETHER])
            yield from profiles.split(strings(profiles.ids))

    def block(self, start: int, stop: int) -> Block:
        """What ranking needs of the questions from number `start` to `stop`."""
        rows = self.rows[start:stop]
        profiles = self.view.profiles(rows)
        items = self.store.profile_items(profiles)
        return Block(self.store.column("id", rows), self.view.inputs(rows), profiles, items)

    def _read(self, rows: Sequence[int]) -> list[Example]:
        profiles = self.view.profiles(rows)
        ids, users, targets = (self.store.column(name, rows) for name in ("id", "user", "target"))
        dates = self.store.dates(rows).tolist()
        inputs = self.view.inputs(rows)
        items = profiles.split(tuple(self.store.profile_items(profiles)))
        return list(map(Example, ids, users, inputs, items, targets, dates))
