"""A metric on the examples of one run, as a function of sums over them.

A mean, an RMSE and a macro F1 all follow from a few sums. That makes resampling quick: a resample
of users is a weighting of their sums, so thousands of resamples are one matrix product.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import pairwise
from typing import Any, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lamp_exp.errors import InputError

Floats = NDArray[np.float64]
FEW_USERS = 10  # that make up the errors: with fewer, further users may have far larger ones
FEW_NAMED = 10  # times that a label is expected or predicted: with fewer, its F1 jumps
COVERS_LESS = ": the interval may cover less"  # the end of each caution
FEW_IN_SPREAD = 6  # users that make up the spread of a mean: with fewer, t intervals are too short
BINARY, SHARE, MEAN, OTHER = "binary", "share", "mean", "other"  # kinds of samples


@dataclass(frozen=True)
class Sample:
    """The examples of one run under one metric.

    `terms` (examples x terms) are summed; `value` maps sums, (..., terms) to (...), to the metric.
    `users` (examples) numbers the user of each example: users are what was sampled, so users and
    not examples are independent.

    `kind` is `binary` (the mean of zeros and ones), `share` (the mean of such scores over seeds),
    `mean`, or `other`; the terms of the first three are the score and 1. The metric lies between
    `lowest` and `highest`; None is no bound. `doubt` maps the users' sums (users x terms) to the
    reason why an interval may cover less than its level, `""` if there is none.
    """

    terms: Floats
    value: Callable[[Floats], Floats]
    users: NDArray[np.intp]
    higher_is_better: bool
    kind: str
    doubt: Callable[[Floats], str] = lambda sums: ""
    lowest: float | None = None
    highest: float | None = None

    def __len__(self) -> int:
        return len(self.terms)

    @cached_property
    def members(self) -> NDArray[np.intp]:
        """The user of each example, numbered 0, 1, … without gaps."""
        return np.unique(self.users, return_inverse=True)[1]

    @cached_property
    def clusters(self) -> int:
        """The number of users."""
        return int(self.members.max(initial=-1)) + 1

    @property
    def clustered(self) -> bool:
        """Whether some user has several examples."""
        return self.clusters < len(self)

    @cached_property
    def sums(self) -> Floats:
        """The terms summed over each user's examples (users x terms)."""
        members = self.members
        return np.stack([np.bincount(members, weights=term) for term in self.terms.T], axis=-1)

    @property
    def log_scale(self) -> bool:
        """Whether chance changes the metric by a factor, as of errors: intervals are of its log."""
        return self.lowest == 0 and self.highest is None and self.kind in (MEAN, OTHER)

    @property
    def caution(self) -> str:
        """Why an interval of the metric may cover less than its level; `""` if it should not."""
        if self.clusters < 2 or self.kind in (BINARY, SHARE):
            return ""
        reason = _few_users(self.sums) if self.log_scale else self.doubt(self.sums)
        return f"{reason}{COVERS_LESS}" if reason else ""

    def measured(self) -> float:
        """The metric over all examples; NaN without any."""
        return float(self.value(self.terms.sum(axis=0))) if len(self) else float("nan")

    def within(self, lowest: float | None, highest: float | None) -> Sample:
        """The same sample of a metric that lies between these bounds."""
        return replace(self, lowest=lowest, highest=highest)

    def clipped(self, low: float, high: float) -> tuple[float, float]:
        """The ends of an interval, moved into the range of the metric."""
        low = low if self.lowest is None else max(low, self.lowest)
        high = high if self.highest is None else min(high, self.highest)
        return low, high


class MetricFacts(Protocol):
    """What must be known of a metric; see `lamp_exp.contracts.Metric`."""

    @property
    def higher_is_better(self) -> bool: ...
    @property
    def aggregate(self) -> str: ...
    @property
    def column(self) -> str | None: ...
    @property
    def labels(self) -> Sequence[str]: ...
    @property
    def binary(self) -> bool: ...
    @property
    def lowest(self) -> float | None: ...
    @property
    def highest(self) -> float | None: ...


