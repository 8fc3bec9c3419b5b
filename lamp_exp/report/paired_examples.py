"""From examples to samples that statistics can use: one run's, several seeds' together, pairs."""

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
from lamp_exp.statistics import Sample, f1_sample, mean_sample, rmse_sample
from lamp_exp.statistics.samples import Floats
from lamp_exp.tasks import all_tasks


@lru_cache(maxsize=256)  # a sample of many labels may take a megabyte
def sample(record: Record, metric: str) -> Sample | None:
    """A run's examples, in their order; None where no scores of examples make up that metric."""
    users = numbered(record.column("user"))
    higher = record.direction(metric)
    if metric == "rmse" and record.has_column("mae"):
        return rmse_sample(_floats(record.column("mae")), users)
    labels = labels_of(record)
    if metric == "f1" and labels:
        outputs, targets = record.column("prediction"), record.column("target")
        return f1_sample(outputs, targets, labels, users)
    if not record.has_column(metric):
        return None
    scores = _floats(record.column(metric))
    binary = bool(np.isin(scores, (0.0, 1.0)).all()) and metric == "accuracy"
    return mean_sample(scores, users, higher, binary=binary)


def labels_of(record: Record) -> tuple[str, ...]:
    """The labels of a classification; none for other tasks."""
    return tuple(getattr(all_tasks().get(record.task), "labels", ()))


def numbered(users: Sequence[str]) -> NDArray[np.intp]:
    """Users as numbers, in the order in which they come first."""
    numbers: dict[str, int] = {}
    return np.array([numbers.setdefault(user, len(numbers)) for user in users], dtype=np.intp)


def _floats(values: Sequence[Any]) -> NDArray[np.float64]:
    return np.asarray(values, dtype=np.float64)


@lru_cache(maxsize=512)  # a grid's tests ask for the same groups again and again
def pooled(group: Group, metric: str, base: Record | None = None) -> Sample | None:
    """One sample of the metric's mean over seeds, with the examples in the order of `base`."""
    base = base or group.first
    samples = [aligned(base, record, metric) for record in group.records]
    known = [one for one in samples if one is not None]
    if len(known) < len(samples):
        return None
    if len(known) == 1:
        return known[0]
    if known[0].kind == "other":
        return _side_by_side(known)
    terms = np.mean([one.terms for one in known], axis=0)
    return replace(known[0], terms=terms, kind=_averaged(known[0].kind))


def _side_by_side(samples: Sequence[Sample]) -> Sample:
    """The mean of what is no mean of its examples (macro F1, RMSE): each seed keeps its terms."""
    width = samples[0].terms.shape[1]

    def value(sums: Floats) -> Floats:
        parts = [sums[..., n * width : (n + 1) * width] for n in range(len(samples))]
        made = [one.value(part) for one, part in zip(samples, parts, strict=True)]
        return np.asarray(np.mean(made, axis=0), dtype=np.float64)

    return replace(samples[0], terms=np.hstack([one.terms for one in samples]), value=value)


def _averaged(kind: str) -> str:
    """Right or wrong becomes a share."""
    return "mean" if kind == "binary" else kind


def aligned(base: Record, other: Record, metric: str) -> Sample | None:
    """The examples of `other` in the order of `base`; raises InputError if they are others."""
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

    Of the seeds that both have; where there are none, of all, if they are as many. None if they
    are not, or without scores; raises InputError if the two answered other questions.
    """
    if a.first.ground != b.first.ground:
        raise InputError(f"{a.first.name} and {b.first.name} are of other data: not comparable")
    a, b = common_seeds(a, b)
    if len(a.records) != len(b.records):
        return None
    one, other = pooled(a, metric), pooled(b, metric, a.first)
    if one is None or other is None:
        return None
    if one.kind == other.kind:
        return one, other
    return replace(one, kind=_averaged(one.kind)), replace(other, kind=_averaged(other.kind))


def subset(whole: Sample, keep: NDArray[np.bool_]) -> Sample:
    """Some of the examples."""
    _, users = np.unique(whole.users[keep], return_inverse=True)
    return replace(whole, terms=whole.terms[keep], users=users.astype(np.intp))


def common_seeds(a: Group, b: Group) -> tuple[Group, Group]:
    """Both with the seeds that they share; as they are where they share none."""
    shared = {record.seed for record in a.records} & {record.seed for record in b.records}
    if not shared:
        return a, b
    return (
        Group(tuple(record for record in a.records if record.seed in shared)),
        Group(tuple(record for record in b.records if record.seed in shared)),
    )
