"""The verb tests: every pair of runs on the same questions, with corrections for their number."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import combinations

from lamp_exp.errors import InputError
from lamp_exp.report.cli_arguments import add_format, add_runs, chosen, write
from lamp_exp.report.footers import (
    data_footers,
    difference_footers,
    interval_footers,
    remark_footers,
)
from lamp_exp.report.loading import Record
from lamp_exp.report.paired_examples import common_seeds, pair
from lamp_exp.report.selection import (
    Group,
    choices_apart,
    chosen_runs,
    grouped,
    in_order,
    naming,
    select,
)
from lamp_exp.report.table import Cell, Row, Table, interval_cell, number, p_cell, worth_of
from lamp_exp.statistics import Comparison, benjamini_hochberg, compare, holm

SAME_QUESTIONS = ("split", "part", "limit")


@dataclass(frozen=True, slots=True)
class ComparedPair:
    """The second group compared with the first, on the seeds that both have.

    They differ in the choices `apart`. `left_out` names seeds that only one of them has.
    """

    first: Group
    second: Group
    metric: str
    comparison: Comparison
    apart: tuple[str, ...]
    left_out: tuple[str, ...]

    @property
    def p(self) -> float:
        """The p-value of the test that decides, not corrected."""
        return self.comparison.decisive.p


def add_options(parser: argparse.ArgumentParser) -> None:
    """Which runs, against which, by which metric, and the format."""
    add_runs(parser)
    add_format(parser)
    parser.add_argument(
        "--against", nargs="+", default=[], metavar="KEY=VALUE",
        help="only pairs with one of these runs, as --against retriever=bm25 k=4",
    )  # fmt: skip
    parser.add_argument("--metric", help="another metric than each task's main one, such as f1")
    parser.add_argument(
        "--confounded", action="store_true",
        help="also pairs that differ in more than one choice, of which none is known as the cause",
    )  # fmt: skip


def run(arguments: argparse.Namespace) -> int:
    """Writes the table."""
    records = chosen(arguments)
    table = pairs_table(records, arguments.against, arguments.metric, arguments.confounded)
    write([table], arguments)
    return 0


@dataclass
class Pairs:
    """Pairs of runs that may be compared, and how many were left out for which reason."""

    metric: str | None
    confounded: bool
    found: list[tuple[Group, Group]] = field(default_factory=list)
    without_seed: int = 0
    hidden: int = 0

    def add(self, one: Group, other: Group) -> None:
        """Keeps a pair, or counts why not."""
        if not common_seeds([one, other]):
            self.without_seed += 1
        elif len(choices_apart(one, other)) > 1 and not self.confounded:
            self.hidden += 1
        elif pair(one, other, self.metric_of(one)) is not None:
            self.found.append((one, other))

    def metric_of(self, group: Group) -> str:
        """The metric by which a group is compared."""
        return self.metric or group.first.main_metric

    def left_out(self) -> list[str]:
        """How many pairs are left out, and why."""
        lines = []
        if self.hidden:
            shows = "--confounded shows them"
            lines.append(f"pairs that differ in more than one choice: {self.hidden} ({shows})")
        if self.without_seed:
            lines.append(f"pairs without a seed in common: {self.without_seed} (not tested)")
        return lines


def comparable_pairs(
    records: Sequence[Record],
    against: Sequence[str] = (),
    metric: str | None = None,
    confounded: bool = False,
) -> Pairs:
    """All pairs on the same questions, or only those with a run that meets conditions `against`.

    By the main metric of each task, or `metric`. Raises InputError if no run meets the conditions
    or has the metric.
    """
    groups = in_order(grouped(records).values())
    if metric is not None:
        groups = [group for group in groups if metric in group.first.metrics]
        if not groups:
            known = ", ".join(sorted({name for record in records for name in record.metrics}))
            raise InputError(f"--metric {metric}: no run has it; these have {known}")
    bases = {record.configuration for record in select(records, against)} if against else set()
    if against and not bases:
        raise InputError(f"no run is {' '.join(against)}: nothing to test against")
    pairs = Pairs(metric, confounded)
    for one, other in combinations(groups, 2):
        if not _same_questions(one, other):
            continue
        if against:
            if (one.configuration in bases) == (other.configuration in bases):
                continue
            one, other = (one, other) if one.configuration in bases else (other, one)
        pairs.add(one, other)
    return pairs


def _same_questions(one: Group, other: Group) -> bool:
    """Whether both answered the same questions, and not by the same run."""
    if one.first.comparable_key != other.first.comparable_key:
        return False
    if any(one.facet(name) != other.facet(name) for name in SAME_QUESTIONS):
        return False
    return chosen_runs(one) != chosen_runs(other)


def compared_pairs(
    records: Sequence[Record], against: Sequence[str] = (), confounded: bool = True
) -> list[ComparedPair]:
    """The comparisons of all comparable pairs."""
    return _compared(comparable_pairs(records, against, confounded=confounded))


def _compared(pairs: Pairs) -> list[ComparedPair]:
    family = len(pairs.found)
    found = []
    for one, other in pairs.found:
        metric = pairs.metric_of(one)
        samples = pair(one, other, metric)
        assert samples, "pairs without scores are left out"
        comparison = compare(*samples, thorough=False, family=family)
        shared = common_seeds([one, other])
        one_seeds, other_seeds = ({*group.seeds} - shared for group in (one, other))
        left_out = tuple(map(str, sorted(one_seeds | other_seeds)))
        apart = tuple(choices_apart(one, other))
        found.append(ComparedPair(one, other, metric, comparison, apart, left_out))
    return found


def pairs_table(
    records: Sequence[Record],
    against: Sequence[str] = (),
    metric: str | None = None,
    confounded: bool = False,
) -> Table:
    """A row per pair. Raises InputError if there is none."""
    pairs = comparable_pairs(records, against, metric, confounded)
    found = _compared(pairs)
    if not found:
        why = "; ".join(pairs.left_out())
        reason = "no two runs answered the same questions of the same part"
        raise InputError(f"nothing is left to test; {why}" if why else reason)
    groups = {g.configuration: g for one in found for g in (one.first, one.second)}
    names, heads = naming(list(groups.values()))
    labels = {
        key: " ".join(f"{n}={v}" for n, v in zip(names, head, strict=True) if n != "task")
        for key, head in heads.items()
    }
    ps = [one.p for one in found]
    corrected = zip(found, holm(ps), benjamini_hochberg(ps), strict=True)
    rows = [_row(one, labels, float(by_holm), float(by_bh)) for one, by_holm, by_bh in corrected]
    columns = ("second - first", "95% interval", "p", "Holm", "BH", "detectable", "verdict")
    footers = (
        *_footers(found, list(groups.values()), names),
        *(f"left out, {line}" for line in pairs.left_out()),
    )
    heads_shown = ("task", "metric", "differ in", "first", "second")
    return Table("Pairs", heads_shown, columns, tuple(rows), footers)


def _footers(
    found: Sequence[ComparedPair], groups: Sequence[Group], names: Sequence[str]
) -> list[str]:
    records = [record for group in groups for record in group.records]
    tests = sorted({one.comparison.decisive.name for one in found})
    methods = sorted({one.comparison.difference.method for one in found})
    seeds = sorted({seed for one in found for seed in one.left_out}, key=int)
    return [
        *data_footers(records),
        "differ in: the choices in which the two differ; profile: with and without, a component: "
        "with its options; where there are several (confounded), none is known as the cause",
        "second - first: the difference of the metric itself, paired by question; of an error, "
        "less is better",
        *difference_footers(groups, [*names, "differ in"]),
        f"p: {', '.join(tests)}; Holm (family-wise) and Benjamini-Hochberg (false discoveries), "
        f"over the {len(found)} pairs",
        f"interval: {'; '.join(methods)}",
        *interval_footers([one.comparison.difference for one in found]),
        *([f"seeds left out, as only one of two runs has them: {', '.join(seeds)}"]
          if seeds else []),
        "detectable: the smallest difference that this test would find with 80% power at 5% over "
        f"the {len(found)} pairs (Holm's first step)",
        "verdict on the second by Holm at 5%: inconclusive is not equal",
        *remark_footers(records),
    ]  # fmt: skip


def _row(one: ComparedPair, labels: dict[str, str], by_holm: float, by_bh: float) -> Row:
    comparison = one.comparison
    verdict = comparison.verdict
    if verdict in ("better", "worse") and not by_holm < 0.05:
        verdict = "inconclusive"
    worth = worth_of(verdict)
    apart = ", ".join(one.apart) + (" (confounded)" if len(one.apart) > 1 else "")
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
    return Row((one.first.first.task, one.metric, apart, first, second), cells)
