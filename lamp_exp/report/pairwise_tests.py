"""The verb tests: every pair of runs on the same questions, with corrections for their number."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from itertools import combinations
from typing import Any

import pandas as pd

from lamp_exp.errors import InputError
from lamp_exp.report.cli_arguments import add_runs, chosen
from lamp_exp.report.footers import interval_footers, table_footers
from lamp_exp.report.paired_examples import common_seeds, pair, unreadable_footers, verdict_on
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
from lamp_exp.results.record import Record
from lamp_exp.statistics import benjamini_hochberg, compare, holm
from lamp_exp.statistics.paired import SIGNIFICANT
from lamp_exp.wording import count_of


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
) -> tuple[pd.DataFrame, list[str]]:
    """A row for each pair on the same questions; and how many are left out for which reason.

    `comparison` is of the group `second` with `first`, on the seeds that both have, by the main
    metric of each task or by `metric`, and `verdict` is its verdict before any correction; `apart`
    are the choices in which they differ, `left_out` the seeds that only one has. With `against`,
    only pairs with a run that meets these conditions. Raises InputError if no run meets the
    conditions or has the metric.
    """
    pairs: list[dict[str, Any]] = []
    without_seed = hidden = 0
    for one, other in _candidates(records, against, metric):
        apart, by = choices_apart(one, other), metric or one.first.main_metric
        if not common_seeds([one, other]):
            without_seed += 1
        elif len(apart) > 1 and not confounded:
            hidden += 1
        elif pair(one, other, by):
            left_out = {*one.seeds} ^ {*other.seeds}
            named = {"first": one, "second": other, "metric": by, "apart": apart}
            pairs.append({**named, "left_out": left_out})
    reasons = []
    if hidden:
        shows = "--confounded shows them"
        reasons.append(f"pairs that differ in more than one choice: {hidden} ({shows})")
    if without_seed:
        reasons.append(f"pairs without a seed in common: {without_seed} (not tested)")
    for row in pairs:
        samples = pair(row["first"], row["second"], row["metric"])
        assert samples, "pairs without scores are left out"
        row["comparison"] = compare(*samples, thorough=False, family=len(pairs))
        row["verdict"] = verdict_on(row["comparison"], row["first"], row["second"])
    return pd.DataFrame(pairs), reasons


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
        raise InputError(f"there is no run with {' '.join(against)} to test against")
    ordered = [sorted(both, key=lambda group: group.configuration not in bases) for both in pairs]
    return [
        (one, other)
        for one, other in ordered
        if one.configuration in bases and other.configuration not in bases
    ]


def pairs_table(
    records: Sequence[Record],
    against: Sequence[str] = (),
    metric: str | None = None,
    confounded: bool = False,
) -> Table:
    """A row per pair. Raises InputError if there is none."""
    found, left_out = compared_pairs(records, against, metric, confounded)
    if found.empty:
        why = "; ".join(left_out)
        reason = "no two runs answered the same questions of the same part"
        raise InputError(f"there is nothing to test; {why}" if why else reason)
    groups = list(pd.unique(found[["first", "second"]].to_numpy().ravel()))
    names, heads = naming(groups)
    labels = {
        key: " ".join(f"{n}={v}" for n, v in zip(names, head, strict=True) if n != "task")
        for key, head in heads.items()
    }
    found["p"] = [one.decisive.p for one in found["comparison"]]
    found["holm"], found["bh"] = holm(found["p"]), benjamini_hochberg(found["p"])
    rows = [_row(one, labels) for one in found.itertuples()]
    footers = table_footers(groups, [*names, "differ in"], *_notes(found), remarks=True)
    footers += [f"left out, {line}" for line in left_out]
    return Table.of("Pairs", ("task", "metric", "differ in", "first", "second"), rows, footers)


def _notes(found: pd.DataFrame) -> list[str]:
    tests = sorted({one.decisive.name for one in found["comparison"]})
    differences = [one.difference for one in found["comparison"]]
    methods = sorted({one.method for one in differences})
    seeds = ", ".join(map(str, sorted(set().union(*found["left_out"]))))
    return [
        "differ in: the choices in which the two differ; profile: with and without, a component: "
        "with its options; where there are several (confounded), none is known as the cause",
        "second - first: the difference of the metric itself, paired by question; of an error, "
        "less is better",
        f"p: {', '.join(tests)}; Holm (family-wise) and Benjamini-Hochberg (false discoveries), "
        f"over {count_of(len(found), 'pair')}",
        f"interval: {'; '.join(methods)}",
        *interval_footers(differences),
        *([f"seeds left out, as only one of two runs has them: {seeds}"] if seeds else []),
        "detectable: the smallest difference that this test would find with 80% power at 5% over "
        f"{count_of(len(found), 'pair')} (Holm's first step)",
        "verdict on the second by Holm at 5%: inconclusive is not equal",
        *unreadable_footers(found["verdict"].tolist()),
    ]


def _row(one: Any, labels: dict[str, str]) -> Row:
    verdict = one.verdict
    if verdict in ("better", "worse") and not one.holm < SIGNIFICANT:
        verdict = "inconclusive"
    worth = worth_of(verdict)
    apart = ", ".join(one.apart) + (" (confounded)" if len(one.apart) > 1 else "")
    both = labels[one.first.configuration], labels[one.second.configuration]
    cells = {
        "second - first": number(one.comparison.difference.value, sign=True, worth=worth),
        "95% interval": one.comparison.difference,
        "p": p_cell(one.p),
        "Holm": p_cell(one.holm),
        "BH": p_cell(one.bh),
        "detectable": one.comparison.detectable,
        "verdict": Cell(verdict, worth=worth),
    }
    return Row((one.first.first.task, one.metric, apart, *both), cells)
