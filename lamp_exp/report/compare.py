"""The verb compare: two runs, what differs, metrics and tests, and what changed most."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from lamp_exp.errors import InputError
from lamp_exp.report.cli_arguments import add_format, add_named_runs, check_range, write
from lamp_exp.report.footers import data_footers, interval_footers, remark_footers
from lamp_exp.report.loading import Record, one_run
from lamp_exp.report.paired_examples import pair_of_runs
from lamp_exp.report.selection import Group, choices_apart, differing, option_of, shown
from lamp_exp.report.table import (
    Cell,
    Row,
    Table,
    as_cell,
    interval_cell,
    number,
    p_cell,
    plain,
    worth_of,
)
from lamp_exp.statistics import Comparison, compare

A, B = "A", "B"
DIFFERENCE = "B - A"


def add_options(parser: argparse.ArgumentParser) -> None:
    """The two runs, and how much is shown of them."""
    add_named_runs(parser, "a", "b")
    add_format(parser)
    most = "how many of the examples that changed most (default: 5)"
    parser.add_argument("--examples", type=int, default=5, metavar="N", help=most)
    parser.add_argument("--users", type=int, default=10, metavar="N", help="likewise users (10)")
    parser.add_argument("--user", metavar="ID", help="all questions of this user instead")


def run(arguments: argparse.Namespace) -> int:
    """Writes the tables."""
    for name in ("examples", "users"):
        check_range(name, getattr(arguments, name), 0, 100_000)
    a, b = one_run(arguments.a, arguments.runs), one_run(arguments.b, arguments.runs)
    if arguments.user is not None:
        tables = example_tables(a, b, questions_of(a, arguments.user))
    else:
        tables = comparison_tables(a, b, arguments.examples, arguments.users)
    write(tables, arguments)
    return 0


def comparison_tables(a: Record, b: Record, examples: int, users: int) -> list[Table]:
    """All tables. Raises InputError for runs of other tasks or other questions."""
    refuse_other_questions(a, b)
    one, other = Group((a,)), Group((b,))
    compared = {}
    for metric in a.metrics:
        samples = pair_of_runs(a, b, metric) if metric in b.metrics else None
        if samples is not None:
            compared[metric] = compare(*samples)
    if not compared:
        raise InputError(f"{a.name} and {b.name} have no metric with scores in common")
    return [
        _differences_table(one, other),
        _metrics_table(a, b, compared),
        _questions_table(a, b),
        _users_table(a, b, users),
        *example_tables(a, b, changed_questions(a, b)[:examples]),
    ]


def refuse_other_questions(a: Record, b: Record) -> None:
    """Raises InputError for runs of other tasks, data or questions."""
    if a.folder.resolve() == b.folder.resolve():
        raise InputError(f"A and B are the same run, {a.name}")
    if a.task != b.task:
        raise InputError(f"{a.name} is of {a.task}, {b.name} of {b.task}: nothing to compare")
    if a.comparable_key != b.comparable_key or {*a.column("id")} != {*b.column("id")}:
        raise InputError(f"{a.name} and {b.name} answered other questions: nothing to compare")


def _differences_table(one: Group, other: Group) -> Table:
    """All options that decide the numbers and differ, the seed, and the code."""
    rows: list[tuple[Any, ...]] = [("run", one.first.name, other.first.name)]
    rows += [
        (name, shown(option_of(one, name)), shown(option_of(other, name)))
        for name in differing([one, other])
    ]
    rows += [("seed", one.first.seed, other.first.seed)]
    rows = [row for row in rows if row[1] != row[2]]
    codes = [group.first.result.code.fingerprint for group in (one, other)]
    if codes[0] != codes[1]:
        rows.append(("code", *codes))
    footers = data_footers([one.first, other.first])
    apart = choices_apart(one, other)
    if len(apart) > 1:
        footers.append(
            f"confounded: they differ in {', '.join(apart)}, and none is known as the cause of a "
            "difference"
        )
    return Table("What differs", ("",), (A, B), plain(rows), tuple(footers))


def _metrics_table(a: Record, b: Record, compared: Mapping[str, Comparison]) -> Table:
    rows = [row for metric, one in compared.items() for row in _metric_rows(a, b, metric, one)]
    first = next(iter(compared.values()))
    footers = (
        f"{first.n} questions of {first.clusters} users, paired by question",
        f"{DIFFERENCE}: the difference of the metric itself; of an error, less is better",
        *(f"interval of {metric}: {one.difference.method}" for metric, one in compared.items()),
        *interval_footers([one.difference for one in compared.values()]),
        "verdict on B by the first test, at 5%; inconclusive is not equal; the others decide "
        "nothing",
        "detectable: the smallest difference that the first test would find with 80% power",
        *(f"A: {line}" for line in remark_footers([a])),
        *(f"B: {line}" for line in remark_footers([b])),
    )
    columns = (A, B, DIFFERENCE, "95% interval", "detectable", "verdict")
    return Table("Metrics", ("metric",), columns, tuple(rows), footers)


def _metric_rows(a: Record, b: Record, metric: str, one: Comparison) -> Iterator[Row]:
    worth = worth_of(one.verdict)
    cells = (
        number(a.metrics[metric]),
        number(b.metrics[metric]),
        replace(number(one.difference.value, sign=True), worth=worth),
        interval_cell(one.difference),
        number(one.detectable),
        Cell(one.verdict, worth=worth),
    )
    yield Row((metric,), cells)
    for test in one.tests:
        blank = (Cell(),) * 2
        p_row = (*blank, p_cell(test.p), *blank, Cell())
        yield Row((metric,), p_row, kind=test.name, label=f"p, {test.name}")


def _main_scores(a: Record, b: Record) -> tuple[list[float], list[float]]:
    """The examples' scores of the main metric, in the order of `a`."""
    samples = pair_of_runs(a, b, a.main_metric)
    if samples is None:
        raise InputError(f"{a.name} and {b.name} have no scores of {a.main_metric} in common")
    before, after = samples
    return before.terms[:, 0].tolist(), after.terms[:, 0].tolist()


