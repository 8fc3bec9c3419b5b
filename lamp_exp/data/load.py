"""Loads one part of one task from `data_dir`, or from the made-up sample."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from random import Random
from typing import Any

from lamp_exp.contracts import Task
from lamp_exp.data.examples import Examples
from lamp_exp.data.facts import ProfileFacts
from lamp_exp.data.neighbours import NeighbourSource
from lamp_exp.data.prepare import prepared
from lamp_exp.data.source import find_source
from lamp_exp.data.view import StoreView, user_subset_rows
from lamp_exp.values import PartView


@dataclass(frozen=True)
class Part:
    """The examples of one part, in file order, and where they come from.

    `fingerprint` changes with the files' content; `numeric_ids` were JSON numbers in the file
    and are written as such again. `first_undated` is the first question with an item without a
    date, and the item. `reading` is everything that decides which of the file's examples these
    are, and how they were changed.
    """

    examples: Examples
    source: str
    made_up: bool
    fingerprint: str
    has_golds: bool
    counts: Mapping[str, int] = field(default_factory=dict)
    numeric_ids: frozenset[str] = frozenset()
    first_undated: tuple[str, str] | None = None
    reading: Mapping[str, Any] = field(default_factory=dict)

    @cached_property
    def facts(self) -> ProfileFacts:
        """What is recorded of the profiles."""
        return ProfileFacts.of(self.examples)

    def original_id(self, id: str) -> str | int:
        """An id as the file had it."""
        return int(id) if id in self.numeric_ids else id


def load(
    data_dir: str | None,
    task: Task,
    split: str,
    part: str,
    limit: int | None = None,
    cache_dir: Path = Path("outputs/.cache"),
    view: PartView | None = None,
    neighbours: NeighbourSource | None = None,
) -> Part:
    """Opens a part, which is prepared (and checked) below `cache_dir` at its first use.

    Without a `data_dir` it is the made-up sample. `limit` reads so many of its questions, and
    `view` says which ones and what else is changed on reading; profile.pool=neighbours needs
    `neighbours`. Golds are optional, but an
    outputs file must hold one for every question. Raises InputError that names
    file and place of what is wrong.
    """
    source = find_source(data_dir, task, split, part)
    store = prepared(task, source, cache_dir)
    meta, view = store.meta, view or PartView()
    seen = StoreView.of(task, split, part, store, view, neighbours)
    rows = user_subset_rows(store.users, view.user_subset)
    rows = _limited(rows, limit, view, f"{task.name}:{split}:{part}")
    by_chance = limit is not None and view.limit_sample == "random"
    profile = view.profile
    drawn = by_chance or profile.control != "none" or profile.pool == "all_users"
    shown = rows if profile.pool == "own" else range(len(store))  # whose profiles may be shown
    return Part(
        examples=Examples(store, rows, seen),
        source=source.where,
        made_up=meta["made_up"],
        fingerprint=meta["fingerprint"],
        has_golds=meta["golds"],
        counts=meta["counts"],
        numeric_ids=frozenset(meta["numeric_ids"]),
        first_undated=_first_undated(meta["first_undated"], shown),
        reading={
            "split": split,
            "part": part,
            "limit": limit,
            **asdict(view),
            "seed": view.seed if drawn else None,  # where it counts
        },
    )


def check_sources(task: Task, data_dir: str | None, split: str, parts: Iterable[str]) -> None:
    """Raises InputError for a part whose files are not there; nothing is read."""
    for part in sorted(parts):
        find_source(data_dir, task, split, part)


def _limited(rows: Sequence[int], limit: int | None, view: PartView, name: str) -> Sequence[int]:
    """At most `limit` rows in file order: the first, or rows drawn by the seed."""
    if limit is None or limit >= len(rows) or view.limit_sample == "first":
        return rows[:limit]
    return sorted(Random(f"{view.seed}:{name}:limit").sample(rows, limit))


def _first_undated(stored: list[Any] | None, rows: Sequence[int]) -> tuple[str, str] | None:
    if stored is None or not rows or stored[0] > rows[-1]:
        return None
    return str(stored[1]), str(stored[2])
