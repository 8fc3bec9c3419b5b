"""Applies profile options to a prepared part: limits, dates, other users, leaks.

A view selects items by columns of the store; the store stays as it is.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from functools import partial
from random import Random

import numpy as np
from numpy.typing import NDArray

from lamp_exp.contracts import Task
from lamp_exp.data.dates import parse_date
from lamp_exp.data.leaks import own_positions, same_text
from lamp_exp.data.neighbours import Neighbours, NeighbourSource
from lamp_exp.data.store import Profiles, Store
from lamp_exp.errors import InputError
from lamp_exp.values import PartView, ProfileOptions

HOLDOUT_SHARE = 0.1  # of the users of train
FOLDS = 2  # of the users of train, when what learns from one answers for the other
POOL_DRAWS = 64  # items that are drawn for a question; more than any k
LEFT_OUT = "items_left_out_of_the_pool"
# (task, split, part, id) of inputs that the benchmark worded wrongly: fixes=declared rewords them.
MISWORDED = {("LaMP_2", "user", "dev", "110")}


@dataclass(frozen=True, slots=True)
class StoreView:
    """What the options of a `PartView` select of a store."""

    task: Task
    store: Store
    options: PartView
    before: datetime | None
    reworded: frozenset[str]
    neighbours: Neighbours | None = None

    @classmethod
    def of(
        cls,
        task: Task,
        split: str,
        part: str,
        store: Store,
        options: PartView,
        source: NeighbourSource | None = None,
    ) -> StoreView:
        """Raises InputError for options that this part cannot satisfy.

        `source` is needed for profile.pool=neighbours.
        """
        profile = options.profile
        if profile.pool != "own":
            _refuse_other_options(profile)
        newest = profile.max_items is not None and profile.keep == "newest"
        if (profile.before is not None or newest) and store.meta["first_undated"]:
            _, question, item = store.meta["first_undated"]
            raise InputError(
                f"profile.before and profile.keep=newest need dates, but item {item!r} of question "
                f"{question!r} has none: use split=time, or profile.keep=first"
            )
        reworded = known_defects(task, split, part) if options.fixes == "declared" else frozenset()
        view = cls(task, store, options, _parse_limit(profile.before), reworded)
        return view._with_neighbours(source) if profile.pool == "neighbours" else view

    def inputs(self, rows: Sequence[int]) -> list[str]:
        inputs = self.store.column("input", rows)
        if not self.reworded:
            return inputs
        ids = self.store.column("id", rows)
        return [
            self.task.with_template(input) if id in self.reworded else input
            for id, input in zip(ids, inputs, strict=True)
        ]

    def profiles(self, rows: Sequence[int]) -> Profiles:
        return self.counted_profiles(rows)[0]

    def counted_profiles(self, rows: Sequence[int]) -> tuple[Profiles, Mapping[str, int]]:
        """The profiles, and counts of what `profile.pool` added to them and left out."""
        match self.options.profile.pool:
            case "all_users":
                return self._drawn_items(rows)
            case "neighbours":
                return self._own_and_neighbours(rows)
        return self._own_profiles(rows), {}

    def _own_profiles(self, rows: Sequence[int]) -> Profiles:
        options, profiles = self.options.profile, self._all_items(rows)
        if self.before is not None:
            profiles = profiles.keep(profiles.dates < np.datetime64(self.before))
        if options.own_items == "remove":
            profiles = profiles.keep(~self.own_items(rows, profiles))
        if options.max_items is not None:
            profiles = profiles.keep(_first_or_newest(profiles, options.max_items, options.keep))
        return profiles

    def own_items(self, rows: Sequence[int], profiles: Profiles) -> NDArray[np.bool_]:
        """Which items of the questions' `profiles` are the questions' own."""
        options = self.options.profile
        known = options.control == "none" and options.pool != "all_users" and not self.reworded
        return profiles.own if known else self._own_by_text(rows, profiles)

    def _own_by_text(self, rows: Sequence[int], profiles: Profiles) -> NDArray[np.bool_]:
        own = np.zeros(len(profiles.rows), np.bool_)
        items = profiles.split(list(self.store.profile_items(profiles)))
        for input, start, profile in zip(self.inputs(rows), profiles.starts, items, strict=True):
            for position in own_positions(self.task, input, profile):
                own[start + position] = True
        return own

    def _all_items(self, rows: Sequence[int]) -> Profiles:
        """The users' own profiles, or as a control those of other users."""
        if self.options.profile.control != "none":
            ids = self.store.column("id", rows)
            rows = [self._other_user(row, id) for row, id in zip(rows, ids, strict=True)]
        return self.store.profiles(rows)

    def _drawn_items(self, rows: Sequence[int]) -> tuple[Profiles, Mapping[str, int]]:
        """Items of all users, drawn by the seed and the question's id, but for those that tell.

        Left out are items with the question's own text or its gold, and items of the same user
        that are dated after the question, or after its profile if it has no date.
        """
        pool, ids = range(int(self.store.item_ends[-1])), self.store.column("id", rows)
        draws = min(POOL_DRAWS, len(pool))
        generators = [Random(f"{self.options.seed}:{id}:pool") for id in ids]
        picks = [np.array(one.sample(pool, draws), np.int64) for one in generators]
        drawn, owners = self.store.picked_items(picks)
        users = self.store.users
        pairs = zip(drawn.questions.tolist(), owners.tolist(), strict=True)
        own = np.array([users[rows[question]] == users[owner] for question, owner in pairs], bool)
        left_out = self._telling(rows, drawn) | (own & self._later(rows, drawn))
        return drawn.keep(~left_out), {LEFT_OUT: int(left_out.sum())}

    def _with_neighbours(self, source: NeighbourSource | None) -> StoreView:
        """Raises InputError if the part has too few users."""
        assert source is not None, "an experiment with neighbours has their source"
        count, others = self.options.profile.neighbours, len(set(self.store.users)) - 1
        if count > others:
            raise InputError(
                f"profile.neighbours={count} needs as many other users, but this part has "
                f"{others}: lower it"
            )
        parts = (self.own_items, self._telling, self.options.fixes)
        return replace(self, neighbours=Neighbours(self.task, self.store, count, source, *parts))

    def _own_and_neighbours(self, rows: Sequence[int]) -> tuple[Profiles, Mapping[str, int]]:
        """A question's own items, then those of its neighbours, but for items that tell.

        Left out are items of neighbours with the question's own text or its gold, and those that
        are dated after the question, or after its own profile if it has no date.
        """
        assert self.neighbours is not None, "made with the view"
        found = [self.neighbours.table[row] for row in rows]
        own = [self.store.item_numbers(row) for row in rows]
        others = [self.neighbours.item_numbers(row) for row in rows]
        picks = [np.concatenate(pair) for pair in zip(own, others, strict=True)]
        profiles, _ = self.store.picked_items(picks)
        foreign, left_out = np.zeros((2, len(profiles.rows)), np.bool_)
        for start, mine, pick, one in zip(profiles.starts, own, picks, found, strict=True):
            foreign[start + len(mine) : start + len(pick)] = True
            left_out[start + len(mine) + np.array(one.left_out, np.int64)] = True
        profiles.own[~foreign] = self.store.profiles(rows).own
        left_out |= foreign & self._later(rows, profiles)
        removed = np.zeros_like(left_out)
        if self.options.profile.own_items == "remove":
            removed = self.own_items(rows, profiles) & ~foreign
        fewer = [len(one.neighbours) < self.neighbours.count for one in found]
        counts = {
            LEFT_OUT: int(left_out.sum()),
            "items_of_neighbours": int((foreign & ~left_out).sum()),
            "questions_with_fewer_neighbours": sum(fewer),
        }
        return profiles.keep(~(left_out | removed)), counts

    def _telling(self, rows: Sequence[int], profiles: Profiles) -> NDArray[np.bool_]:
        """Which items hold their question's own text or its gold."""
        return self._own_by_text(rows, profiles) | self._golds(rows, profiles)

    def _golds(self, rows: Sequence[int], profiles: Profiles) -> NDArray[np.bool_]:
        """Which items have their question's gold as their own title or text."""
        golds = self.store.column("target", rows)
        items = zip(profiles.questions.tolist(), self.store.profile_items(profiles), strict=True)
        pairs = ((golds[question], self.task.item_target_text(item)) for question, item in items)
        equal = [bool(gold and target and same_text(gold, target)) for gold, target in pairs]
        return np.array(equal, np.bool_)

    def _later(self, rows: Sequence[int], profiles: Profiles) -> NDArray[np.bool_]:
        """Which items are later than their question, or than its own profile if it has no date."""
        asked, own = self.store.dates(rows).copy(), self.store.profiles(rows)
        starts = own.starts
        for number in np.flatnonzero(np.isnat(asked)).tolist():
            start = starts[number]
            asked[number] = _newest(own.dates[start : start + own.lengths[number]])
        later: NDArray[np.bool_] = profiles.dates > np.repeat(asked, profiles.lengths)
        return later

    def _other_user(self, row: int, id: str) -> int:
        """A question of another user, drawn by the seed and the question's id."""
        users, generator = self.store.users, Random(f"{self.options.seed}:{id}:profile")
        for _ in range(1000):
            other = generator.randrange(len(users))
            if users[other] != users[row]:
                return other
        raise InputError("profile.control=shuffled_user needs a part with more than one user")


