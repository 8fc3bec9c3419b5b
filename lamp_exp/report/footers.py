"""Footers of tables: what a reader must know of their numbers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from lamp_exp.report.loading import Record
from lamp_exp.report.published import BM25, rivals, vague
from lamp_exp.report.selection import Group, facet, hidden_differences, shown
from lamp_exp.results.display import remark_kinds
from lamp_exp.results.schema import SCHEMA_VERSION
from lamp_exp.statistics import Interval

if TYPE_CHECKING:
    from lamp_exp.report.metric_tables import Entry

LISTED = 5  # runs that a footer names
COMPARED_VERSIONS = ("python", "torch", "transformers")


def metric_footers(
    entries: Sequence[Entry], facets: Iterable[str], level: float, alpha: float, tested: bool
) -> list[str]:
    """The footers of a metric table, the most important first.

    `facets` are the properties of its runs that the table itself shows.
    """
    groups = list({entry.group.configuration: entry.group for entry in entries}.values())
    records = [record for group in groups for record in group.records]
    lines = [*data_footers(records), *_counts(groups), *difference_footers(groups, facets)]
    lines += metric_rules(entries)
    if any(len(group.records) > 1 for group in groups):
        lines.append("±: sample standard deviation over the seeds")
    lines += _intervals(entries, level)
    if tested:
        lines.append(_tests(entries, alpha))
    return [*lines, *_published(entries), *remark_footers(records)]


def metric_rules(entries: Iterable[Entry]) -> list[str]:
    """The rule of each metric, those with the same rule together."""
    by_rule: dict[str, list[str]] = {}
    for entry in entries:
        rule = entry.group.first.facts(entry.metric).description
        if rule and entry.metric not in by_rule.setdefault(rule, []):
            by_rule[rule].append(entry.metric)
    return [f"{', '.join(names)}: {rule}" for rule, names in by_rule.items()]


def difference_footers(groups: Sequence[Group], facets: Iterable[str]) -> list[str]:
    """What else the runs of one table differ in, beyond what it shows."""
    lines = hidden_differences(groups, facets)
    return [f"these runs also differ in {'; '.join(lines)}"] if lines else []


def data_footers(records: Sequence[Record]) -> list[str]:
    """Whether the data are the benchmark's and complete, and who made the runs."""
    results = [record.result for record in records]
    lines = []
    if made_up := sum(result.made_up_data for result in results):
        lines.append(f"MADE-UP SAMPLE, not LaMP: {made_up} of {len(records)} runs")
    if stale := sum(result.stale is not None for result in results):
        lines.append(f"STALE: {stale} of {len(records)} runs were made by other code or data")
    if older := sum(result.schema_version < SCHEMA_VERSION for result in results):
        lines.append(f"recorded by an older version of lamp_exp: {older} of {len(records)} runs")
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
        named = ", ".join(map(str, sorted(numbers)))
        if chosen == "random":
            which = f"questions drawn by seed (limit={named} limit_sample=random)"
        else:
            which = (
                f"the first questions of each part (limit={named}), which may be alike, such as in "
                "profile size"
            )
        lines.append(f"only {which}: no result of LaMP")
    return lines


def seed_footers(groups: Sequence[Group], reduced: Mapping[str, Group]) -> list[str]:
    """Which seeds of which runs are left out, so that all numbers are of the same seeds."""
    left_out = []
    for group in groups:
        seeds = [seed for seed in group.seeds if seed not in reduced[group.configuration].seeds]
        if seeds:
            left_out.append(f"{system_words(group)}: {', '.join(map(str, seeds))}")
    own = [reduced[group.configuration] for group in groups if not group.first.imported]
    task = groups[0].first.task
    if left_out:
        named = "; ".join(left_out[:LISTED])
        more = f"; and of {len(left_out) - LISTED} more" if len(left_out) > LISTED else ""
        return [f"{task}: seeds left out, as not all runs compared here have them ({named}{more})"]
    if len({group.seeds for group in own}) > 1:
        return [f"{task}: the runs have no seed in common: each number is of its own seeds"]
    return []


