"""How far retrievers show the same items: by the items that prompts really held."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from lamp_exp.errors import InputError
from lamp_exp.report.loading import Record
from lamp_exp.report.selection import ALWAYS, Group, grouped, in_order, naming
from lamp_exp.report.table import Cell, Row, Table
from lamp_exp.report.wording import data_words


def agreement_tables(records: Sequence[Record]) -> list[Table]:
    """For each set of runs that differ in their retriever, the overlap of each two of them."""
    alike: dict[str, list[Group]] = {}
    for group in in_order(grouped(records).values()):
        if group.first.result["k"]:
            alike.setdefault(group.first.as_if(retriever=None), []).append(group)
    sets = [groups for groups in alike.values() if len(groups) > 1]
    if not sets:
        raise InputError("no two runs differ in nothing but their retriever: run a second one")
    names, heads = naming([groups[0] for groups in sets], without={"retriever"})
    return [_table(groups, names, heads[groups[0].configuration]) for groups in sets]


def _table(groups: Sequence[Group], names: Sequence[str], head: Sequence[str]) -> Table:
    own, told = naming(groups)
    place = own.index("retriever")
    labels = [" ".join(told[group.configuration][place:place + 1]
              + told[group.configuration][len(ALWAYS):]) for group in groups]  # fmt: skip
    labels = [f"{label} (k={group.first.result['k']})" if "tuned" in group.first.result else label
              for label, group in zip(labels, groups, strict=True)]  # fmt: skip
    items = [dict(zip(g.first.column("id"), g.first.column("items"), strict=True)) for g in groups]
    rows = []
    for mine, label in zip(items, labels, strict=True):
        rows.append(Row((label,), tuple(_cell(mine, other) for other in items)))
    records = [record for group in groups for record in group.records]
    footers = (
        *data_words(records),
        "items that both show, of those that either shows (mean over questions); in brackets, how "
        "often the first item is the same; questions without any item are left out",
        *(["the first seed of each"] if any(len(g.records) > 1 for g in groups) else []),
    )
    words = ", ".join(f"{name}={value}" for name, value in zip(names, head, strict=True))
    return Table(
        f"Agreement of retrievers ({words})", ("retriever",), tuple(labels), tuple(rows), footers
    )


def _cell(mine: Mapping[str, Sequence[str]], other: Mapping[str, Sequence[str]]) -> Cell:
    pairs = [(items, other[id]) for id, items in mine.items() if items or other[id]]
    if not pairs:
        return Cell("–")
    overlap = sum(len({*a} & {*b}) / len({*a} | {*b}) for a, b in pairs) / len(pairs)
    first = sum(a[:1] == b[:1] for a, b in pairs) / len(pairs)
    return Cell(f"{overlap:.3f} ({first:.3f})", overlap, parts={"same first": first})