def known_defects(task: Task, split: str, part: str) -> frozenset[str]:
    """The ids of the inputs of a part that the benchmark itself words wrongly."""
    return frozenset(id for *place, id in MISWORDED if place == [task.name, split, part])


def user_subset_rows(users: Sequence[str], user_subset: str | None) -> Sequence[int]:
    """The rows of the users who are in the holdout, in the rest, or (None) of all.

    A tenth of the users, by their names alone: the same in every run, whatever the seed. `fold0`
    and `fold1` are the halves of the users; `not-fold0-holdout` are users of both kinds.
    """
    if user_subset is None:
        return range(len(users))
    rows: Sequence[int] = range(len(users))
    for kind, wanted in _kinds(user_subset):
        belongs = is_held_out if kind == "holdout" else partial(_is_in_fold, int(kind[-1]))
        rows = [row for row in rows if belongs(users[row]) == wanted]
    return rows


def _kinds(user_subset: str) -> Iterator[tuple[str, bool]]:
    """The kinds of users, and whether they are wanted: `rest` are those not in the holdout."""
    wanted = True
    for word in user_subset.split("-"):
        if word == "not":
            wanted = False
            continue
        yield ("holdout", False) if word == "rest" else (word, wanted)
        wanted = True


def fold_of(user: str) -> int:
    """The fold of a user of train: by the name alone, so the same in every run."""
    return hashlib.sha256(f"fold:{user}".encode()).digest()[0] % FOLDS


