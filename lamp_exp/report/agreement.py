"""How far retrievers show the same items: by the items that prompts really held."""

from __future__ import annotations

from collections.abc import Sequence

from lamp_exp.report.records import Record
from lamp_exp.report.selection import Group, grouped, in_order, naming, shown
from lamp_exp.report.table import Cell, Row, Table
from lamp_exp.report.words import data_words
from lamp_exp.types import InputError

SAME = ("data", "split", "part", "mode", "model", "k", "augmentation", "control", "max_items")


def agreement_tables(records: Sequence[Record]) -> list[Table]:
    """For each set of runs that differ in their retriever, the overlap of each two of them."""
    alike: dict[tuple[str, ...], list[Group]] = {}
    for group in in_order(grouped(records).values()):
        if group.first.result["k"]:
            same = (*group.first.ground, *(shown(group.facet(name)) for name in SAME))
            alike.setdefault(same, []).append(group)
    tables = [_table(groups) for groups in alike.values() if len(groups) > 1]
    if not tables:
        raise InputError("no two runs differ in nothing but their retriever: run a second one")
    return tables


def _table(groups: Sequence[Group]) -> Table:
    names, heads = naming(groups)
    place = names.index("retriever")
    varying = [n for n, name in enumerate(names) if name not in ("task", "k") or n == place]
    labels = [" ".join(heads[group.configuration][n] for n in varying) for group in groups]
    items = [group.first.column("items") for group in groups]
    rows = []
    for mine, label in zip(items, labels, strict=True):
        cells = [_cell(mine, other) for other in items]
        rows.append(Row((label,), tuple(cells)))
    first = groups[0].first
    told = f"{first.task}, {first.result['split']} split, k={first.result['k']}"
    records = [record for group in groups for record in group.records]
    footers = (
        *data_words(records),
        "items that both show, of those that either shows (mean over questions); in brackets, how "
        "often the first item is the same; questions without any item are left out",
        *(["the first seed of each"] if any(len(g.records) > 1 for g in groups) else []),
    )
    return Table(
        f"Agreement of retrievers ({told})", ("retriever",), tuple(labels), tuple(rows), footers
    )


def _cell(mine: Sequence[Sequence[str]], other: Sequence[Sequence[str]]) -> Cell:
    pairs = [(a, b) for a, b in zip(mine, other, strict=True) if a or b]
    if not pairs:
        return Cell("–")
    overlap = sum(len({*a} & {*b}) / len({*a} | {*b}) for a, b in pairs) / len(pairs)
    first = sum(a[:1] == b[:1] for a, b in pairs) / len(pairs)
    return Cell(f"{overlap:.3f} ({first:.3f})", overlap, parts={"same first": first})
