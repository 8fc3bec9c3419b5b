"""The verb compare: two runs, what differs, metrics and tests, and what changed most."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pandas as pd

from lamp_exp.errors import InputError
from lamp_exp.report.cli_arguments import add_named_runs, check_range
from lamp_exp.report.footers import data_footers, interval_footers, remark_footers
from lamp_exp.report.loading import one_run
from lamp_exp.report.paired_examples import pair_of_runs, unreadable_footers, verdict_on
from lamp_exp.report.selection import WEIGHTS, Group, choices_apart, differing, shown
from lamp_exp.report.table import Cell, Row, Table, number, p_cell, worth_of
from lamp_exp.results.record import Record
from lamp_exp.statistics import Comparison, compare
from lamp_exp.wording import count_of

A, B = "A", "B"
DIFFERENCE = "B - A"


def add_options(parser: argparse.ArgumentParser) -> None:
    add_named_runs(parser, "a", "b")
    most = "how many of the examples that changed most (default: 5)"
    parser.add_argument("--examples", type=int, default=5, metavar="N", help=most)
    parser.add_argument("--users", type=int, default=10, metavar="N", help="likewise users (10)")
    parser.add_argument("--user", metavar="ID", help="all questions of this user instead")


def tables(arguments: argparse.Namespace) -> list[Table]:
    for name in ("examples", "users"):
        check_range(name, getattr(arguments, name), 0, 100_000)
    a, b = one_run(arguments.a, arguments.runs), one_run(arguments.b, arguments.runs)
    if arguments.user is not None:
        return example_tables(a, b, questions_of(a, arguments.user))
    return comparison_tables(a, b, arguments.examples, arguments.users)


def comparison_tables(a: Record, b: Record, examples: int, users: int) -> list[Table]:
    """All tables. Raises InputError for runs of other tasks or other questions."""
    refuse_other_questions(a, b)
    samples = {metric: pair_of_runs(a, b, metric) for metric in a.metrics if metric in b.metrics}
    compared = {metric: compare(*both) for metric, both in samples.items() if both}
    if not compared:
        raise InputError(f"{a.name} and {b.name} have no metric with scores in common")
    scores = _scores(a, b)
    return [
        _differences_table(Group((a,)), Group((b,))),
        _metrics_table(a, b, compared),
        _questions_table(a, b, scores),
        _users_table(a, scores, users),
        *example_tables(a, b, changed_questions(scores)[:examples]),
    ]


def refuse_other_questions(a: Record, b: Record) -> None:
    """Raises InputError for runs of other tasks, data or questions."""
    if a.folder.resolve() == b.folder.resolve():
        raise InputError(f"A and B are the same run, {a.name}")
    if a.task != b.task:
        raise InputError(f"{a.name} is of {a.task}, {b.name} of {b.task}: nothing to compare")
    if a.comparable_key != b.comparable_key or {*a.column("id")} != {*b.column("id")}:
        raise InputError(f"{a.name} and {b.name} answered other questions: nothing to compare")


def _scores(a: Record, b: Record) -> pd.DataFrame:
    """User and scores of the main metric by question, in the order of `a`."""
    samples = pair_of_runs(a, b, a.main_metric)
    if samples is None:
        raise InputError(f"{a.name} and {b.name} have no scores of {a.main_metric} in common")
    before, after = (sample.terms[:, 0] for sample in samples)
    frame = pd.DataFrame({"user": a.column("user"), A: before, B: after}, index=a.column("id"))
    return frame.rename_axis("id")


def _differences_table(one: Group, other: Group) -> Table:
    """All options that decide the numbers and differ, the seed, and the version of the code."""
    values = {"run": (one.first.name, other.first.name)}
    values[WEIGHTS] = (one.shown(WEIGHTS), other.shown(WEIGHTS))
    for name in differing([one, other]):
        values[name] = (shown(one.option(name)), shown(other.option(name)))
    values["seed"] = (str(one.first.seed), str(other.first.seed))
    values["code"] = (_version_of_code(one.first), _version_of_code(other.first))
    rows = [((name,), {A: x, B: y}) for name, (x, y) in values.items() if x != y]
    footers = data_footers([one.first, other.first])
    apart = choices_apart(one, other)
    if len(apart) > 1:
        footers.append(
            f"confounded: they differ in {', '.join(apart)}, and none is known as the cause of a "
            "difference"
        )
    return Table.of("What differs", ("",), rows, footers)


def _version_of_code(record: Record) -> str:
    """The commit of a run, or the version that was installed; with changes, also a fingerprint.

    Fingerprints alone tell nothing, as each is of the components in use.
    """
    code = record.result.code
    known = code.commit or record.result.versions.get("lamp-exp", "unknown")
    return f"{known} with changes ({code.fingerprint})" if code.changed else known


def _metrics_table(a: Record, b: Record, compared: Mapping[str, Comparison]) -> Table:
    rows = [row for metric, one in compared.items() for row in _metric_rows(a, b, metric, one)]
    first = next(iter(compared.values()))
    questions, users = count_of(first.n, "question"), count_of(first.clusters, "user")
    footers = (
        f"{questions} of {users}, paired by question",
        f"{DIFFERENCE}: the difference of the metric itself; of an error, less is better",
        *(f"interval of {metric}: {one.difference.method}" for metric, one in compared.items()),
        *interval_footers([one.difference for one in compared.values()]),
        "verdict on B by the first test, at 5%; inconclusive is not equal; the others decide "
        "nothing",
        "detectable: the smallest difference that the first test would find with 80% power",
        *unreadable_footers([verdict_on(first, Group((a,)), Group((b,)))]),
        *(f"A: {line}" for line in remark_footers([a])),
        *(f"B: {line}" for line in remark_footers([b])),
    )
    labels = {test.name: f"p, {test.name}" for one in compared.values() for test in one.tests}
    return Table.of("Metrics", ("metric",), rows, footers, labels)


def _metric_rows(a: Record, b: Record, metric: str, one: Comparison) -> Iterator[Row]:
    verdict, worth = verdict_on(one, Group((a,)), Group((b,))), worth_of(one.verdict)
    cells = {
        A: a.metrics[metric],
        B: b.metrics[metric],
        DIFFERENCE: number(one.difference.value, sign=True, worth=worth),
        "95% interval": one.difference,
        "detectable": one.detectable,
        "verdict": Cell(verdict, worth=worth),
    }
    yield Row((metric,), cells)
    yield from (Row((metric,), {DIFFERENCE: p_cell(test.p)}, test.name) for test in one.tests)


def _questions_table(a: Record, b: Record, scores: pd.DataFrame) -> Table:
    sign = 1 if a.higher_is_better(a.main_metric) else -1
    change = sign * (scores[B] - scores[A])
    counts = {"B better": change > 0, "equal": change == 0, "A better": change < 0}
    if a.facts(a.main_metric).binary:
        right = scores[[A, B]] == 1
        counts = {
            "both right": right.all(axis=1),
            "only A right": right[A] & ~right[B],
            "only B right": right[B] & ~right[A],
            "both wrong": ~right.any(axis=1),
        }
    outputs = b.by_question("prediction")
    counts["the same answer"] = pd.Series(
        [outputs[id] == output for id, output in a.by_question("prediction").items()]
    )
    rows = [((name,), {"questions": int(which.sum())}) for name, which in counts.items()]
    return Table.of(f"Questions ({a.main_metric})", ("",), rows)


def _users_table(a: Record, scores: pd.DataFrame, most: int) -> Table:
    by_user = scores.groupby("user")
    means = by_user[[A, B]].mean().assign(n=by_user.size())
    change = means[B] - means[A]
    moved = means[change != 0].sort_index()
    ranked = moved.loc[change[moved.index].abs().sort_values(ascending=False, kind="stable").index]
    rows = [
        ((str(user),), {"questions": int(n), A: x, B: y, DIFFERENCE: number(y - x, sign=True)})
        for user, x, y, n in ranked.head(most).itertuples(name=None)
    ]
    footer = (
        f"the {len(rows)} whose mean {a.main_metric} changed most (--users) of {len(moved)} that "
        f"changed, of {len(means)}"
    )
    return Table.of("Users", ("user",), rows, [footer], columns=("questions", A, B, DIFFERENCE))


def changed_questions(scores: pd.DataFrame) -> list[str]:
    """The ids of the questions whose scores differ, those that changed most first."""
    change = (scores[B] - scores[A]).abs().sort_index().sort_values(ascending=False, kind="stable")
    return [str(id) for id in change[change > 0].index]


def questions_of(a: Record, user: str) -> list[str]:
    """The ids of a user's questions. Raises InputError for an unknown user."""
    ids = [id for id, whose in a.by_question("user").items() if whose == user]
    if not ids:
        raise InputError(f"{a.name} has no question of user {user!r}")
    return ids


