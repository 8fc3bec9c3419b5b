"""What stands below a table, so that its numbers can be read without the runs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from lamp_exp.report.loading import Record
from lamp_exp.report.published import BM25, rivals, vague
from lamp_exp.report.selection import Group, untold
from lamp_exp.results.display import warnings
from lamp_exp.results.schema import RunResult

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
    entries: Sequence[Entry], facets: Iterable[str], level: float, alpha: float, tested: bool
) -> list[str]:
    """All that a reader must know of a table's numbers; what must be seen first comes first.

    `facets` are the properties that the table itself tells of its runs.
    """
    groups = list({entry.group.configuration: entry.group for entry in entries}.values())
    records = [record for group in groups for record in group.records]
    lines = [*data_words(records), *_counts(groups), *differences(groups, facets)]
    metrics = {entry.metric for entry in entries}
    lines += [rule for metric, rule in RULES.items() if metric in metrics]
    if any(len(group.records) > 1 for group in groups):
        lines.append("±: sample standard deviation over the seeds")
    lines += _intervals(entries, level)
    if tested:
        lines.append(_tests(entries, alpha))
    return [*lines, *_published(entries), *remarks(records)]


def differences(groups: Sequence[Group], facets: Iterable[str]) -> list[str]:
    """In what else runs of one table differ, beyond what it tells of them."""
    lines = untold(groups, facets)
    return [f"these runs also differ in {'; '.join(lines)}"] if lines else []


def data_words(records: Sequence[Record]) -> list[str]:
    """Whether the data are the benchmark's, and all of them."""
    lines = []
    made_up = sum(bool(record.result["made_up_data"]) for record in records)
    if made_up:
        lines.append(f"MADE-UP SAMPLE, not LaMP: {made_up} of {len(records)} runs")
    stale = sum(bool(record.result.get("stale")) for record in records)
    if stale:
        lines.append(f"STALE: {stale} of {len(records)} runs were made by other code or data")
    for package in ("python", "torch", "transformers"):
        found = {record.result["versions"].get(package) for record in records} - {None}
        if len(found) > 1:
            lines.append(f"made with different versions of {package}: {', '.join(sorted(found))}")
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
    alone = sum(e.comparison is None and bool(e.group.first.result["k"]) for e in entries)
    lines = [f"{alone} without that run, or of other seeds: not tested"] if alone else []
    partly = sum(e.tested_seeds not in (None, len(e.group.records)) for e in entries)
    lines += [f"{partly} tested on the seeds that both runs have"] if partly else []
    return "; ".join(
        [
            f"*: differs from the same run without a profile, p < {alpha:g} after Holm over the "
            f"table ({', '.join(sorted(used))})",
            *lines,
        ]
    )


def _published(entries: Iterable[Entry]) -> list[str]:
    shown = [entry for entry in entries if entry.published]
    told = dict.fromkeys(entry.published.told for entry in shown if entry.published)
    lines = [f"published: {line}" for line in told]
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
        f"also published, {entry.group.first.task} {entry.metric}: {one.value:g} ({one.told})"
        for one in others
        if entry.published and one.value != entry.published.value
    ]


def remarks(records: Sequence[Record]) -> list[str]:
    """In how many runs something was cut, lost, unreadable or else to be wary of."""
    counts = Counter(
        line
        for record in records
        for line in set(warnings(RunResult.from_json(dict(record.result))))
    )
    return [
        f"in {number} of {len(records)} runs: {line}"
        for line, number in sorted(counts.items(), key=lambda item: -item[1])
    ]