def _questions_table(a: Record, b: Record) -> Table:
    """How many questions changed, by the main metric."""
    pairs = list(zip(*_main_scores(a, b), strict=True))
    if a.facts(a.main_metric).binary:
        rows = [
            ("both right", sum(x == y == 1 for x, y in pairs)),
            ("only A right", sum(x > y for x, y in pairs)),
            ("only B right", sum(x < y for x, y in pairs)),
            ("both wrong", sum(x == y == 0 for x, y in pairs)),
        ]
    else:
        sign = 1 if a.higher_is_better(a.main_metric) else -1
        rows = [
            ("B better", sum(sign * (y - x) > 0 for x, y in pairs)),
            ("equal", sum(x == y for x, y in pairs)),
            ("A better", sum(sign * (y - x) < 0 for x, y in pairs)),
        ]
    outputs = b.by_question("prediction")
    same = sum(outputs[id] == output for id, output in a.by_question("prediction").items())
    rows.append(("the same answer", same))
    return Table(f"Questions ({a.main_metric})", ("",), ("questions",), plain(rows))


def _users_table(a: Record, b: Record, most: int) -> Table:
    """The users whose mean score changed most."""
    by_user: dict[str, list[tuple[float, float]]] = {}
    for user, *scores in zip(a.column("user"), *_main_scores(a, b), strict=True):
        by_user.setdefault(user, []).append((scores[0], scores[1]))
    means = {user: tuple(np.mean(rows, axis=0)) for user, rows in by_user.items()}
    moved = [user for user, (x, y) in means.items() if x != y]
    ranked = sorted(moved, key=lambda user: (-abs(means[user][1] - means[user][0]), user))
    rows = tuple(_user_row(user, len(by_user[user]), *means[user]) for user in ranked[:most])
    footer = (
        f"the {len(rows)} whose mean {a.main_metric} changed most (--users) of {len(moved)} that "
        f"changed, of {len(means)}"
    )
    return Table("Users", ("user",), ("questions", A, B, DIFFERENCE), rows, (footer,))


def _user_row(user: str, questions: int, before: float, after: float) -> Row:
    difference = number(after - before, sign=True)
    return Row((user,), (as_cell(questions), number(before), number(after), difference))


def changed_questions(a: Record, b: Record) -> list[str]:
    """The ids of the questions whose scores differ, those that changed most first."""
    rows = zip(a.column("id"), *_main_scores(a, b), strict=True)
    ranked = sorted(rows, key=lambda row: (-abs(row[2] - row[1]), row[0]))
    return [id for id, before, after in ranked if before != after]


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
    return [_example_table(a, id, [side[id] for side in sides]) for id in ids]


def _examples_of(record: Record) -> dict[str, list[str]]:
    """By question: score, answer, items with their scores, prompt."""
    prompts = record.prompts()
    column = record.facts(record.main_metric).column or record.main_metric
    names = ("id", column, "prediction", "items", "item_scores")
    rows = zip(*(record.column(name) for name in names), strict=True)
    found = {}
    for id, score, answer, items, scores in rows:
        hits = [f"{i} ({s:.4g})" for i, s in zip(items, scores, strict=True)]
        passages = "\n\n".join(prompts.get(id, ["(not recorded)"]))
        found[id] = [f"{score:.4f}", answer, ", ".join(hits) or "none", passages]
    return found


def _example_table(a: Record, id: str, sides: Sequence[Sequence[str]]) -> Table:
    place = a.column("id").index(id)
    user, gold = a.column("user")[place], a.column("target")[place]
    names = (a.main_metric, "answer", "items", "prompt")
    rows = [Row((name,), (Cell(x), Cell(y))) for name, x, y in zip(names, *sides, strict=True)]
    title = f"Question {id} of user {user}: the gold is {json.dumps(gold, ensure_ascii=False)}"
    return Table(title, ("",), (A, B), tuple(rows))
