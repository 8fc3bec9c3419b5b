"""The verb tests: every pair of runs on the same questions, with corrections for their number."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

from lamp_exp.errors import InputError
from lamp_exp.report.cli_arguments import add_runs, chosen
from lamp_exp.report.footers import interval_footers, table_footers
from lamp_exp.report.loading import Record
from lamp_exp.report.paired_examples import common_seeds, pair
from lamp_exp.report.selection import (
    Group,
    choices_apart,
    chosen_runs,
    grouped,
    naming,
    same_questions,
    select,
)
from lamp_exp.report.table import Cell, Row, Table, number, p_cell, worth_of
from lamp_exp.statistics import Comparison, benjamini_hochberg, compare, holm
from lamp_exp.statistics.paired import SIGNIFICANT


@dataclass(frozen=True, slots=True)
class ComparedPair:
    """The second group compared with the first, on the seeds that both have.

    They differ in the choices `apart`. `left_out` are the seeds that only one of them has.
    """

    first: Group
    second: Group
    metric: str
    comparison: Comparison
    apart: tuple[str, ...]
    left_out: frozenset[int]


def add_options(parser: argparse.ArgumentParser) -> None:
    add_runs(parser)
    parser.add_argument(
        "--against", nargs="+", default=[], metavar="KEY=VALUE",
        help="only pairs with one of these runs, as --against retriever=bm25 k=4",
    )  # fmt: skip
    parser.add_argument("--metric", help="another metric than each task's main one, such as f1")
    parser.add_argument(
        "--confounded", action="store_true",
        help="also pairs that differ in more than one choice, of which none is known as the cause",
    )  # fmt: skip


def tables(arguments: argparse.Namespace) -> list[Table]:
    records = chosen(arguments)
    table = pairs_table(records, arguments.against, arguments.metric, arguments.confounded)
    return [table]


def compared_pairs(
    records: Sequence[Record],
    against: Sequence[str] = (),
    metric: str | None = None,
    confounded: bool = False,
) -> tuple[list[ComparedPair], list[str]]:
    """All pairs on the same questions, compared; and how many were left out for which reason.

    By the main metric of each task, or `metric`; with `against`, only pairs with a run that meets
    these conditions. Raises InputError if no run meets the conditions or has the metric.
    """
    pairs: list[tuple[Group, Group]] = []
    without_seed = hidden = 0
    for one, other in _candidates(records, against, metric):
        if not common_seeds([one, other]):
            without_seed += 1
        elif len(choices_apart(one, other)) > 1 and not confounded:
            hidden += 1
        elif pair(one, other, metric or one.first.main_metric):
            pairs.append((one, other))
    left_out = []
    if hidden:
        shows = "--confounded shows them"
        left_out.append(f"pairs that differ in more than one choice: {hidden} ({shows})")
    if without_seed:
        left_out.append(f"pairs without a seed in common: {without_seed} (not tested)")
    return [_compared(*both, metric, len(pairs)) for both in pairs], left_out


def _candidates(
    records: Sequence[Record], against: Sequence[str], metric: str | None
) -> list[tuple[Group, Group]]:
    """All pairs of the same questions, those with one of the runs `against` in that order."""
    groups = [g for g in grouped(records).values() if metric in (None, *g.first.metrics)]
    if not groups:
        known = ", ".join(sorted({name for record in records for name in record.metrics}))
        raise InputError(f"--metric {metric}: no run has it; these have {known}")
    asked = {group: same_questions(group) for group in groups}
    pairs = [
        (one, other)
        for one, other in combinations(groups, 2)
        if asked[one] == asked[other] and chosen_runs(one) != chosen_runs(other)
    ]
    if not against:
        return pairs
    bases = {record.configuration for record in select(records, against)}
    if not bases:
        raise InputError(f"no run is {' '.join(against)}: nothing to test against")
    ordered = [sorted(both, key=lambda group: group.configuration not in bases) for both in pairs]
    return [
        (one, other)
        for one, other in ordered
        if one.configuration in bases and other.configuration not in bases
    ]


def _compared(one: Group, other: Group, metric: str | None, family: int) -> ComparedPair:
    metric = metric or one.first.main_metric
    samples = pair(one, other, metric)
    assert samples, "pairs without scores are left out"
    comparison = compare(*samples, thorough=False, family=family)
    left_out = frozenset(one.seeds) ^ frozenset(other.seeds)
    return ComparedPair(one, other, metric, comparison, tuple(choices_apart(one, other)), left_out)


def pairs_table(
    records: Sequence[Record],
    against: Sequence[str] = (),
    metric: str | None = None,
    confounded: bool = False,
) -> Table:
    """A row per pair. Raises InputError if there is none."""
    found, left_out = compared_pairs(records, against, metric, confounded)
    if not found:
        why = "; ".join(left_out)
        reason = "no two runs answered the same questions of the same part"
        raise InputError(f"nothing is left to test; {why}" if why else reason)
    groups = list(dict.fromkeys(group for one in found for group in (one.first, one.second)))
    names, heads = naming(groups)
    labels = {
        key: " ".join(f"{n}={v}" for n, v in zip(names, head, strict=True) if n != "task")
        for key, head in heads.items()
    }
    ps = [one.comparison.decisive.p for one in found]
    corrected = zip(found, holm(ps), benjamini_hochberg(ps), strict=True)
    rows = [_row(one, labels, float(by_holm), float(by_bh)) for one, by_holm, by_bh in corrected]
    footers = table_footers(groups, [*names, "differ in"], *_notes(found), remarks=True)
    footers += [f"left out, {line}" for line in left_out]
    return Table.of("Pairs", ("task", "metric", "differ in", "first", "second"), rows, footers)


def _notes(found: Sequence[ComparedPair]) -> list[str]:
    all_compared = [one.comparison for one in found]
    tests = sorted({one.decisive.name for one in all_compared})
    methods = sorted({one.difference.method for one in all_compared})
    seeds = sorted({seed for one in found for seed in one.left_out})
    return [
        "differ in: the choices in which the two differ; profile: with and without, a component: "
        "with its options; where there are several (confounded), none is known as the cause",
        "second - first: the difference of the metric itself, paired by question; of an error, "
        "less is better",
        f"p: {', '.join(tests)}; Holm (family-wise) and Benjamini-Hochberg (false discoveries), "
        f"over the {len(found)} pairs",
        f"interval: {'; '.join(methods)}",
        *interval_footers([one.difference for one in all_compared]),
        *([f"seeds left out, as only one of two runs has them: {', '.join(map(str, seeds))}"]
          if seeds else []),
        "detectable: the smallest difference that this test would find with 80% power at 5% over "
        f"the {len(found)} pairs (Holm's first step)",
        "verdict on the second by Holm at 5%: inconclusive is not equal",
    ]  # fmt: skip


def _row(one: ComparedPair, labels: dict[str, str], by_holm: float, by_bh: float) -> Row:
    verdict = one.comparison.verdict
    if verdict in ("better", "worse") and not by_holm < SIGNIFICANT:
        verdict = "inconclusive"
    worth = worth_of(verdict)
    apart = ", ".join(one.apart) + (" (confounded)" if len(one.apart) > 1 else "")
    first, second = labels[one.first.configuration], labels[one.second.configuration]
    cells = {
        "second - first": number(one.comparison.difference.value, sign=True, worth=worth),
        "95% interval": one.comparison.difference,
        "p": p_cell(one.comparison.decisive.p),
        "Holm": p_cell(by_holm),
        "BH": p_cell(by_bh),
        "detectable": one.comparison.detectable,
        "verdict": Cell(verdict, worth=worth),
    }
    return Row((one.first.first.task, one.metric, apart, first, second), cells)
