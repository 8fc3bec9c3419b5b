"""Profiles as an experiment wants them: cut short, cut off at a date, swapped, without leaks.

A view changes examples as they are read; the store stays as it is.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from random import Random

from lamp_exp.contracts import Task
from lamp_exp.data.dates import parse_date
from lamp_exp.data.leaks import own_items
from lamp_exp.data.store import Store
from lamp_exp.errors import InputError
from lamp_exp.values import Example, PartView, ProfileItem

Items = Sequence[ProfileItem]
HOLDOUT_SHARE = 0.1  # of the users of train
# (task, split, part, id) of inputs that the benchmark worded wrongly: fixes=declared rewords them.
MISWORDED = {("LaMP_2", "user", "dev", "110")}


@dataclass(frozen=True, slots=True)
class View:
    """What becomes of each example of a store."""

    task: Task
    store: Store
    shape: PartView
    before: datetime | None
    misworded: frozenset[str]

    @classmethod
    def of(cls, task: Task, split: str, part: str, store: Store, shape: PartView) -> View:
        """Raises InputError for options that this part cannot satisfy."""
        options = shape.profile
        by_date = options.max_items is not None and options.keep == "newest"
        if (options.before is not None or by_date) and store.meta["first_undated"]:
            _, question, item = store.meta["first_undated"]
            raise InputError(
                f"profile.before and profile.keep=newest need dates, but item {item!r} of question "
                f"{question!r} has none: use split=time, or profile.keep=first"
            )
        defects = {id for *where, id in MISWORDED if where == [task.name, split, part]}
        misworded = frozenset(defects if shape.fixes == "declared" else ())
        return cls(task, store, shape, _limit_date(options.before), misworded)

    def __call__(self, example: Example) -> Example:
        """The example with the input and the profile that the options ask for."""
        options, items = self.shape.profile, self._items(example)
        if self.before is not None:
            items = [item for item in items if item.date is not None and item.date < self.before]
        if options.own_items == "remove":
            own = {item.id for item in own_items(self.task, example.input, items)}
            items = [item for item in items if item.id not in own]
        if options.max_items is not None:
            items = _kept(items, options.max_items, options.keep)
        input = example.input
        if example.id in self.misworded:
            input = self.task.with_template(input)
        return replace(example, input=input, profile=tuple(items))

    def _items(self, example: Example) -> Items:
        """The user's own, or as a control those of a user drawn from (seed, question id)."""
        if self.shape.profile.control == "none":
            return example.profile
        chance = Random(f"{self.shape.seed}:{example.id}:profile")
        for _ in range(1000):
            row = chance.randrange(len(self.store))
            if self.store.user(row) != example.user:
                return self.store.example(row).profile
        raise InputError("profile.control=shuffled_user needs a part with more than one user")


def carved(users: Sequence[str], user_subset: str | None) -> list[int]:
    """The rows of the users who are in the holdout, of the rest, or of all.

    A tenth of the users, by their names alone: the same in every run, whatever the seed.
    """
    if user_subset is None:
        return list(range(len(users)))
    wanted = user_subset == "holdout"
    return [row for row, user in enumerate(users) if _is_held_out(user) == wanted]


def _is_held_out(user: str) -> bool:
    return hashlib.sha256(f"holdout:{user}".encode()).digest()[0] < 256 * HOLDOUT_SHARE


def _kept(items: Items, most: int, keep: str) -> Items:
    """The first in the file, or the newest (of one day, the later in the file) in file order."""
    if keep == "first" or most >= len(items):
        return items[:most]
    dates = [item.date or datetime.min for item in items]
    newest = sorted(range(len(items)), key=lambda n: (dates[n], n))[len(items) - most :]
    return [items[n] for n in sorted(newest)]


def _limit_date(text: str | None) -> datetime | None:
    try:
        return parse_date(text)
    except ValueError as error:
        raise InputError(f"profile.before={text}: {error}") from error