def _is_in_fold(fold: int, user: str) -> bool:
    return fold_of(user) == fold


def is_held_out(user: str) -> bool:
    """Whether a user of train is among those on whom epochs are chosen."""
    return hashlib.sha256(f"holdout:{user}".encode()).digest()[0] < 256 * HOLDOUT_SHARE


def _first_or_newest(profiles: Profiles, most: int, keep: str) -> NDArray[np.bool_]:
    """At most so many items per profile: the first, or the newest (later in the file if equal)."""
    number = np.arange(len(profiles.rows))
    if keep == "newest":
        by_date = np.lexsort((number, profiles.dates, profiles.questions))
        number[by_date] = np.arange(len(number))
        ends = np.repeat(profiles.starts + profiles.lengths, profiles.lengths)
        newest: NDArray[np.bool_] = number >= ends - most
        return newest
    first: NDArray[np.bool_] = number < np.repeat(profiles.starts + most, profiles.lengths)
    return first


def _newest(dates: NDArray[np.datetime64]) -> np.datetime64:
    """The newest date; NaT if there is none."""
    known = dates[~np.isnat(dates)]
    return known.max() if len(known) else np.datetime64("NaT", "us")


def _refuse_other_options(profile: ProfileOptions) -> None:
    """The options of a user's own profile say nothing of other users' items."""
    usual = ProfileOptions(pool=profile.pool)
    if profile.pool == "neighbours":  # each profile is left as it is, but for its question's item
        usual = replace(usual, neighbours=profile.neighbours, own_items=profile.own_items)
    for name, value in asdict(profile).items():
        if value != getattr(usual, name):
            raise InputError(
                f"profile.{name}={value} is for a user's own profile: leave it out with "
                f"profile.pool={profile.pool}"
            )


def _parse_limit(text: str | None) -> datetime | None:
    try:
        return parse_date(text)
    except ValueError as error:
        raise InputError(f"profile.before={text}: {error}") from error
