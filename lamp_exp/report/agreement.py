"""The verb agreement: how many shown items two retrievers have in common."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from itertools import combinations_with_replacement

from lamp_exp.errors import InputError
from lamp_exp.report.cli_arguments import add_runs, chosen
from lamp_exp.report.footers import data_footers
from lamp_exp.report.selection import METHODS, Group, alike_but_for, naming
from lamp_exp.report.table import MISSING, Cell, Table
from lamp_exp.results.record import Record

Shown = Mapping[str, tuple[frozenset[str], list[str]]]  # by question: items, and the first

add_options = add_runs


def tables(arguments: argparse.Namespace) -> list[Table]:
    return agreement_tables(chosen(arguments))


def agreement_tables(records: Sequence[Record]) -> list[Table]:
    """The overlap of each two runs that differ only in their retriever, a table per set.

    Raises InputError if there are no such runs.
    """
    sets = alike_but_for("retriever", records)
    if not sets:
        raise InputError("no two runs differ in nothing but their retriever: run a second one")
    names, heads = naming([groups[0] for groups in sets], without={"retriever"})
    return [_table(groups, zip(names, heads[groups[0].configuration], strict=True))
            for groups in sets]  # fmt: skip


def _table(groups: Sequence[Group], shared: zip[tuple[str, str]]) -> Table:
    labels = _labels(groups)
    shown = [_shown(group.first) for group in groups]
    cells = {
        (a, b): _cell(shown[a], shown[b])
        for a, b in combinations_with_replacement(range(len(shown)), 2)
    }
    rows = [
        ((label,), {name: cells[min(a, b), max(a, b)] for b, name in enumerate(labels)})
        for a, label in enumerate(labels)
    ]
    footers = [
        *data_footers([record for group in groups for record in group.records]),
        "items that both show, of those that either shows (mean over questions); in brackets, how "
        "often the first item is the same; questions without any item are left out",
        *(["the first seed of each"] if any(len(g.records) > 1 for g in groups) else []),
    ]
    title = f"Agreement of retrievers ({', '.join(map('='.join, shared))})"
    return Table.of(title, ("retriever",), rows, footers)


def _labels(groups: Sequence[Group]) -> list[str]:
    """The retriever, what else tells it apart, and the k that was chosen for it."""
    _, heads = naming(groups, without={*METHODS} - {"retriever"})
    labels = [" ".join(heads[group.configuration]) for group in groups]
    return [
        f"{label} (k={group.first.result.k})" if group.first.result.tuned else label
        for label, group in zip(labels, groups, strict=True)
    ]


def _shown(record: Record) -> Shown:
    return {id: (frozenset(items), items[:1]) for id, items in record.by_question("items").items()}


def _cell(mine: Shown, other: Shown) -> Cell:
    pairs = [(own, other[id]) for id, own in mine.items() if own[0] or other[id][0]]
    if not pairs:
        return Cell(MISSING)
    overlap = sum(len(a & b) / len(a | b) for (a, _), (b, _) in pairs) / len(pairs)
    first = sum(a == b for (_, a), (_, b) in pairs) / len(pairs)
    return Cell(f"{overlap:.3f} ({first:.3f})", overlap, parts={"same first": first})
