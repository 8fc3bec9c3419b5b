"""Tables as data frames of cells, independent of the format in which they are written."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import pandas as pd

from lamp_exp.statistics import Interval


@dataclass(frozen=True, slots=True)
class Cell:
    """One cell: its text, the number behind it, and how it is shown.

    `worth` (`good` or `bad`) chooses a colour, which is never the only sign of it. `parts` are
    further numbers in the text, `note` explains marks in it.
    """

    text: str = ""
    value: float | None = None
    best: bool = False
    worth: str = ""
    parts: Mapping[str, float] = field(default_factory=dict)
    note: str = ""

    def numbers(self, kind: str) -> Iterator[tuple[str, float | str | None]]:
        """What it holds: each number by its name; a text if it has no number; None for a dash."""
        if self.value is not None:
            yield kind, self.value
        elif self.text and not self.parts:
            yield kind, None if self.text == MISSING else self.text
        yield from self.parts.items()


MISSING = "–"
TIDY = ("table", "column", "what", "value", "note")
VALUE = "value"


class Row(NamedTuple):
    """A row: its head, and cells by column, which `as_cell` makes of plain values.

    `kind` is `value`, or says what its cells are of the row above (`interval`, `published`, …).
    """

    head: tuple[str, ...]
    cells: Mapping[str, Any]
    kind: str = VALUE


@dataclass(frozen=True, slots=True)
class Table:
    """A frame of cells, whose index has the rows' heads and, as its last level, their kinds.

    A row of another kind than `value` shows, in place of its head, its kind or that kind's label.
    """

    title: str
    cells: pd.DataFrame
    footers: tuple[str, ...] = ()
    labels: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def of(
        cls,
        title: str,
        heads: Sequence[str],
        rows: Iterable[tuple[Any, ...]],
        footers: Sequence[str] = (),
        labels: Mapping[str, str] = {},
        columns: Iterable[str] = (),
    ) -> Table:
        """A table of `Row`s, or tuples of a head and cells.

        Its columns are `columns`, and then those of the rows as they come.

        A cell that a row lacks is a dash, or blank in rows that belong to the one above.
        """
        lines = [Row(*row) for row in rows]
        names = list(dict.fromkeys([*columns, *(name for row in lines for name in row.cells)]))
        index = pd.MultiIndex.from_tuples(
            [(*row.head, row.kind) for row in lines], names=[*heads, "kind"]
        )
        made = [
            [as_cell(row.cells.get(name, None if row.kind == VALUE else "")) for name in names]
            for row in lines
        ]
        cells = pd.DataFrame(made, index=index, columns=names, dtype=object)
        return cls(title, cells, tuple(footers), labels)

    @property
    def heads(self) -> tuple[str, ...]:
        return tuple(self.cells.index.names[:-1])

    @property
    def columns(self) -> tuple[str, ...]:
        return tuple(self.cells.columns)

    @property
    def rows(self) -> list[Row]:
        return [
            Row(tuple(head), dict(zip(self.columns, cells, strict=True)), kind)
            for (*head, kind), cells in zip(
                self.cells.index, self.cells.itertuples(index=False, name=None), strict=True
            )
        ]

    def words(self, row: Row) -> tuple[str, ...]:
        if row.kind == VALUE:
            return row.head
        return (*("",) * (len(row.head) - 1), self.labels.get(row.kind, row.kind))

    @property
    def tidy_heads(self) -> tuple[str, ...]:
        """The heads' names among the columns of `tidy`, which have names of their own."""
        return tuple(f"{name} (head)" if name in TIDY else name for name in self.heads)

    def tidy(self) -> pd.DataFrame:
        """A row per number: the table, the row's heads, the column, its kind, its value."""
        found = [
            {"table": self.title, **dict(zip(self.tidy_heads, row.head, strict=True)),
             "column": column, "what": what, "value": value, "note": cell.note}
            for row in self.rows
            for column, cell in row.cells.items()
            for what, value in cell.numbers(row.kind)
        ]  # fmt: skip
        found += [{"table": self.title, "what": "note", "note": line} for line in self.footers]
        return pd.DataFrame(found, columns=[TIDY[0], *self.tidy_heads, *TIDY[1:]])


def as_cell(value: Any) -> Cell:
    """A cell of a text, a number, an interval or None."""
    if isinstance(value, Cell):
        return value
    if isinstance(value, Interval):
        return interval_cell(value)
    if value is None or isinstance(value, float):
        return number(value)
    return Cell(str(value), float(value) if isinstance(value, int) else None)


def worth_of(verdict: str) -> str:
    return {"better": "good", "worse": "bad"}.get(verdict, "")


def number(value: float | None, digits: int = 4, sign: bool = False, worth: str = "") -> Cell:
    """A number with that many digits after the point."""
    if value is None or value != value:
        return Cell(MISSING)
    rounded = round(float(value), digits) + 0.0  # no -0.0
    return Cell(f"{rounded:{'+' if sign else ''}.{digits}f}", float(value), worth=worth)


def p_cell(p: float) -> Cell:
    cell = number(p)
    return replace(cell, text="< 0.0001") if p < 1e-4 else cell


def percent(share: float, digits: int = 1) -> Cell:
    return number(share) if share != share else Cell(f"{share:.{digits}%}", float(share))


def interval_cell(one: Interval, digits: int = 4, sign: bool = False) -> Cell:
    """The ends of an interval; a dash if there is none, and ° if it may cover less."""
    if one.high != one.high:
        return Cell(MISSING)
    form = f"{'+' if sign else ''}.{digits}f"
    text = f"[{one.low:{form}}, {one.high:{form}}]{'°' if one.caution else ''}"
    return Cell(text, parts={"low": one.low, "high": one.high}, note=one.caution)
