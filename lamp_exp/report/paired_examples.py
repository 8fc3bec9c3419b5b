"""From the examples of runs to samples for statistics: single runs, means over seeds, pairs."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import replace
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from lamp_exp.errors import InputError
from lamp_exp.report.loading import Record
from lamp_exp.report.selection import Group
from lamp_exp.statistics import Sample, mean_over_seeds, metric_sample


@lru_cache(maxsize=256)  # a sample of many labels may take a megabyte
def sample(record: Record, metric: str) -> Sample | None:
    """A run's examples, in their order; None if their scores were not recorded."""
    return metric_sample(
        metric, record.facts(metric), lambda n: record.column(n) if record.has_column(n) else None
    )


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
    """Two groups' samples over the seeds that both have and the same examples in the same order.

    None if they have no seed in common, or no scores. Raises InputError if the two answered other
    questions.
    """
    if a.first.comparable_key != b.first.comparable_key:
        raise InputError(f"{a.first.name} and {b.first.name} are of other data: not comparable")
    shared = common_seeds([a, b])
    return _pair(with_seeds(a, shared), with_seeds(b, shared), metric) if shared else None


def pair_of_runs(a: Record, b: Record, metric: str) -> tuple[Sample, Sample] | None:
    """Two runs' samples, whatever their seeds; None without scores."""
    return _pair(Group((a,)), Group((b,)), metric)


def _pair(a: Group, b: Group, metric: str) -> tuple[Sample, Sample] | None:
    one, other = pooled(a, metric), pooled(b, metric, a.first)
    return None if one is None or other is None else (one, other)


def subset(whole: Sample, keep: NDArray[np.bool_]) -> Sample:
    """The examples to keep."""
    _, users = np.unique(whole.users[keep], return_inverse=True)
    return replace(whole, terms=whole.terms[keep], users=users.astype(np.intp))


def common_seeds(groups: Iterable[Group]) -> set[int]:
    """The seeds that all groups have."""
    return set.intersection(*(set(group.seeds) for group in groups))


def with_seeds(group: Group, seeds: Collection[int]) -> Group:
    """The runs of these seeds."""
    return Group(tuple(record for record in group.records if record.seed in seeds))


def on_common_seeds(groups: Sequence[Group]) -> dict[str, Group]:
    """Groups reduced to the seeds that all have, by configuration; unchanged if there are none.

    What is compared by eye, by a test or as the best is then of the same seeds. Imported
    predictions keep theirs: the seeds of other systems are not ours.
    """
    own = [group for group in groups if not group.first.imported]
    shared = common_seeds(own) if own else set()
    return {
        group.configuration: with_seeds(group, shared) if shared and group in own else group
        for group in groups
    }
