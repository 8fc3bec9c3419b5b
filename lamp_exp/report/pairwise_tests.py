"""The verb tests: every pair of runs on the same questions, with corrections for their number."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import combinations

from lamp_exp.errors import InputError
from lamp_exp.report.cli_arguments import add_format, add_runs, chosen, write
from lamp_exp.report.footers import data_footers, difference_footers, remark_footers
from lamp_exp.report.loading import Record
from lamp_exp.report.paired_examples import pair
from lamp_exp.report.selection import Group, chosen_runs, grouped, in_order, naming, select
from lamp_exp.report.table import Cell, Row, Table, interval_cell, number, p_cell, worth_of
from lamp_exp.statistics import Comparison, benjamini_hochberg, compare, holm

SAME_QUESTIONS = ("split", "part", "limit")


@dataclass(frozen=True, slots=True)
class ComparedPair:
    """The second group compared with the first."""

    first: Group
    second: Group
    metric: str
    comparison: Comparison

    @property
    def p(self) -> float:
        """The p-value of the test that decides, not corrected."""
        return self.comparison.tests[0].p


def add_options(parser: argparse.ArgumentParser) -> None:
    """Which runs, against which, and the format."""
    add_runs(parser)
    add_format(parser)
    parser.add_argument(
        "--against", nargs="+", default=[], metavar="KEY=VALUE",
        help="only pairs with one of these runs, as --against retriever=bm25 k=4",
    )  # fmt: skip


def run(arguments: argparse.Namespace) -> int:
    """Writes the table."""
    write([pairs_table(chosen(arguments), arguments.against)], arguments)
    return 0


def compared_pairs(records: Sequence[Record], against: Sequence[str] = ()) -> list[ComparedPair]:
    """All comparable pairs, or only those with a run that meets the conditions `against`.

    By the main metric of the task. Raises InputError if no run meets the conditions.
    """
    groups = in_order(grouped(records).values())
    bases = {record.configuration for record in select(records, against)} if against else set()
    if against and not bases:
        raise InputError(f"no run is {' '.join(against)}: nothing to test against")
    found = []
    for one, other in combinations(groups, 2):
        if not _comparable(one, other):
            continue
        if against:
            if (one.configuration in bases) == (other.configuration in bases):
                continue
            one, other = (one, other) if one.configuration in bases else (other, one)
        compared = _compared(one, other)
        found += [compared] if compared else []
    return found


def _comparable(one: Group, other: Group) -> bool:
    """Whether both answered the same questions, and not by the same run."""
    if one.first.comparable_key != other.first.comparable_key:
        return False
    if any(one.facet(name) != other.facet(name) for name in SAME_QUESTIONS):
        return False
    return chosen_runs(one) != chosen_runs(other)


def _compared(one: Group, other: Group) -> ComparedPair | None:
    metric = one.first.main_metric
    samples = pair(one, other, metric)
    if samples is None:
        return None
    return ComparedPair(one, other, metric, compare(*samples, thorough=False))


def pairs_table(records: Sequence[Record], against: Sequence[str] = ()) -> Table:
    """A row per pair. Raises InputError if there is none."""
    found = compared_pairs(records, against)
    if not found:
        raise InputError("no two runs answered the same questions of the same part")
    groups = {g.configuration: g for one in found for g in (one.first, one.second)}
    names, heads = naming(list(groups.values()))
    labels = {
        key: " ".join(f"{n}={v}" for n, v in zip(names, head, strict=True) if n != "task")
        for key, head in heads.items()
    }
    ps = [one.p for one in found]
    corrected = zip(found, holm(ps), benjamini_hochberg(ps), strict=True)
    rows = [_row(one, labels, float(by_holm), float(by_bh)) for one, by_holm, by_bh in corrected]
    tests = sorted({one.comparison.tests[0].name for one in found})
    records = [record for group in groups.values() for record in group.records]
    footers = (
        *data_footers(records),
        "second - first: the difference of the metric itself, paired by question; of an error, "
        "less is better",
        *difference_footers(list(groups.values()), names),
        f"p: {', '.join(tests)}; Holm (family-wise) and Benjamini-Hochberg (false discoveries), "
        f"over the {len(found)} pairs",
        "detectable: the smallest difference that would be found with 80% power at 5%",
        "verdict on the second by Holm at 5%: inconclusive is not equal",
        *remark_footers(records),
    )
    columns = ("second - first", "95% interval", "p", "Holm", "BH", "detectable", "verdict")
    return Table("Pairs", ("task", "metric", "first", "second"), columns, tuple(rows), footers)


def _row(one: ComparedPair, labels: dict[str, str], by_holm: float, by_bh: float) -> Row:
    comparison = one.comparison
    verdict = comparison.verdict
    if verdict in ("better", "worse") and not by_holm < 0.05:
        verdict = "inconclusive"
    worth = worth_of(verdict)
    first, second = labels[one.first.configuration], labels[one.second.configuration]
    cells = (
        replace(number(comparison.difference.value, sign=True), worth=worth),
        interval_cell(comparison.difference),
        p_cell(one.p),
        p_cell(by_holm),
        p_cell(by_bh),
        number(comparison.detectable),
        Cell(verdict, worth=worth),
    )
    return Row((one.first.first.task, one.metric, first, second), cells)
