"""Computes sizes, dates and leaks of a part's profiles without reading any text."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from lamp_exp.data.examples import Examples
from lamp_exp.data.store import Profiles

QUESTIONS_PER_BLOCK = 500
_EARLIEST, _LATEST = np.iinfo(np.int64).min, np.iinfo(np.int64).max


@dataclass(frozen=True, slots=True)
class ProfileFacts:
    """One value per question; days are None where dates are not known.

    `newest_item_days` are from the newest item to the question, `profile_days` from the oldest
    item to the newest. The official files date items (in the time split) and no questions.
    """

    profile_size: list[int] = field(default_factory=list)
    newest_item_days: list[float | None] = field(default_factory=list)
    profile_days: list[float | None] = field(default_factory=list)
    own_items: list[int] = field(default_factory=list)  # items that are the question itself
    later_items: list[int] = field(default_factory=list)  # items dated after the question
    pool: Counter[str] = field(default_factory=Counter)  # counts of profile.pool

    @classmethod
    def of(cls, examples: Examples) -> ProfileFacts:
        """Undated items are left out of all that concerns dates."""
        facts = cls()
        for start in range(0, len(examples), QUESTIONS_PER_BLOCK):
            facts._add(examples, examples.rows[start : start + QUESTIONS_PER_BLOCK])
        return facts

    def counts(self) -> dict[str, int]:
        return {
            **self.pool,
            "questions": len(self.profile_size),
            "profile_items": sum(self.profile_size),
            "empty_profiles": self.profile_size.count(0),
            "items_dated_after_the_question": sum(self.later_items),
            "profiles_that_hold_the_question": sum(own > 0 for own in self.own_items),
        }

    def _add(self, examples: Examples, rows: Sequence[int]) -> None:
        profiles, pool = examples.view.counted_profiles(rows)
        self.pool.update(pool)
        asked = examples.store.dates(rows)
        later = profiles.dates > np.repeat(asked, profiles.lengths)
        own = examples.view.own_items(rows, profiles)
        self.profile_size.extend(profiles.lengths.tolist())
        self.own_items.extend(_sums(profiles, own))
        self.later_items.extend(_sums(profiles, later))
        extremes = zip(_extremes(profiles), asked.astype(np.int64).tolist(), strict=True)
        for (oldest, newest), question in extremes:
            dated, both = newest != _EARLIEST, newest != _EARLIEST != question
            self.profile_days.append(_days(newest - oldest) if dated else None)
            self.newest_item_days.append(_days(question - newest) if both else None)


def _sums(profiles: Profiles, mask: np.ndarray[tuple[int], np.dtype[np.bool_]]) -> list[int]:
    """For each question the number of its items where `mask` is true."""
    sums: list[int] = np.bincount(
        profiles.questions[mask], minlength=len(profiles.lengths)
    ).tolist()
    return sums


def _extremes(profiles: Profiles) -> list[tuple[int, int]]:
    """For each question the oldest and the newest date of its items, in microseconds.

    Both are meaningless, and the newest is the smallest integer (as NaT is), without dated items.
    """
    times = profiles.dates.astype(np.int64)
    filled = np.flatnonzero(profiles.lengths)
    oldest = np.full(len(profiles.lengths), _LATEST)
    newest = np.full(len(profiles.lengths), _EARLIEST)
    if len(filled):
        starts = profiles.starts[filled]
        newest[filled] = np.maximum.reduceat(times, starts)
        times[times == _EARLIEST] = _LATEST
        oldest[filled] = np.minimum.reduceat(times, starts)
    return list(zip(oldest.tolist(), newest.tolist(), strict=True))


def _days(microseconds: int) -> float:
    return microseconds / 10**6 / 86400