def columns_of(metric: str, facts: MetricFacts) -> tuple[str, ...]:
    """The columns of `examples.parquet` from which a metric's sample is made."""
    if facts.aggregate == "macro_f1":
        return "user", "prediction", "target"
    return "user", facts.column or metric


def metric_sample(
    metric: str, facts: MetricFacts, column: Callable[[str], Sequence[Any] | None]
) -> Sample | None:
    """A run's examples under a metric; None if their scores were not recorded.

    `column` gives a column of `examples.parquet`, None if there is none of that name.
    """
    found = [column(name) for name in columns_of(metric, facts)]
    known = [values for values in found if values is not None]
    if len(known) < len(found):
        return None
    users = numbered(known[0])
    if facts.aggregate == "macro_f1":
        return f1_sample(known[1], known[2], facts.labels, users) if facts.labels else None
    scores = known[1]
    if facts.aggregate == "root_mean_square":
        made = rmse_sample(scores, users, facts.higher_is_better)
    else:
        made = mean_sample(scores, users, facts.higher_is_better, binary=facts.binary)
    return made.within(facts.lowest, facts.highest)


def numbered(users: Sequence[str]) -> NDArray[np.intp]:
    """The users by number, 0, 1, … as they come."""
    if len(set(users)) == len(users):  # nearly always
        return np.arange(len(users))
    numbers: dict[str, int] = {}
    return np.array([numbers.setdefault(user, len(numbers)) for user in users], dtype=np.intp)


def mean_sample(
    scores: ArrayLike, users: ArrayLike, higher_is_better: bool, binary: bool = False
) -> Sample:
    """The mean of a score per example: accuracy (`binary`), MAE, ROUGE.

    Raises InputError for scores that are not finite.
    """
    values = _finite(scores)
    if binary and not np.isin(values, (0, 1)).all():
        raise ValueError("a binary score is 0 or 1")
    terms = np.stack([values, np.ones_like(values)], axis=-1)
    sample = _sample(
        terms, _mean, users, BINARY if binary else MEAN, higher_is_better, _few_in_spread
    )
    return sample.within(0.0, 1.0) if binary else sample


def rmse_sample(errors: ArrayLike, users: ArrayLike, higher_is_better: bool = False) -> Sample:
    """The root of the mean squared error, of an error per example.

    Raises InputError for errors that are not finite.
    """
    squares = _finite(errors) ** 2
    terms = np.stack([squares, np.ones_like(squares)], axis=-1)
    sample = _sample(terms, _root_mean, users, OTHER, higher_is_better, _few_users)
    return sample.within(0.0, None)


def ratio_sample(parts: ArrayLike, wholes: ArrayLike, users: ArrayLike) -> Sample:
    """The sum of the parts over the sum of the wholes, such as the share of a gain that is used.

    It is NaN where the wholes add up to zero.
    """
    terms = np.stack([_finite(parts), _finite(wholes)], axis=-1)
    return _sample(terms, _ratio, users, OTHER, True, lambda sums: "")


def f1_sample(
    outputs: Sequence[str], targets: Sequence[str], labels: Sequence[str], users: ArrayLike
) -> Sample:
    """Macro F1 over fixed `labels`, as `lamp_exp.metrics.MacroF1` computes it."""
    predicted, expected = _one_hot(outputs, labels), _one_hot(targets, labels)
    terms = np.stack([2 * predicted * expected, predicted + expected], axis=-1)
    flat = terms.reshape(len(outputs), 2 * len(labels))
    return _sample(flat, _macro_f1, users, OTHER, True, _rare_labels).within(0.0, 1.0)