def system_words(group: Group) -> str:
    """A run in few words."""
    if not group.first.personal:
        return "no profile"
    retriever, augmentation, k = (group.facet(n) for n in ("retriever", "augmentation", "k"))
    return f"{retriever} {augmentation} k={k}"


def _counts(groups: Sequence[Group]) -> list[str]:
    """The numbers of seeds and questions; a range where they differ."""
    seeds = [len(group.records) for group in groups]
    questions = [group.first.questions for group in groups]
    plural = "s" if max(seeds) > 1 else ""
    return [f"each number: {_range(seeds)} seed{plural} of {_range(questions)} questions"]


def _range(values: Sequence[int]) -> str:
    low, high = min(values), max(values)
    return str(low) if low == high else f"{low} to {high}"


def _intervals(entries: Sequence[Entry], level: float) -> list[str]:
    by_method: dict[str, set[str]] = {}
    for entry in entries:
        if entry.interval:
            by_method.setdefault(entry.interval.method, set()).add(entry.metric)
    lines = [
        f"{level:.0%} interval over questions ({', '.join(sorted(metrics))}): {method}"
        for method, metrics in sorted(by_method.items())
    ]
    own = [entry.interval for entry in entries if entry.interval]
    tested = [entry.comparison.difference for entry in entries if entry.comparison]
    return [*lines, *_users([*own, *tested]), *_cautions(own)]


def interval_footers(intervals: Sequence[Interval]) -> list[str]:
    """The number of users, if intervals are clustered; why those with ° may cover less."""
    return [*_users(intervals), *_cautions(intervals)]


def _users(intervals: Sequence[Interval]) -> list[str]:
    users = [one.users for one in intervals if one.users]
    return [f"{_range(users)} users, who count as independent"] if users else []


def _cautions(intervals: Sequence[Interval]) -> list[str]:
    return [f"°: {caution}" for caution in sorted({one.caution for one in intervals} - {""})]


def _tests(entries: Sequence[Entry], alpha: float) -> str:
    used = {e.comparison.tests[0].name for e in entries if e.comparison and e.comparison.tests}
    alone = sum(e.comparison is None and e.group.first.personal for e in entries)
    lines = [
        f"*: differs from the same run without a profile, p < {alpha:g} after Holm over the table "
        f"({', '.join(sorted(used))})",
        *([f"{alone} without that run, or of other seeds: not tested"] if alone else []),
    ]
    return "; ".join(lines)


def _published(entries: Iterable[Entry]) -> list[str]:
    shown = [entry for entry in entries if entry.published]
    sources = dict.fromkeys(entry.published.citation for entry in shown if entry.published)
    lines = [f"published: {line}" for line in sources]
    lines += dict.fromkeys(line for entry in shown for line in _rivals(entry))
    if any(entry.group.facet("retriever") == "bm25" for entry in shown):
        lines.append(BM25)
    faults = dict.fromkeys(fault for entry in shown for fault in entry.caveats)
    if faults:
        lines.append(f"†: not comparable with ours: {'; '.join(faults)}")
    open_ = dict.fromkeys(line for e in shown if e.published for line in vague(e.published))
    return [*lines, *([f"‡: {'; or '.join(open_)}"] if open_ else [])]


def _rivals(entry: Entry) -> list[str]:
    """Other numbers that were published of the same system."""
    others = rivals(entry.group.first, entry.metric)
    return [
        f"also published, {entry.group.first.task} {entry.metric}: {one.value:g} ({one.citation})"
        for one in others
        if entry.published and one.value != entry.published.value
    ]


def remark_footers(records: Sequence[Record]) -> list[str]:
    """In how many runs something was cut, lost, unreadable or otherwise unusual."""
    counts = Counter(line for record in records for line in set(remark_kinds(record.result)))
    return [
        f"in {number} of {len(records)} runs: {line}"
        for line, number in sorted(counts.items(), key=lambda item: -item[1])
    ]
