"""Every pair of runs on the same questions, tested, with corrections for their number."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import combinations

from lamp_exp.errors import InputError
from lamp_exp.report.coldstart import bounds
from lamp_exp.report.loading import Record
from lamp_exp.report.paired_examples import pair
from lamp_exp.report.personal import p_cell
from lamp_exp.report.selection import Group, grouped, in_order, naming, same_answers, select
from lamp_exp.report.table import Cell, Row, Table, number, worth_of
from lamp_exp.report.wording import data_words, differences, remarks
from lamp_exp.statistics import Comparison, benjamini_hochberg, compare, holm


@dataclass(frozen=True, slots=True)
class Tested:
    """The second against the first."""

    first: Group
    second: Group
    metric: str
    comparison: Comparison


def pairs(records: Sequence[Record], against: Sequence[str] = ()) -> list[Tested]:
    """All pairs of one ground, or each run against those that meet the conditions `against`.

    By the main metric of the task.
    """
    groups = in_order(grouped(records).values())
    bases = {record.configuration for record in select(records, against)} if against else set()
    if against and not bases:
        raise InputError(f"no run is {' '.join(against)}: nothing to test against")
    found = []
    for one, other in combinations(groups, 2):
        if one.first.ground != other.first.ground or _ground(one) != _ground(other):
            continue
        if same_answers(one) == same_answers(other):  # a tuned run and the one that it chose
            continue
        if against:
            if (one.configuration in bases) == (other.configuration in bases):
                continue
            one, other = (one, other) if one.configuration in bases else (other, one)
        tested = _tested(one, other)
        found += [tested] if tested else []
    return found


def _ground(group: Group) -> tuple[object, ...]:
    return group.facet("split"), group.facet("part"), group.facet("limit")


def _tested(one: Group, other: Group) -> Tested | None:
    metric = one.first.result["monitor"][0]
    samples = pair(one, other, metric)
    if samples is None:
        return None
    return Tested(one, other, metric, compare(*samples, thorough=False))


def pairs_table(records: Sequence[Record], against: Sequence[str] = ()) -> Table:
    """A row for each pair."""
    found = pairs(records, against)
    if not found:
        raise InputError("no two runs answered the same questions of the same part")
    groups = {g.configuration: g for one in found for g in (one.first, one.second)}
    names, heads = naming(list(groups.values()))
    labels = {key: " ".join(f"{n}={v}" for n, v in zip(names, head, strict=True) if n != "task")
              for key, head in heads.items()}  # fmt: skip
    ps = [one.comparison.tests[0].p for one in found]
    corrected = zip(found, holm(ps), benjamini_hochberg(ps), strict=True)
    rows = [_row(one, labels, float(strict), float(loose)) for one, strict, loose in corrected]
    tests = sorted({one.comparison.tests[0].name for one in found})
    told = [record for group in groups.values() for record in group.records]
    footers = (
        *data_words(told),
        "difference: the second minus the first, paired by question: of an error, less is better",
        *differences(list(groups.values()), names),
        f"p: {', '.join(tests)}; Holm (family-wise) and Benjamini-Hochberg (false discoveries), "
        f"over the {len(found)} pairs",
        "detectable: the smallest difference that would be found with 80% power at 5%",
        "verdict on the second by Holm at 5%: inconclusive is not equal",
        *remarks(told),
    )
    columns = ("difference", "95% interval", "p", "Holm", "BH", "detectable", "verdict")
    return Table("Pairs", ("task", "metric", "first", "second"), columns, tuple(rows), footers)


def _row(one: Tested, labels: dict[str, str], strict: float, loose: float) -> Row:
    comparison = one.comparison
    verdict = comparison.verdict
    if verdict in ("better", "worse") and not strict < 0.05:
        verdict = "inconclusive"
    worth = worth_of(verdict)
    first, second = labels[one.first.configuration], labels[one.second.configuration]
    cells = (
        replace(number(comparison.difference.value, sign=True), worth=worth),
        bounds(comparison.difference),
        p_cell(comparison.tests[0].p),
        p_cell(strict),
        p_cell(loose),
        number(comparison.detectable),
        Cell(verdict, worth=worth),
    )
    return Row((one.first.first.task, one.metric, first, second), cells)
