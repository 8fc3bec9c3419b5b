"""The verb retrieval: what rankings are worth to a reader, from recorded rankings and feedback.

A run of `mode=feedback` says what a reader makes of single items; runs of `mode=rank` on the same
questions are judged by it, without another answer of a model.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lamp_exp.errors import InputError
from lamp_exp.options import FEEDBACK
from lamp_exp.report.cli_arguments import add_runs, check_range, left_out
from lamp_exp.report.footers import data_footers, interval_footers
from lamp_exp.report.loading import find
from lamp_exp.report.selection import Group, grouped, naming, select
from lamp_exp.report.table import Table, percent
from lamp_exp.results import folder as files
from lamp_exp.results.record import Record, read_by_question
from lamp_exp.statistics import Interval, interval
from lamp_exp.statistics.samples import mean_sample, numbered, ratio_sample
from lamp_exp.wording import count_of

K = 4
Rewards = Mapping[str, float]  # of a question's items, in the order of the base ranking
Floats = NDArray[np.float64]


def add_options(parser: argparse.ArgumentParser) -> None:
    add_runs(parser)
    parser.add_argument("-k", type=int, default=K, help=f"items whose mean is shown (default: {K})")


def tables(arguments: argparse.Namespace) -> list[Table]:
    check_range("k", arguments.k, 1, 1000)
    found = find(arguments.runs, arguments.stale)
    records = select(found.records, arguments.where)
    made = retrieval_tables(records, arguments.k)
    if not made:
        raise InputError(
            "no run of mode=feedback and no run of mode=rank on the same questions: make both, "
            f"with the same task, split, part and limit{_reasons(left_out(found, arguments.where))}"
        )
    return made


def _reasons(lines: Sequence[str]) -> str:
    return f" ({'; '.join(lines)})" if lines else ""


def retrieval_tables(records: Sequence[Record], k: int) -> list[Table]:
    """A table for each run of feedback with which some ranking can be judged."""
    ranked = [r for r in records if r.result.mode == "rank" and r.has_file(files.RANKINGS)]
    tables = []
    for record in records:
        if record.result.mode == FEEDBACK and record.has_file(files.FEEDBACK):
            alike = [one for one in ranked if _same_questions(one, record)]
            if alike:
                tables.append(_table(record, list(grouped(alike).values()), k))
    return tables


def _same_questions(one: Record, other: Record) -> bool:
    """Whether two runs have the same questions with the same profiles."""
    names = ("limit", "limit_sample", "fixes", "profile")
    mine, theirs = one.result.settings, other.result.settings
    return one.comparable_key == other.comparable_key and all(
        mine.get(name) == theirs.get(name) for name in names
    )


@dataclass(frozen=True)
class FeedbackTable:
    """The rewards of a run of feedback; questions without items are left out."""

    rewards: Mapping[str, Rewards]
    users: NDArray[np.intp]

    @classmethod
    def of(cls, record: Record) -> FeedbackTable:
        import pyarrow.parquet

        columns = pyarrow.parquet.read_table(record.folder / files.FEEDBACK).to_pydict()
        rewards: dict[str, dict[str, float]] = {}
        users: dict[str, str] = {}
        rows = zip(*(columns[n] for n in ("question", "item", "reward", "user")), strict=True)
        for question, item, reward, user in rows:
            rewards.setdefault(question, {})[item] = reward
            users[question] = user
        return cls(rewards, numbered(list(users.values())))

    def of_items(self, choose: Any) -> Floats:
        """A number for each question, by a function of its rewards."""
        return np.array([choose(list(one.values())) for one in self.rewards.values()])

    @property
    def first(self) -> Floats:
        """The reward of the item that the base ranks first."""
        return self.of_items(lambda rewards: rewards[0])

    @property
    def best(self) -> Floats:
        """The reward of the best item: what no ranking of these items can exceed."""
        return self.of_items(max)


def _table(record: Record, groups: Sequence[Group], k: int) -> Table:
    table = FeedbackTable.of(record)
    names, heads = naming(groups, without={"k", "augmentation", "mode"})
    rows: list[tuple[Any, ...]] = []
    intervals: list[Interval] = []
    for group in groups:
        cells, shown = _cells(table, [_rankings(one) for one in group.records], k)
        rows.append((heads[group.configuration], cells))
        intervals += shown
    bounds = {
        "the best item (bound)": table.best,
        "an item at random": table.of_items(np.mean),
    }
    for name, values in bounds.items():
        one = interval(mean_sample(values, table.users, True))
        head = tuple({"retriever": name, "task": record.task}.get(one, "") for one in names)
        rows.append((head, {"reward of the first": one.value, "interval": one}))
    return Table.of(_title(record), names, rows, _footers(record, groups, table, intervals, k))


def _cells(
    table: FeedbackTable, rankings: Sequence[Mapping[str, Sequence[str]]], k: int
) -> tuple[dict[str, Any], list[Interval]]:
    """The cells of one configuration, whose rankings are those of its seeds."""
    judged = [list(_judged(table, one, k)) for one in rankings]
    first, top, same, unknown = (
        np.mean(part, axis=0) for part in zip(*map(_columns, judged), strict=True)
    )
    start, best = table.first, table.best
    reward = interval(mean_sample(first, table.users, True))
    used = interval(ratio_sample(first - start, best - start, table.users))
    room = float((best - start).sum())
    cells = {
        "reward of the first": reward.value,
        "interval": reward,
        f"mean reward of the first {k}": float(top.mean()),
        "headroom used": percent(used.value) if room else None,
        "its interval": used if room else None,
        "first item as the base": percent(float(same.mean())),
        "first item without a reward": percent(float(unknown.mean())),
    }
    return cells, [reward, used] if room else [reward]


def _columns(rows: Sequence[tuple[float, ...]]) -> tuple[Floats, ...]:
    return tuple(np.array(column, dtype=np.float64) for column in zip(*rows, strict=True))


def _judged(
    table: FeedbackTable, ranking: Mapping[str, Sequence[str]], k: int
) -> Iterator[tuple[float, ...]]:
    """Of each question: the reward of the first rewarded item, the mean of the first k, whether the
    first item is the base's, and whether it has no reward.
    """
    for question, rewards in table.rewards.items():
        items = ranking[question]
        known = [rewards[item] for item in items if item in rewards]
        base_first = next(iter(rewards))
        yield (
            known[0],
            float(np.mean(known[:k])),
            float(items[0] == base_first),
            float(items[0] not in rewards),
        )


def _rankings(record: Record) -> dict[str, list[str]]:
    """The items of each question, best first."""
    rows = read_by_question(record.folder / files.RANKINGS)
    return {id: [item["id"] for item in row["items"]] for id, row in rows.items()}


def _title(record: Record) -> str:
    result = record.result
    place = f"{record.task} {result.split} {result.part}"
    reward = result.settings["feedback"]["reward"]
    return f"Retrieval judged by a reader: {place}, {reward} of {record.name}"


def _footers(
    record: Record, groups: Sequence[Group], table: FeedbackTable, shown: Sequence[Interval], k: int
) -> list[str]:
    options = record.result.settings["feedback"]
    base = record.result.choices["retriever"]
    facts = record.result.learned[-1] if record.result.learned else {}
    lines = [
        *data_footers([record, *(one for group in groups for one in group.records)]),
        f"a reward is what the reader makes of a single item: {options['reward']} "
        f"(the best {options['items']} items of {base}); "
        f"{count_of(len(table.rewards), 'question')}",
        "rankings are judged on the items that have a reward; the share of questions whose first "
        "item has none is shown",
        f"headroom used: how much of the gain from the first item of {base} to the best item",
        "configurations of several seeds: the mean over the seeds",
        *interval_footers(shown),
    ]
    if facts.get("saw_these_golds"):
        lines.append("the reader was fine-tuned on these very questions: it has seen their golds")
    if equal := facts.get("questions_with_equal_rewards"):
        lines.append(f"equal rewards for all items: {count_of(equal, 'question')}")
    return lines
