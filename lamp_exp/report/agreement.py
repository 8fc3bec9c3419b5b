"""The verb agreement: how many shown items two retrievers have in common."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence

from lamp_exp.errors import InputError
from lamp_exp.report.cli_arguments import add_format, add_runs, chosen, write
from lamp_exp.report.footers import data_footers
from lamp_exp.report.loading import Record
from lamp_exp.report.selection import ALWAYS_NAMED, Group, grouped, in_order, naming
from lamp_exp.report.table import Cell, Row, Table


def add_options(parser: argparse.ArgumentParser) -> None:
    """Which runs, and the format."""
    add_runs(parser)
    add_format(parser)


def run(arguments: argparse.Namespace) -> int:
    """Writes the tables."""
    write(agreement_tables(chosen(arguments)), arguments)
    return 0


def agreement_tables(records: Sequence[Record]) -> list[Table]:
    """The overlap of each two runs that differ only in their retriever, a table per set.

    Raises InputError if there are no such runs.
    """
    alike: dict[str, list[Group]] = {}
    for group in in_order(grouped(records).values()):
        if group.first.personal:
            alike.setdefault(group.first.configuration_without("retriever"), []).append(group)
    sets = [groups for groups in alike.values() if len(groups) > 1]
    if not sets:
        raise InputError("no two runs differ in nothing but their retriever: run a second one")
    names, heads = naming([groups[0] for groups in sets], without={"retriever"})
    return [_table(groups, names, heads[groups[0].configuration]) for groups in sets]


def _table(groups: Sequence[Group], names: Sequence[str], head: Sequence[str]) -> Table:
    labels = _labels(groups)
    items = [group.first.by_question("items") for group in groups]
    rows = tuple(
        Row((label,), tuple(_cell(mine, other) for other in items))
        for mine, label in zip(items, labels, strict=True)
    )
    records = [record for group in groups for record in group.records]
    footers = (
        *data_footers(records),
        "items that both show, of those that either shows (mean over questions); in brackets, how "
        "often the first item is the same; questions without any item are left out",
        *(["the first seed of each"] if any(len(g.records) > 1 for g in groups) else []),
    )
    words = ", ".join(f"{name}={value}" for name, value in zip(names, head, strict=True))
    return Table(f"Agreement of retrievers ({words})", ("retriever",), labels, rows, footers)


def _labels(groups: Sequence[Group]) -> tuple[str, ...]:
    """The retriever, what else tells it apart, and the k that was chosen for it."""
    names, heads = naming(groups)
    place = names.index("retriever")
    labels = []
    for group in groups:
        head = heads[group.configuration]
        label = " ".join([head[place], *head[len(ALWAYS_NAMED) :]])
        labels.append(f"{label} (k={group.first.result.k})" if group.first.result.tuned else label)
    return tuple(labels)


def _cell(mine: Mapping[str, Sequence[str]], other: Mapping[str, Sequence[str]]) -> Cell:
    pairs = [(items, other[id]) for id, items in mine.items() if items or other[id]]
    if not pairs:
        return Cell("–")
    overlap = sum(len({*a} & {*b}) / len({*a} | {*b}) for a, b in pairs) / len(pairs)
    first = sum(a[:1] == b[:1] for a, b in pairs) / len(pairs)
    return Cell(f"{overlap:.3f} ({first:.3f})", overlap, parts={"same first": first})
