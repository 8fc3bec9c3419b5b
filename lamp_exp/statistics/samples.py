"""A metric on one run's examples, as a function of sums over them.

A mean, an RMSE and a macro F1 all follow from a few sums, which is what makes resampling
quick: a resample of users is a weighting of their sums, so thousands are one matrix product.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lamp_exp.errors import InputError

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Sample:
    """One run's examples under one metric.

    `terms` (examples x terms) are what is summed; `value` makes the metric of sums, (..., terms)
    to (...). `users` (examples) numbers the user of each example: users are what was drawn from
    the world, so they, not examples, are independent. `kind` is "binary" (a mean of zeros and
    ones), "mean" or "other"; the terms of the first two are the score and a 1. `log_scale`: its
    interval is made of its logarithm, as chance moves it by a factor.
    """

    terms: Floats
    value: Callable[[Floats], Floats]
    users: NDArray[np.intp]
    higher_is_better: bool
    kind: str
    log_scale: bool = False

    def __len__(self) -> int:
        return len(self.terms)

    @property
    def members(self) -> NDArray[np.intp]:
        """The user of each example, numbered 0, 1, … without gaps."""
        return np.unique(self.users, return_inverse=True)[1]

    @property
    def clusters(self) -> int:
        """How many users have an example here."""
        return len(np.unique(self.users))

    @property
    def clustered(self) -> bool:
        """Whether some user has several examples."""
        return self.clusters < len(self)

    @property
    def sums(self) -> Floats:
        """The terms summed over each user's examples (users x terms)."""
        members = self.members
        return np.stack([np.bincount(members, weights=term) for term in self.terms.T], axis=-1)

    def measured(self) -> float:
        """The metric over all examples; NaN of none, since nothing was measured."""
        return float(self.value(self.terms.sum(axis=0))) if len(self) else float("nan")


def mean_sample(
    scores: ArrayLike, users: ArrayLike, higher_is_better: bool, binary: bool = False
) -> Sample:
    """The plain mean of a score per example: accuracy (`binary`), MAE, ROUGE."""
    values = _finite(scores)
    if binary and not np.isin(values, (0, 1)).all():
        raise ValueError("a binary score is 0 or 1")
    kind = "binary" if binary else "mean"
    return _sample(
        np.stack([values, np.ones_like(values)], -1), _mean, users, kind, higher_is_better
    )


def rmse_sample(errors: ArrayLike, users: ArrayLike, higher_is_better: bool = False) -> Sample:
    """The root of the mean squared error, of an error per example."""
    squares = _finite(errors) ** 2
    terms = np.stack([squares, np.ones_like(squares)], axis=-1)
    return replace(_sample(terms, _root_mean, users, "other", higher_is_better), log_scale=True)


def f1_sample(
    outputs: Sequence[str], targets: Sequence[str], labels: Sequence[str], users: ArrayLike
) -> Sample:
    """Macro F1 over the fixed `labels`, by the rule of `lamp_exp.metrics.classification`."""
    named, wanted = _one_hot(outputs, labels), _one_hot(targets, labels)
    terms = np.stack([2 * named * wanted, named + wanted], axis=-1)
    return _sample(terms.reshape(len(outputs), 2 * len(labels)), _macro_f1, users, "other", True)


def difference(a: Sample, b: Sample) -> Sample:
    """What `b` is above `a`, as one metric over the examples that both hold."""
    width = a.terms.shape[1]
    if a.kind != "other":
        return mean_sample(b.terms[:, 0] - a.terms[:, 0], a.users, a.higher_is_better)

    def value(sums: Floats) -> Floats:
        return b.value(sums[..., width:]) - a.value(sums[..., :width])

    terms = np.hstack([a.terms, b.terms])
    return _sample(terms, value, a.users, "other", a.higher_is_better)


def _sample(
    terms: Floats,
    value: Callable[[Floats], Floats],
    users: ArrayLike,
    kind: str,
    higher_is_better: bool,
) -> Sample:
    numbered = np.asarray(users, dtype=np.intp)
    if numbered.shape != (len(terms),):
        raise ValueError(f"{len(terms)} examples, but users of the shape {numbered.shape}")
    return Sample(terms, value, numbered, higher_is_better, kind)


def _finite(scores: ArrayLike) -> Floats:
    values = np.asarray(scores, dtype=np.float64)
    bad = np.flatnonzero(~np.isfinite(values))
    if len(bad):
        raise InputError(
            f"the score of example number {bad[0] + 1} is {values[bad[0]]}: "
            "score the run again, or leave it out"
        )
    return values


def _one_hot(texts: Sequence[str], labels: Sequence[str]) -> Floats:
    place = {label: number for number, label in enumerate(labels)}
    found = np.array([place.get(text.strip(), -1) for text in texts], dtype=np.intp)
    equal: Floats = (found[:, None] == np.arange(len(labels))).astype(np.float64)
    return equal


def _mean(sums: Floats) -> Floats:
    return sums[..., 0] / sums[..., 1]


def _root_mean(sums: Floats) -> Floats:
    root: Floats = np.sqrt(_mean(sums))
    return root


def _macro_f1(sums: Floats) -> Floats:
    per_label = sums.reshape(*sums.shape[:-1], -1, 2)
    hits, seen = per_label[..., 0], per_label[..., 1]
    f1: Floats = np.divide(hits, seen, out=np.zeros_like(hits), where=seen > 0)
    average: Floats = f1.mean(axis=-1)
    return average
