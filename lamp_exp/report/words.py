"""What stands below a table, so that its numbers can be read without the runs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from lamp_exp.report.published import unknown
from lamp_exp.report.records import Record
from lamp_exp.report.selection import Group
from lamp_exp.show import warnings

if TYPE_CHECKING:
    from lamp_exp.report.build import Entry

RULES = {
    "accuracy": "accuracy: the stripped output equals the gold",
    "f1": "f1: macro average over the task's fixed labels, an unknown label is a wrong class",
    "mae": "mae: mean absolute error, lower is better; an unreadable output counts as the end of "
    "the scale farther from the gold",
    "rmse": "rmse: root mean squared error by the same rule, lower is better",
    "rouge_1": "rouge_1, rouge_l: F measures by rouge-score without stemmer, plain mean",
}


def footers(
    entries: Sequence[Entry], level: float, alpha: float, tested: bool, best: bool
) -> list[str]:
    """All that a reader must know of a table's numbers; what must be seen first comes first."""
    groups = list({entry.group.configuration: entry.group for entry in entries}.values())
    records = [record for group in groups for record in group.records]
    lines = [*data_words(records), *_counts(groups)]
    metrics = {entry.metric for entry in entries}
    lines += [rule for metric, rule in RULES.items() if metric in metrics]
    if any(len(group.records) > 1 for group in groups):
        lines.append("±: sample standard deviation over the seeds")
    lines += _intervals(entries, level)
    if tested:
        lines.append(_tests(entries, alpha))
    if best:
        lines.append("bold: the best of its task and metric in this table")
    return [*lines, *_published(entries), *remarks(records)]


def data_words(records: Sequence[Record]) -> list[str]:
    """Whether the data are the benchmark's, and all of them."""
    lines = []
    made_up = sum(bool(record.result["made_up_data"]) for record in records)
    if made_up:
        lines.append(f"MADE-UP SAMPLE, not LaMP: {made_up} of {len(records)} runs")
    limits = {record.result["settings"].get("limit") for record in records} - {None}
    if limits:
        told = ", ".join(map(str, sorted(limits)))
        lines.append(f"only the first questions of each part (limit={told}): no result of LaMP")
    return lines


def _counts(groups: Sequence[Group]) -> list[str]:
    """Runs, seeds, questions, users; a range where they differ."""
    seeds = [len(group.records) for group in groups]
    questions = [group.first.questions for group in groups]
    return [
        f"each number: {_range(seeds)} seed{'s' if max(seeds) > 1 else ''} of "
        f"{_range(questions)} questions"
    ]


def _range(values: Sequence[int]) -> str:
    low, high = min(values), max(values)
    return str(low) if low == high else f"{low} to {high}"


def _intervals(entries: Iterable[Entry], level: float) -> list[str]:
    by_method: dict[str, set[str]] = {}
    for entry in entries:
        if entry.interval:
            by_method.setdefault(entry.interval.method, set()).add(entry.metric)
    return [
        f"{level:.0%} interval over questions ({', '.join(sorted(metrics))}): {method}"
        for method, metrics in sorted(by_method.items())
    ]


def _tests(entries: Sequence[Entry], alpha: float) -> str:
    used = {e.comparison.tests[0].name for e in entries if e.comparison and e.comparison.tests}
    alone = sum(e.comparison is None and bool(e.group.first.twin) for e in entries)
    untested = f"; {alone} without that run: not tested" if alone else ""
    return (
        f"*: differs from the same run without a profile, p < {alpha:g} after Holm over the table "
        f"({', '.join(sorted(used))}){untested}"
    )


def _published(entries: Iterable[Entry]) -> list[str]:
    shown = [entry for entry in entries if entry.published]
    told = dict.fromkeys(entry.published.told for entry in shown if entry.published)
    lines = [f"published: {line}" for line in told]
    faults = dict.fromkeys(fault for entry in shown for fault in entry.caveats)
    if faults:
        lines.append(f"†: not comparable with ours: {'; '.join(faults)}")
    vague = dict.fromkeys(n for e in shown if e.published for n in unknown(e.published))
    second = any(e.published and e.published.status != "primary" for e in shown)
    reasons = [f"its source does not say the {', '.join(vague)}"] if vague else []
    reasons += ["read second-hand"] if second else []
    return [*lines, *([f"‡: {'; or '.join(reasons)}"] if reasons else [])]


def remarks(records: Sequence[Record]) -> list[str]:
    """In how many runs something was cut, lost, unreadable or else to be wary of."""
    counts = Counter(line for record in records for line in set(warnings(record.result)))
    return [
        f"in {number} of {len(records)} runs: {line}"
        for line, number in sorted(counts.items(), key=lambda item: -item[1])
    ]
