"""One part of one task, ready to be read: from `data_dir`, or from the made-up sample."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from lamp_exp.contracts import Task
from lamp_exp.data.prepare import prepared
from lamp_exp.data.source import find_source
from lamp_exp.data.store import Examples
from lamp_exp.data.view import View, carved
from lamp_exp.values import PartView


@dataclass(frozen=True, slots=True)
class Part:
    """The examples of one part, in file order, and where they come from.

    `fingerprint` changes with the files' content; `numeric_ids` were JSON numbers in the file
    and are written as such again. `first_undated` names the first question that has an item
    without a date, and the item. `reading` is all that decides which of the file's examples these
    are, and what became of them.
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

    @property
    def facts(self) -> ProfileFacts:
        """TEMPORARY."""
        return _facts(self)

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
    shape: PartView | None = None,
) -> Part:
    """Opens a part, which is prepared (and checked) below `cache_dir` at its first use.

    `limit` keeps its first questions only, `shape` says what else is done to it. Golds are
    optional, but an outputs file must hold one for every question. Raises InputError that
    names file and place of what is wrong.
    """
    source = find_source(data_dir, task, split, part)
    store = prepared(task, source, cache_dir)
    meta, shape = store.meta, shape or PartView()
    view = View.of(task, split, part, store, shape)
    rows = carved(store.column("user", range(len(store))), shape.user_subset)[:limit]
    return Part(
        examples=Examples(store, rows, view),
        source=source.where,
        made_up=source.made_up,
        fingerprint=meta["fingerprint"],
        has_golds=meta["golds"],
        counts=meta["counts"],
        numeric_ids=frozenset(meta["numeric_ids"]),
        first_undated=_first_undated(meta["first_undated"], limit),
        reading={"split": split, "part": part, "limit": limit, **_essence(shape)},
    )


def _essence(shape: PartView) -> dict[str, Any]:
    """The seed counts where chance does: other users' profiles are drawn from it."""
    drawn = shape.profile.control != "none"
    return {**asdict(shape), "seed": shape.seed if drawn else None}


def _first_undated(found: list[Any] | None, limit: int | None) -> tuple[str, str] | None:
    if found is None or (limit is not None and found[0] >= limit):
        return None
    return str(found[1]), str(found[2])


@dataclass
class ProfileFacts:
    """TEMPORARY."""

    profile_size: list[int]
    newest_item_days: list[float | None]
    profile_days: list[float | None]
    own_items: list[int]
    later_items: list[int]

    def counts(self) -> dict[str, int]:
        return {
            "questions": len(self.profile_size),
            "profile_items": sum(self.profile_size),
            "empty_profiles": sum(not n for n in self.profile_size),
            "items_dated_after_the_question": sum(self.later_items),
            "profiles_that_hold_the_question": sum(bool(n) for n in self.own_items),
        }


def _facts(part: Part) -> ProfileFacts:
    from lamp_exp.data.leaks import own_items

    made = ProfileFacts([], [], [], [], [])
    for e in part.examples:
        dates = [i.date for i in e.profile if i.date is not None]
        made.profile_size.append(len(e.profile))
        made.newest_item_days.append(
            (e.date - max(dates)).total_seconds() / 86400 if dates and e.date else None
        )
        made.profile_days.append(
            (max(dates) - min(dates)).total_seconds() / 86400 if dates else None
        )
        task: Any = part.examples.view
        made.own_items.append(len(own_items(task.task, e.input, e.profile)))
        made.later_items.append(
            0 if e.date is None else sum(i.date is not None and i.date > e.date for i in e.profile)
        )
    return made
