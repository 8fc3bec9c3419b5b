"""Tables as data, independent of the format in which they are written."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

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


@dataclass(frozen=True, slots=True)
class Row:
    """A row; `head` names it.

    `kind` is `value`, or says what its cells are of the row above (`interval`, `published`, …);
    such a row shows its `label` in place of the head.
    """

    head: tuple[str, ...]
    cells: tuple[Cell, ...]
    kind: str = "value"
    label: str = ""

    @property
    def words(self) -> tuple[str, ...]:
        """The head as shown."""
        return (*("",) * (len(self.head) - 1), self.label) if self.label else self.head


@dataclass(frozen=True, slots=True)
class Table:
    """A table: `heads` name the columns of the rows' heads, `columns` those of the cells."""

    title: str
    heads: tuple[str, ...]
    columns: tuple[str, ...]
    rows: tuple[Row, ...]
    footers: tuple[str, ...] = ()

    def tidy(self) -> Iterator[dict[str, Any]]:
        """One mapping per number: the table, the row's heads, the column, its kind, its value."""
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
    """Rows of a head followed by cells, texts or numbers."""
    return tuple(Row((str(head),), tuple(map(as_cell, cells))) for head, *cells in rows)


def as_cell(value: Any) -> Cell:
    """A text, a whole number or None as a cell."""
    if isinstance(value, Cell):
        return value
    if value is None:
        return Cell("–")
    number = float(value) if isinstance(value, int | float) else None
    return Cell(str(value), number)


def worth_of(verdict: str) -> str:
    """The worth of a cell with that verdict."""
    return {"better": "good", "worse": "bad"}.get(verdict, "")


def number(value: float | None, digits: int = 4, sign: bool = False) -> Cell:
    """A number with that many digits after the point."""
    if value is None or value != value:
        return Cell("–")
    rounded = round(float(value), digits) + 0.0  # no -0.0
    return Cell(f"{rounded:{'+' if sign else ''}.{digits}f}", float(value))


def p_cell(p: float) -> Cell:
    """A p-value; very small ones by their bound."""
    if p != p:
        return Cell("–")
    return Cell("< 0.0001" if p < 1e-4 else f"{p:.4f}", p)


def percent(share: float) -> Cell:
    """A share as a percentage."""
    return Cell(f"{share:.1%}", share)


def interval_cell(one: Interval, digits: int = 4, sign: bool = False) -> Cell:
    """The ends of an interval; a dash if there is none, and ° if it may cover less."""
    if one.high != one.high:
        return Cell("–")
    form = f"{'+' if sign else ''}.{digits}f"
    text = f"[{one.low:{form}}, {one.high:{form}}]{'°' if one.caution else ''}"
    return Cell(text, parts={"low": one.low, "high": one.high}, note=one.caution)