def example_tables(a: Record, b: Record, ids: Sequence[str]) -> list[Table]:
    """A table per question: its gold, and of both runs score, answer, items and prompt."""
    refuse_other_questions(a, b)
    sides = [_examples_of(record) for record in (a, b)] if ids else []
    users, golds = a.by_question("user"), a.by_question("target")
    tables = []
    for id in ids:
        one, other = (side[id] for side in sides)
        gold = json.dumps(golds[id], ensure_ascii=False)
        rows = [((name,), {A: one[name], B: other[name]}) for name in one]
        title = f"Question {id} of user {users[id]}: the gold is {gold}"
        tables.append(Table.of(title, ("",), rows))
    return tables


def _examples_of(record: Record) -> dict[str, dict[str, Any]]:
    """By question: score, answer, items with their scores, prompt."""
    prompts = record.prompts()
    metric = record.main_metric
    names = ("id", record.score_column(metric), "prediction", "items", "item_scores")
    found = {}
    for id, score, answer, items, scores in zip(*map(record.column, names), strict=True):
        hits = [f"{i} ({s:.4g})" for i, s in zip(items, scores, strict=True)]
        found[id] = {
            metric: Cell(f"{score:.4f}"),
            "answer": Cell(answer),
            "items": ", ".join(hits) or "none",
            "prompt": "\n\n".join(prompts.get(id, ["(not recorded)"])),
        }
    return found
