"""Two runs side by side: what differs, metrics and tests, and the examples that changed most."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from lamp_exp.errors import InputError
from lamp_exp.report.coldstart import bounds
from lamp_exp.report.loading import Record
from lamp_exp.report.paired_examples import pair
from lamp_exp.report.personal import p_cell
from lamp_exp.report.selection import Group, differing, part_of_identity, shown
from lamp_exp.report.table import Cell, Row, Table, as_cell, number, plain, worth_of
from lamp_exp.report.wording import data_words, remarks
from lamp_exp.statistics import Comparison, compare

A, B = "A", "B"


def comparison_tables(a: Record, b: Record, examples: int, users: int) -> list[Table]:
    """All of it; raises InputError for runs of other tasks or other questions."""
    refuse_other_questions(a, b)
    one, other = Group((a,)), Group((b,))
    compared = {}
    for metric in a.metrics:
        samples = pair(one, other, metric) if metric in b.metrics else None
        if samples is not None:
            compared[metric] = compare(*samples)
    if not compared:
        raise InputError(f"{a.name} and {b.name} have no metric with scores in common")
    return [
        _what(one, other),
        _metrics(a, b, compared),
        _flips(a, b),
        _users(a, b, users),
        *example_tables(a, b, changed(a, b)[:examples]),
    ]


def refuse_other_questions(a: Record, b: Record) -> None:
    """Raises InputError for runs of other tasks, data or questions."""
    if a.folder.resolve() == b.folder.resolve():
        raise InputError(f"A and B are the same run, {a.name}")
    if a.task != b.task:
        raise InputError(f"{a.name} is of {a.task}, {b.name} of {b.task}: nothing to compare")
    if a.ground != b.ground or {*a.column("id")} != {*b.column("id")}:
        raise InputError(f"{a.name} and {b.name} answered other questions: nothing to compare")


def _what(one: Group, other: Group) -> Table:
    rows: list[tuple[Any, ...]] = [("run", one.first.name, other.first.name)]
    rows += [(name, shown(part_of_identity(one, name)), shown(part_of_identity(other, name)))
             for name in differing([one, other])]  # fmt: skip
    rows += [("seed", one.first.seed, other.first.seed)]
    rows = [row for row in rows if row[1] != row[2]]
    mine, theirs = one.first.result["code"], other.first.result["code"]
    if mine["fingerprint"] != theirs["fingerprint"]:
        rows.append(("code", mine["fingerprint"], theirs["fingerprint"]))
    footers = data_words([one.first, other.first])
    return Table("What differs", ("",), (A, B), plain(rows), tuple(footers))


def _metrics(a: Record, b: Record, compared: dict[str, Comparison]) -> Table:
    rows = []
    for metric, one in compared.items():
        worth = worth_of(one.verdict)
        cells = (
            number(a.metrics[metric]),
            number(b.metrics[metric]),
            replace(number(one.difference.value, sign=True), worth=worth),
            bounds(one.difference),
            number(one.detectable),
            Cell(one.verdict, worth=worth),
        )
        rows.append(Row((metric,), cells))
        for test in one.tests:
            blank = (Cell(),) * 2
            told = (*blank, p_cell(test.p), *blank, Cell())
            rows.append(Row((metric,), told, kind=test.name, label=f"p, {test.name}"))
    first = next(iter(compared.values()))
    footers = (
        f"{first.n} questions of {first.clusters} users, paired by question; difference: B - A",
        *(f"interval of {metric}: {one.difference.method}" for metric, one in compared.items()),
        "verdict on B by the first test, at 5%; inconclusive is not equal",
        "detectable: the smallest difference that would be found with 80% power",
        *(f"A: {line}" for line in remarks([a])),
        *(f"B: {line}" for line in remarks([b])),
    )
    columns = (A, B, "difference", "95% interval", "detectable", "verdict")
    return Table("Metrics", ("metric",), columns, tuple(rows), footers)


def _scores(a: Record, b: Record) -> tuple[list[float], list[float], str]:
    """Of the main metric, in the order of `a`."""
    metric = a.result["monitor"][0]
    samples = pair(Group((a,)), Group((b,)), metric)
    assert samples, "a metric in common has its scores"
    before, after = samples
    return before.terms[:, 0].tolist(), after.terms[:, 0].tolist(), metric


def _flips(a: Record, b: Record) -> Table:
    before, after, metric = _scores(a, b)
    pairs = list(zip(before, after, strict=True))
    if metric == "accuracy":
        told = [
            ("both right", sum(x == y == 1 for x, y in pairs)),
            ("only A right", sum(x > y for x, y in pairs)),
            ("only B right", sum(x < y for x, y in pairs)),
            ("both wrong", sum(x == y == 0 for x, y in pairs)),
        ]
    else:
        sign = 1 if a.direction(metric) else -1
        told = [
            ("B better", sum(sign * (y - x) > 0 for x, y in pairs)),
            ("equal", sum(x == y for x, y in pairs)),
            ("A better", sum(sign * (y - x) < 0 for x, y in pairs)),
        ]
    outputs = zip(a.column("prediction"), _in_order(a, b, "prediction"), strict=True)
    told.append(("the same answer", sum(x == y for x, y in outputs)))
    return Table(f"Questions ({metric})", ("",), ("questions",), plain(told))


def _in_order(a: Record, b: Record, column: str) -> list[Any]:
    """A column of `b` in the order of the questions of `a`."""
    values = dict(zip(b.column("id"), b.column(column), strict=True))
    return [values[id] for id in a.column("id")]


def _users(a: Record, b: Record, most: int) -> Table:
    """Those whose mean score changed most."""
    before, after, metric = _scores(a, b)
    by_user: dict[str, list[tuple[float, float]]] = {}
    for user, *scores in zip(a.column("user"), before, after, strict=True):
        by_user.setdefault(user, []).append((scores[0], scores[1]))
    means = {user: tuple(np.mean(rows, axis=0)) for user, rows in by_user.items()}
    moved = [user for user, (x, y) in means.items() if x != y]
    ranked = sorted(moved, key=lambda user: (-abs(means[user][1] - means[user][0]), user))
    rows = [
        Row((user,), (as_cell(len(by_user[user])), number(means[user][0]), number(means[user][1]),
                      number(means[user][1] - means[user][0], sign=True)))
        for user in ranked[:most]
    ]  # fmt: skip
    told = (
        f"the {len(rows)} whose mean {metric} changed most (--users) of {len(moved)} that changed, "
        f"of {len(means)}"
    )
    return Table("Users", ("user",), ("questions", A, B, "difference"), tuple(rows), (told,))


def changed(a: Record, b: Record) -> list[str]:
    """The ids of the questions whose scores differ, those that changed most first."""
    before, after, _ = _scores(a, b)
    moves = zip(a.column("id"), before, after, strict=True)
    ranked = sorted(moves, key=lambda move: (-abs(move[2] - move[1]), move[0]))
    return [id for id, x, y in ranked if x != y]


def example_tables(a: Record, b: Record, ids: Sequence[str]) -> list[Table]:
    """Each question with its gold, and of both runs score, answer, items and prompt."""
    refuse_other_questions(a, b)
    sides = [_side(record) for record in (a, b)] if ids else []
    return [_example(a, b, id, [side[id] for side in sides]) for id in ids]


def _side(record: Record) -> dict[str, list[str]]:
    """By question: score, answer, items with their scores, prompt."""
    metric, prompts = record.result["monitor"][0], record.prompts()
    names = ("id", metric, "prediction", "items", "item_scores")
    rows = zip(*(record.column(name) for name in names), strict=True)
    found = {}
    for id, score, answer, items, scores in rows:
        hits = [f"{i} ({s:.4g})" for i, s in zip(items, scores, strict=True)]
        passages = "\n\n".join(prompts.get(id, ["(not recorded)"]))
        found[id] = [f"{score:.4f}", answer, ", ".join(hits) or "none", passages]
    return found


def _example(a: Record, b: Record, id: str, sides: Sequence[Sequence[str]]) -> Table:
    place = a.column("id").index(id)
    user, gold = a.column("user")[place], a.column("target")[place]
    names = (a.result["monitor"][0], "answer", "items", "prompt")
    rows = [Row((name,), (Cell(x), Cell(y))) for name, x, y in zip(names, *sides, strict=True)]
    title = f"Question {id} of user {user}: the gold is {json.dumps(gold, ensure_ascii=False)}"
    return Table(title, ("",), (A, B), tuple(rows))


def of_user(a: Record, user: str) -> list[str]:
    """The ids of a user's questions; raises InputError for an unknown one."""
    pairs = zip(a.column("id"), a.column("user"), strict=True)
    ids = [id for id, whose in pairs if whose == user]
    if not ids:
        raise InputError(f"{a.name} has no question of user {user!r}")
    return ids
