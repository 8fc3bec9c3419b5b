"""A table as data, whatever it is written in: heads, cells with what is to be seen of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Cell:
    """What stands in one place: the text, the number behind it, and how it is to be shown."""

    text: str = ""
    value: float | None = None
    best: bool = False
    worth: str = ""  # good, bad: for a colour; never the only sign of it
    parts: Mapping[str, float] = field(default_factory=dict)  # other numbers that the text tells
    note: str = ""  # what marks in the text stand for


@dataclass(frozen=True, slots=True)
class Row:
    """A row; `kind` says what its cells are of the row that `head` names.

    `value` is the row itself; the others stand below it (`interval`, `published`, …), with a
    `label` in the place of the head.
    """

    head: tuple[str, ...]
    cells: tuple[Cell, ...]
    kind: str = "value"
    label: str = ""

    @property
    def words(self) -> tuple[str, ...]:
        """The head as it is shown."""
        return (*("",) * (len(self.head) - 1), self.label) if self.label else self.head


@dataclass(frozen=True, slots=True)
class Table:
    """`heads` name the columns of the rows' heads, `columns` those of their cells."""

    title: str
    heads: tuple[str, ...]
    columns: tuple[str, ...]
    rows: tuple[Row, ...]
    footers: tuple[str, ...] = ()

    def tidy(self) -> Iterator[dict[str, Any]]:
        """One record a number: the table, the row's heads, the column, what it is, its value."""
        for row in self.rows:
            for column, cell in zip(self.columns, row.cells, strict=True):
                head = dict(zip(self.heads, row.head, strict=True))
                place = {"table": self.title, **head, "column": column}
                for what, value in _numbers(row.kind, cell):
                    yield {**place, "what": what, "value": value, "note": cell.note}
        for line in self.footers:
            yield {"table": self.title, "what": "note", "note": line}


def _numbers(kind: str, cell: Cell) -> Iterator[tuple[str, float | str]]:
    if cell.value is not None:
        yield kind, cell.value
    elif cell.text and not cell.parts:
        yield kind, cell.text
    yield from cell.parts.items()


def plain(rows: Sequence[Sequence[Any]]) -> tuple[Row, ...]:
    """Rows whose first value is the head and whose others are cells or words."""
    made = []
    for head, *cells in rows:
        made.append(Row((str(head),), tuple(map(as_cell, cells))))
    return tuple(made)


def as_cell(value: Any) -> Cell:
    """A word, a whole number or a cell as a cell; None as an empty one."""
    if isinstance(value, Cell):
        return value
    if value is None:
        return Cell("–")
    number = float(value) if isinstance(value, int | float) else None
    return Cell(str(value), number)


def worth_of(verdict: str) -> str:
    """A verdict as a cell's worth."""
    return {"better": "good", "worse": "bad"}.get(verdict, "")


def number(value: float | None, digits: int = 4, sign: bool = False) -> Cell:
    """A number with so many digits after the point."""
    if value is None or value != value:
        return Cell("–")
    rounded = round(float(value), digits) + 0.0  # no -0.0
    return Cell(f"{rounded:{'+' if sign else ''}.{digits}f}", float(value))
