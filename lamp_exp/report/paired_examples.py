"""From the examples of runs to samples for statistics: single runs, means over seeds, pairs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lamp_exp.errors import InputError
from lamp_exp.report.loading import Record
from lamp_exp.report.selection import Group
from lamp_exp.statistics import Sample, f1_sample, mean_over_seeds, mean_sample, rmse_sample


@lru_cache(maxsize=256)  # a sample of many labels may take a megabyte
def sample(record: Record, metric: str) -> Sample | None:
    """A run's examples, in their order; None if their scores were not recorded."""
    facts, users = record.facts(metric), numbered(record.column("user"))
    if facts.aggregate == "macro_f1":
        if not facts.labels:
            return None
        outputs, targets = record.column("prediction"), record.column("target")
        return f1_sample(outputs, targets, facts.labels, users)
    column = facts.column or metric
    if not record.has_column(column):
        return None
    scores = np.asarray(record.column(column), dtype=np.float64)
    if facts.aggregate == "root_mean_square":
        made = rmse_sample(scores, users, facts.higher_is_better)
    else:
        made = mean_sample(scores, users, facts.higher_is_better, binary=facts.binary)
    return made.within(facts.lowest, facts.highest)


def numbered(users: Sequence[str]) -> NDArray[np.intp]:
    """Users as numbers, in the order in which they occur first."""
    numbers: dict[str, int] = {}
    return np.array([numbers.setdefault(user, len(numbers)) for user in users], dtype=np.intp)


@lru_cache(maxsize=512)  # a grid's tests ask for the same groups again and again
def pooled(group: Group, metric: str, base: Record | None = None) -> Sample | None:
    """One sample of the metric's mean over seeds, with the examples in the order of `base`."""
    base = base or group.first
    samples = [aligned(base, record, metric) for record in group.records]
    known = [one for one in samples if one is not None]
    if len(known) < len(samples):
        return None
    return mean_over_seeds(known)


def aligned(base: Record, other: Record, metric: str) -> Sample | None:
    """The examples of `other` in the order of `base`. Raises InputError for other questions."""
    theirs = sample(other, metric)
    ids = base.column("id")
    if theirs is None or ids == other.column("id"):
        return theirs
    places = {id: n for n, id in enumerate(other.column("id"))}
    if len(ids) != len(places) or not all(id in places for id in ids):
        raise InputError(f"{base.name} and {other.name} answered other questions: not comparable")
    rows = np.array([places[id] for id in ids], dtype=np.intp)
    return replace(theirs, terms=theirs.terms[rows], users=numbered(base.column("user")))


def pair(a: Group, b: Group, metric: str) -> tuple[Sample, Sample] | None:
    """Two groups' samples over the same examples in the same order.

    Of the seeds that both have; without any, of all, if they are equally many. None if they are
    not, or without scores. Raises InputError if the two answered other questions.
    """
    if a.first.comparable_key != b.first.comparable_key:
        raise InputError(f"{a.first.name} and {b.first.name} are of other data: not comparable")
    a, b = common_seeds(a, b)
    if len(a.records) != len(b.records):
        return None
    one, other = pooled(a, metric), pooled(b, metric, a.first)
    if one is None or other is None:
        return None
    return one, other


def subset(whole: Sample, keep: NDArray[np.bool_]) -> Sample:
    """The examples to keep."""
    _, users = np.unique(whole.users[keep], return_inverse=True)
    return replace(whole, terms=whole.terms[keep], users=users.astype(np.intp))


def common_seeds(a: Group, b: Group) -> tuple[Group, Group]:
    """Both with the seeds that they share; unchanged if they share none."""
    shared = {*a.seeds} & {*b.seeds}
    if not shared:
        return a, b
    return with_seeds(a, shared), with_seeds(b, shared)


def with_seeds(group: Group, seeds: set[int]) -> Group:
    """The runs of these seeds."""
    return Group(tuple(record for record in group.records if record.seed in seeds))


def scores(record: Record, metric: str) -> list[Any]:
    """The scores of the examples that the metric is made of."""
    return record.column(record.facts(metric).column or metric)
