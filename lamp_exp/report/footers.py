"""Footers of tables: what a reader must know of their numbers."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from typing import Any

from lamp_exp.options import PERSONAL_GROUPS
from lamp_exp.report.selection import Group, facet, hidden_differences, naming, shown
from lamp_exp.report.table import Table
from lamp_exp.results.display import tallied_remarks
from lamp_exp.results.record import Record
from lamp_exp.results.schema import SCHEMA_VERSION
from lamp_exp.statistics import Interval, caution_notes
from lamp_exp.wording import count_of

LISTED = 5  # runs that a footer names
COMPARED_VERSIONS = ("python", "torch", "transformers")


def group_table(
    title: str,
    heads: Sequence[str],
    rows: Sequence[tuple[Any, ...]],
    notes: Sequence[str],
    without: Collection[str] = (),
    records: Sequence[Record] = (),
    remarks: bool = True,
) -> Table:
    """A table of rows (group, further heads, cells), named by what tells the groups apart.

    A row may have a kind as its last part, see `table.Row`. Nothing of `without` is a head.
    `records` are the runs behind the numbers, if not the groups'; with `remarks`, footers say what
    was unusual in them.
    """
    groups = list(dict.fromkeys(group for group, *_ in rows))
    names, known = naming(groups, without)
    made = [
        ((*known[group.configuration], *head), cells, *kind) for group, head, cells, *kind in rows
    ]
    shown_names = [*names, *without]
    footers = table_footers(
        groups, shown_names, *notes, remarks=remarks and bool(records), records=records
    )
    return Table.of(title, (*names, *heads), made, footers)


def table_footers(
    groups: Sequence[Group],
    shown_names: Iterable[str],
    *notes: str,
    remarks: bool = False,
    records: Sequence[Record] = (),
) -> list[str]:
    """What the data are, then `notes`, then what else differs; with `remarks` on the records."""
    records = records or [record for group in groups for record in group.records]
    hidden = "; ".join(hidden_differences(groups, shown_names))
    return [
        *data_footers(records),
        *notes,
        *([f"these runs also differ in {hidden}"] if hidden else []),
        *(remark_footers(records) if remarks else []),
    ]


def data_footers(records: Sequence[Record]) -> list[str]:
    """Whether the data are the benchmark's and complete, and who made the runs."""
    results = [record.result for record in records]
    of = f"of {count_of(len(records), 'run')}"
    lines = []
    if made_up := sum(result.made_up_data for result in results):
        lines.append(f"MADE-UP SAMPLE, not LaMP: {made_up} {of}")
    if stale := sum(result.stale is not None for result in results):
        lines.append(f"STALE: {stale} {of} were made by other code or data")
    if older := sum(result.schema_version < SCHEMA_VERSION for result in results):
        lines.append(f"recorded by an older version of lamp_exp: {older} {of}")
    for package in COMPARED_VERSIONS:
        found = {r.versions[package] for r in results if package in r.versions}
        if len(found) > 1:
            lines.append(f"made with different versions of {package}: {', '.join(sorted(found))}")
    return [*lines, *_limit_footers(records)]


def _limit_footers(records: Sequence[Record]) -> list[str]:
    """What part of the questions was answered, and how it was chosen."""
    limits: dict[str, set[int]] = {}
    for record in records:
        if (limit := facet(record, "limit")) is not None:
            limits.setdefault(shown(facet(record, "limit_sample")), set()).add(limit)
    lines = []
    for chosen, numbers in limits.items():
        named = f"limit={', '.join(map(str, sorted(numbers)))}"
        if chosen == "random":
            which = f"questions drawn by seed ({named} limit_sample=random)"
        else:
            which = (
                f"the first questions of each part ({named}), which may be alike, such as in "
                "profile size"
            )
        lines.append(f"only {which}: no result of LaMP")
    return lines


def system_words(group: Group) -> str:
    """A run in few words."""
    if not group.first.personal:
        return "no profile"
    if group.first.result.routing is not None:
        return f"router {group.shown('router')}"
    names = [group.shown(name) for name in ("retriever", "augmentation", *PERSONAL_GROUPS)]
    return " ".join([*(name for name in names if name != "none"), f"k={group.shown('k')}"])


def interval_footers(intervals: Iterable[Interval], tested: Iterable[Interval] = ()) -> list[str]:
    """The number of users, if intervals are clustered; why those with ° may cover less.

    `tested` are intervals that are not shown, of differences.
    """
    shown_ones = list(intervals)
    users = [one.users for one in (*shown_ones, *tested) if one.users]
    plural = "s" if users and max(users) > 1 else ""
    return [
        *([f"{number_range(users)} user{plural}, who count as independent"] if users else []),
        *caution_notes(one.caution for one in shown_ones),
    ]


def number_range(values: Sequence[int]) -> str:
    low, high = min(values), max(values)
    return str(low) if low == high else f"{low} to {high}"


def remark_footers(records: Sequence[Record]) -> list[str]:
    """In how many runs something was cut, lost, unreadable or otherwise unusual."""
    tallied = tallied_remarks(record.result for record in records)
    return [f"in {n} of {count_of(len(records), 'run')}: {line}" for line, n in tallied]
