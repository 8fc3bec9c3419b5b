"""From the examples of runs to samples for statistics: single runs, means over seeds, pairs."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from functools import lru_cache

import pandas as pd

from lamp_exp.errors import InputError
from lamp_exp.report.selection import Group
from lamp_exp.results.record import Record
from lamp_exp.statistics import Comparison, Sample, mean_over_seeds, metric_sample
from lamp_exp.statistics.samples import columns_of, numbered

UNREADABLE = "unreadable"  # as a verdict


@lru_cache(maxsize=256)  # a sample of many labels may take a megabyte
def sample(record: Record, metric: str) -> Sample | None:
    """A run's examples, in their order; None if their scores were not recorded."""
    facts = record.result.metric_facts
    # Those of all metrics, because a file is read once in little more time than a column.
    needed = dict.fromkeys(name for one in facts for name in columns_of(one, facts[one]))
    return metric_sample(metric, facts[metric], record.columns("id", *needed).get)


@lru_cache(maxsize=512)  # a grid's tests ask for the same groups again and again
def pooled(group: Group, metric: str, base: Record | None = None) -> Sample | None:
    """One sample of the metric's mean over seeds, with the examples in the order of `base`."""
    samples = [_aligned(base or group.first, record, metric) for record in group.records]
    known = [one for one in samples if one is not None]
    return mean_over_seeds(known) if len(known) == len(samples) else None


def _aligned(base: Record, other: Record, metric: str) -> Sample | None:
    """The examples of `other` in the order of `base`. Raises InputError for other questions."""
    theirs = sample(other, metric)
    ids, their_ids = base.column("id"), other.column("id")
    if theirs is None or ids == their_ids:
        return theirs
    rows = pd.Index(their_ids).get_indexer(ids)
    if len(ids) != len(their_ids) or rows.min(initial=0) < 0:
        raise InputError(f"{base.name} and {other.name} answered other questions: not comparable")
    return replace(theirs, terms=theirs.terms[rows], users=numbered(base.column("user")))


def pair(a: Group, b: Group, metric: str) -> tuple[Sample, Sample] | None:
    """Two groups' samples over the seeds that both have and the same examples in the same order.

    None if they have no seed in common, or no scores. Raises InputError if the two answered other
    questions.
    """
    if a.first.comparable_key != b.first.comparable_key:
        raise InputError(f"{a.first.name} and {b.first.name} are of other data: not comparable")
    shared = common_seeds([a, b])
    return _pair(a.of_seeds(shared), b.of_seeds(shared), metric) if shared else None


def pair_of_runs(a: Record, b: Record, metric: str) -> tuple[Sample, Sample] | None:
    """Two runs' samples, whatever their seeds; None without scores."""
    return _pair(Group((a,)), Group((b,)), metric)


def _pair(a: Group, b: Group, metric: str) -> tuple[Sample, Sample] | None:
    one, other = pooled(a, metric), pooled(b, metric, a.first)
    return None if one is None or other is None else (one, other)


def verdict_on(found: Comparison, one: Group, other: Group) -> str:
    """The verdict of a comparison; `unreadable` if all scores are equal as nothing was answered."""
    nothing = all(
        record.result.counts.get("outputs_unreadable") == record.questions
        for group in (one, other)
        for record in group.records
    )
    return UNREADABLE if found.verdict == "equal" and nothing else found.verdict


def unreadable_footers(verdicts: Iterable[str]) -> list[str]:
    if UNREADABLE not in verdicts:
        return []
    return [f"{UNREADABLE}: no output of either run is an answer, so nothing is compared"]


def common_seeds(groups: Iterable[Group]) -> set[int]:
    return set.intersection(*(set(group.seeds) for group in groups))


def on_common_seeds(groups: Sequence[Group]) -> dict[str, Group]:
    """Groups reduced to the seeds that all have, by configuration; unchanged if there are none.

    What is compared by eye, by a test or as the best is then of the same seeds. Imported
    predictions keep theirs: the seeds of other systems are not ours.
    """
    own = [group for group in groups if not group.first.imported]
    shared = common_seeds(own) if own else set()
    return {
        group.configuration: group.of_seeds(shared) if shared and group in own else group
        for group in groups
    }
