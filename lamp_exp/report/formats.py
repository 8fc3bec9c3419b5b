"""Tables as CSV (by pandas), as Markdown, LaTeX and HTML (by Jinja), or for a terminal (by rich).

Jinja itself and not pandas' Styler, which is made of it: the Styler knows neither rows that belong
to the one above, nor heads of rows with a scope, nor footers.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pandas as pd
from jinja2 import Environment, FileSystemLoader, StrictUndefined, select_autoescape
from rich import box
from rich.cells import cell_len
from rich.console import Console
from rich.table import Table as RichTable
from rich.text import Text

from lamp_exp.report.table import MISSING, TIDY, VALUE, Cell, Table

TEMPLATES = Path(__file__).parent / "templates"
WIDE = 100_000  # a file or a pipe
LEAST_HEAD = 12  # characters that a column of heads may have, whatever the screen
MAX_COLUMN = 60  # characters of a column on a screen; longer texts are folded
FORMULA = ("=", "+", "-", "@", "\t", "\r")  # how a formula begins in a spreadsheet
LATEX = str.maketrans({
    "\\": r"\textbackslash{}", "{": r"\{", "}": r"\}", "$": r"\$", "&": r"\&", "#": r"\#",
    "%": r"\%", "_": r"\_", "^": r"\textasciicircum{}", "~": r"\textasciitilde{}",
    "±": r"$\pm$", "×": r"$\times$", "−": r"$-$", "–": "--", "≥": r"$\geq$", "≤": r"$\leq$",
    "†": r"$\dagger$", "°": r"$^{\circ}$", "*": r"$^{*}$", "…": r"\ldots{}", "<": r"\textless{}",
    ">": r"\textgreater{}", "|": r"\textbar{}", "Δ": r"$\Delta$", "·": r"$\cdot$", "→": r"$\to$",
    "\n": " ", "\t": " ", "[": "{[}",  # after \\ a bare bracket would begin an option
})  # fmt: skip
MARKDOWN = str.maketrans({character: f"\\{character}" for character in "\\|*_<`["})


def as_csv(tables: Sequence[Table]) -> str:
    """One line per number in full precision, all tables together; footers as lines of their own.

    A number that is missing is empty. Texts that a spreadsheet would take for a formula begin with
    an apostrophe.
    """
    heads = dict.fromkeys(name for table in tables for name in table.tidy_heads)
    frame = pd.concat([table.tidy() for table in tables])[[TIDY[0], *heads, *TIDY[1:]]]
    text: str = frame.map(_harmless).to_csv(index=False, lineterminator="\n")
    return text


def _harmless(value: Any) -> Any:
    return f"'{value}" if isinstance(value, str) and value.startswith(FORMULA) else value


def tex(text: str) -> str:
    """Text with everything escaped that LaTeX would take for a command."""
    return text.translate(LATEX)


def _md(text: str) -> str:
    return " ".join(text.translate(MARKDOWN).split())


@cache
def _templates() -> Environment:
    made = Environment(
        loader=FileSystemLoader(TEMPLATES), autoescape=select_autoescape(("html",)),
        undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True,
    )  # fmt: skip
    made.filters.update(tex=tex, md=_md)
    return made


def render(template: str, **values: Any) -> str:
    """A file of `templates/` with these values, which are escaped in HTML."""
    return _templates().get_template(template).render(**values)


def markdown(tables: Sequence[Table]) -> str:
    """GitHub's tables, with the best numbers in bold."""
    return render("tables.md", tables=tables)


def latex(tables: Sequence[Table]) -> str:
    r"""`booktabs` tables for `\input`; they need \usepackage{booktabs} and UTF-8."""
    return render("tables.tex", tables=tables)


def as_html(tables: Sequence[Table]) -> str:
    return render("tables.html", tables=tables)


def terminal(tables: Sequence[Table]) -> str:
    """For a terminal, in colour if it has colours.

    A wider table is shown in parts, each with the rows' heads, and without its empty columns. Into
    a file or a pipe it goes in one piece.
    """
    screen = Console(highlight=False)
    out = io.StringIO()
    width = screen.width if screen.is_terminal else WIDE
    console = Console(
        file=out, width=width, highlight=False, soft_wrap=False, force_terminal=screen.is_terminal
    )
    for table in tables:
        for part in _parts(table, console):
            console.print(part)
        for line in table.footers:
            console.print(line, style="dim", markup=False, soft_wrap=not screen.is_terminal)
        console.print()
    return "\n".join(line.rstrip() for line in out.getvalue().split("\n"))