def mean_over_seeds(samples: Sequence[Sample]) -> Sample:
    """One sample of the metric's mean over the runs of several seeds, on the same examples."""
    first = samples[0]
    if len(samples) == 1:
        return first
    if first.kind == OTHER:
        return side_by_side(samples, _mean_of).within(first.lowest, first.highest)
    terms = np.mean([one.terms for one in samples], axis=0)
    return replace(first, terms=terms, kind=SHARE if first.kind == BINARY else first.kind)


def side_by_side(
    samples: Sequence[Sample], combine: Callable[[Sequence[Floats]], Floats]
) -> Sample:
    """A function of several runs' metrics that are no means of examples: each keeps its terms."""
    ends = np.cumsum([0, *(one.terms.shape[1] for one in samples)])

    def value(sums: Floats) -> Floats:
        parts = [sums[..., start:end] for start, end in pairwise(ends)]
        return combine([one.value(part) for one, part in zip(samples, parts, strict=True)])

    terms, first = np.hstack([one.terms for one in samples]), samples[0]
    return replace(first, terms=terms, value=value, kind=OTHER, lowest=None, highest=None)


def difference(a: Sample, b: Sample) -> Sample:
    """`b` minus `a` as one metric of the examples that both hold."""
    if a.kind != OTHER:
        apart = mean_sample(b.terms[:, 0] - a.terms[:, 0], a.users, a.higher_is_better)
    else:
        apart = side_by_side([a, b], _second_less_first)
    if a.lowest is None or a.highest is None:
        return apart
    reach = a.highest - a.lowest
    return apart.within(-reach, reach)


# --- reasons for doubt; the terms of several runs may stand side by side ------------------------


def _few_in_spread(sums: Floats) -> str:
    """By the number of equal users that would make up a variance as uncertain as the users' is."""
    squares = (sums[:, 0] - sums[:, 0].sum() / sums[:, 1].sum() * sums[:, 1]) ** 2
    few = float(squares.sum()) ** 2 < FEW_IN_SPREAD * float((squares**2).sum())
    return f"fewer than {FEW_IN_SPREAD} users make up the spread" if few else ""


def _few_users(sums: Floats) -> str:
    """By the number of equal users whose errors would add up as these do."""
    errors = sums[:, ::2]
    total, squares = errors.sum(axis=0), (errors**2).sum(axis=0)
    few = bool((total**2 < FEW_USERS * squares).any())
    return f"fewer than {FEW_USERS} users make up the errors" if few else ""


def _rare_labels(sums: Floats) -> str:
    rare = bool((sums.sum(axis=0)[1::2] < FEW_NAMED).any())
    return f"labels that are expected or predicted fewer than {FEW_NAMED} times" if rare else ""


def _sample(
    terms: Floats,
    value: Callable[[Floats], Floats],
    users: ArrayLike,
    kind: str,
    higher_is_better: bool,
    doubt: Callable[[Floats], str],
) -> Sample:
    members = np.asarray(users, dtype=np.intp)
    if members.shape != (len(terms),):
        raise ValueError(f"{len(terms)} examples, but users of the shape {members.shape}")
    return Sample(terms, value, members, higher_is_better, kind, doubt)


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


def _mean_of(values: Sequence[Floats]) -> Floats:
    return np.asarray(np.mean(values, axis=0), dtype=np.float64)


def _second_less_first(values: Sequence[Floats]) -> Floats:
    first, second = values
    return second - first


def _mean(sums: Floats) -> Floats:
    return sums[..., 0] / sums[..., 1]


def _ratio(sums: Floats) -> Floats:
    parts, wholes = sums[..., 0], sums[..., 1]
    unknown = np.full(np.shape(wholes), np.nan)
    return np.asarray(np.divide(parts, wholes, out=unknown, where=wholes != 0))


def _root_mean(sums: Floats) -> Floats:
    root: Floats = np.sqrt(_mean(sums))
    return root


def _macro_f1(sums: Floats) -> Floats:
    hits, seen = sums[..., ::2], sums[..., 1::2]
    average: Floats = (hits / np.where(seen > 0, seen, 1)).mean(axis=-1)  # no hit if never seen
    return average
