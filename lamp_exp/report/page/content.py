"""What a section of the page holds: cards, a matrix, plots and tables, ready for the templates."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from lamp_exp.report import plots
from lamp_exp.report.page.panels import NO_PROFILE, Method, Panel
from lamp_exp.report.plots import Draw, Series
from lamp_exp.report.table import VALUE, Cell, Table, worth_of

DIRECTION = {True: "higher is better", False: "lower is better"}
VERDICTS = {
    "better": "better than without a profile",
    "worse": "worse than without a profile",
    "inconclusive": "no clear difference from no profile",
    "equal": "the same as without a profile",
    "unreadable": "no answer with or without a profile",
}
SHADES = 3  # of a gain or a loss in the matrix


@dataclass(frozen=True, slots=True)
class Plot:
    """A drawing of one panel with a description and its numbers."""

    panel: Panel
    draw: Draw
    description: str
    numbers: Table

    @property
    def title(self) -> str:
        """The drawing's name, for those who cannot see it."""
        return f"{self.numbers.title}: {self.panel.words}"


@dataclass(frozen=True, slots=True)
class Users:
    """How many users a run helps, leaves as they are, and hurts."""

    helped: int
    unchanged: int
    hurt: int

    @property
    def number(self) -> int:
        return self.helped + self.unchanged + self.hurt


@dataclass(frozen=True, slots=True)
class Card:
    """The best run of a panel, and what it gains; `gain` and `users` are None without a baseline.

    `verdict` is one of VERDICTS.
    """

    panel: Panel
    method: Method
    k: str
    value: float
    of: int  # runs
    baseline: float | None = None
    gain: float | None = None
    interval: str = ""
    verdict: str = ""
    users: Users | None = None

    @property
    def worth(self) -> str:
        return worth_of(self.verdict)

    @property
    def verdict_words(self) -> str:
        return VERDICTS[self.verdict]


@dataclass(frozen=True, slots=True)
class MatrixCell:
    """The best of a method in a panel; `shade` is from -SHADES to SHADES, None without a gain."""

    value: float
    k: str
    gain: float | None = None
    shade: int | None = None
    significant: bool = False
    best: bool = False

    @property
    def colour(self) -> str:
        """The name of its colour."""
        if not self.shade:
            return "" if self.shade is None else "even"
        return f"{'gain' if self.shade > 0 else 'loss'}{abs(self.shade)}"


@dataclass(frozen=True, slots=True)
class Matrix:
    """Methods by panels; `columns` are the panels of each setting, cells in the same order."""

    columns: Sequence[tuple[str, bool, tuple[Panel, ...]]]  # setting, whether made-up, panels
    rows: Sequence[tuple[Method, Sequence[MatrixCell | None]]]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Content:
    """What a section holds, in this order; `unfolded` tables are shown as the page opens."""

    notes: tuple[str, ...] = ()
    cards: tuple[Card, ...] = ()
    matrix: Matrix | None = None
    keys: tuple[tuple[Markup, str], ...] = ()
    plots: tuple[Plot, ...] = ()
    tables: tuple[Table, ...] = ()
    unfolded: bool = False
    footnotes: tuple[str, ...] = ()


def keys(methods: Sequence[Method], baseline: str = "") -> tuple[tuple[Markup, str], ...]:
    """A legend: the methods, each once, sorted by name; `baseline` names how it is drawn."""
    named = {method.label: method for method in methods}
    found = [
        (Markup(plots.key(named[label].style, named[label].dashed)), label)
        for label in sorted(named)
    ]
    return (*found, *([(Markup(plots.level_key()), baseline)] if baseline else []))


def series(method: Method, points: Sequence[plots.Point], label: str = "") -> Series:
    """Points in the look of a method."""
    name = label or method.label
    return Series(name, tuple(points), method.style, method.dashed, bool(method.aside))


@dataclass(frozen=True, slots=True)
class PageRow:
    """A row of a page's table: the head, and in each cell further numbers below the first."""

    head: tuple[str, ...]
    cells: Mapping[str, list[tuple[str, Cell]]]  # by column: what it is, the cell


def page_rows(table: Table) -> list[PageRow]:
    """The rows of a table, those that belong to one above (intervals, …) within its cells."""
    found: list[PageRow] = []
    for row in table.rows:
        if row.kind == VALUE or not found:
            found.append(PageRow(row.head, {name: [("", c)] for name, c in row.cells.items()}))
            continue
        label = "" if row.kind == "interval" else table.labels.get(row.kind, row.kind)
        for name, cell in row.cells.items():
            if cell.text:
                found[-1].cells[name].append((label, cell))
    return found


def text_columns(table: Table) -> set[str]:
    """The columns that hold words."""
    return {
        str(name)
        for name, cells in table.cells.items()
        if all(cell.value is None and not cell.parts for cell in cells)
    }


__all__ = [
    "DIRECTION", "NO_PROFILE", "SHADES", "Card", "Content", "Matrix", "MatrixCell", "PageRow",
    "Plot", "Users", "keys", "page_rows", "series", "text_columns",
]  # fmt: skip