def _parts(table: Table, console: Console) -> Iterator[RichTable]:
    """The table, or parts that fit the screen: as many of its columns as do, but at least one."""
    if console.width >= WIDE or _fits(table, console):
        yield _rich(table)
        return
    narrow = _narrowed(table)
    most = _head_width(narrow, console.width // 2)
    parts: list[Table] = []
    columns = list(narrow.columns)
    while columns:
        size = len(columns)
        while size > 1 and not _fits(_of_columns(narrow, columns[:size]), console, most):
            size -= 1
        parts.append(_of_columns(narrow, columns[:size]))
        columns = columns[size:]
    for number, part in enumerate(parts, 1):
        words = f" ({number} of {len(parts)})" if len(parts) > 1 else ""
        yield _rich(replace(part, title=f"{part.title}{words}"), most)


def _head_width(table: Table, room: int) -> int:
    """The most characters of a column of heads, so that all heads together have `room`."""
    words = [table.heads, *(table.words(row) for row in table.rows)]
    widths = sorted(max(map(cell_len, column)) for column in zip(*words, strict=True))
    for number, width in enumerate(widths):
        share = room // (len(widths) - number)
        if width > share:
            return max(share, LEAST_HEAD)
        room -= width
    return MAX_COLUMN


def _fits(table: Table, console: Console, head_width: int = MAX_COLUMN) -> bool:
    made, unlimited = _rich(table, head_width), console.options.update(width=WIDE)
    return bool(console.measure(made, options=unlimited).maximum <= console.width)


def _of_columns(table: Table, columns: Sequence[str]) -> Table:
    return replace(table, cells=table.cells[columns])


def _narrowed(table: Table) -> Table:
    """Heads that all rows share stand in the title; columns without any value are left out."""
    frame = table.cells
    values = {n: frame.index.get_level_values(n).unique() for n in range(len(table.heads) - 1)}
    same = [n for n, own in values.items() if table.heads[n] and len(own) == 1]
    words = [f"{table.heads[n]}={values[n][0]}" for n in same]
    title = f"{table.title}: {', '.join(words)}" if words else table.title
    known = [name for name in frame if any(cell.text not in ("", MISSING) for cell in frame[name])]
    return replace(table, title=title, cells=frame.droplevel(same)[known or list(frame)])


def _rich(table: Table, head_width: int = MAX_COLUMN) -> RichTable:
    rich_table = RichTable(
        title=Text(table.title), title_justify="left", title_style="bold", box=box.SIMPLE_HEAD,
        show_edge=False,
    )  # fmt: skip
    for name in table.heads:
        rich_table.add_column(Text(name), overflow="fold", max_width=head_width)
    for name, cells in table.cells.items():
        prose = any(cell_len(cell.text) > MAX_COLUMN for cell in cells)
        rich_table.add_column(
            Text(str(name)), justify="left" if prose else "right", overflow="fold",
            max_width=MAX_COLUMN,
        )  # fmt: skip
    before: tuple[str, ...] = ()
    for row in table.rows:
        heads = map(Text, _without_repeats(table.words(row), before))
        style = "" if row.kind == VALUE else "dim"
        rich_table.add_row(*heads, *map(_rich_cell, row.cells.values()), style=style)
        before = row.head
    return rich_table


def _without_repeats(words: tuple[str, ...], before: tuple[str, ...]) -> list[str]:
    """The heads, but the last, blank where the row above has the same."""
    same = 0
    while same < len(words) - 1 and words[same : same + 1] == before[same : same + 1]:
        same += 1
    return [*[""] * same, *words[same:]]


def _rich_cell(cell: Cell) -> Text:
    colour = {"good": "green", "bad": "red", "": ""}[cell.worth]
    return Text(cell.text, style=f"{'bold ' if cell.best else ''}{colour}".strip())


FORMATS: dict[str, Callable[[Sequence[Table]], str]] = {
    "terminal": terminal, "md": markdown, "csv": as_csv, "latex": latex, "html": as_html,
}  # fmt: skip
