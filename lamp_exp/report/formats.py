"""Tables as Markdown, CSV, LaTeX, HTML, or for a terminal."""

from __future__ import annotations

import csv
import html
import io
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any

from rich import box
from rich.cells import cell_len
from rich.console import Console, JustifyMethod
from rich.table import Table as RichTable
from rich.text import Text

from lamp_exp.report.table import Cell, Row, Table

MAX_COLUMN = 60  # characters of a column on a screen; longer texts are folded
FORMULA = ("=", "+", "-", "@", "\t", "\r")  # how a formula begins in a spreadsheet
LATEX = {
    "\\": r"\textbackslash{}", "{": r"\{", "}": r"\}", "$": r"\$", "&": r"\&", "#": r"\#",
    "%": r"\%", "_": r"\_", "^": r"\textasciicircum{}", "~": r"\textasciitilde{}",
    "±": r"$\pm$", "×": r"$\times$", "−": r"$-$", "–": "--", "≥": r"$\geq$", "≤": r"$\leq$",
    "†": r"$\dagger$", "°": r"$^{\circ}$", "*": r"$^{*}$", "…": r"\ldots{}", "<": r"\textless{}",
    ">": r"\textgreater{}", "|": r"\textbar{}", "Δ": r"$\Delta$", "·": r"$\cdot$", "→": r"$\to$",
    "\n": " ", "\t": " ", "[": "{[}",  # after \\ a bare bracket would begin an option
}  # fmt: skip


def markdown(tables: Sequence[Table]) -> str:
    """GitHub's tables, with the best numbers in bold."""
    return "\n".join(map(_markdown, tables))


def _markdown(table: Table) -> str:
    head = [*table.heads, *table.columns]
    lines = [f"### {_md(table.title)}", "", _bars(map(_md, head))]
    lines.append(_bars(["---"] * len(table.heads) + ["---:"] * len(table.columns)))
    for row in table.rows:
        cells = [f"**{_md(cell.text)}**" if cell.best else _md(cell.text) for cell in row.cells]
        lines.append(_bars([*map(_md, row.words), *cells]))
    lines += ["", *(f"- {_md(line)}" for line in table.footers), ""]
    return "\n".join(lines)


def _bars(words: Iterable[str]) -> str:
    return f"| {' | '.join(words)} |"


def _md(text: str) -> str:
    for character in "\\|*_<`[":
        text = text.replace(character, f"\\{character}")
    return " ".join(text.split())


def as_csv(tables: Sequence[Table]) -> str:
    """One line per number in full precision, all tables together; footers as lines of their own.

    Texts that a spreadsheet would take for a formula begin with an apostrophe.
    """
    rows = [_harmless(row) for table in tables for row in table.tidy()]
    heads = dict.fromkeys(name for table in tables for name in table.heads)
    out = io.StringIO()
    names = ["table", *heads, "column", "what", "value", "note"]
    writer = csv.DictWriter(out, names, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return out.getvalue()


def _harmless(row: dict[str, Any]) -> dict[str, Any]:
    return {
        name: f"'{value}" if isinstance(value, str) and value.startswith(FORMULA) else value
        for name, value in row.items()
    }


def latex(tables: Sequence[Table]) -> str:
    r"""`booktabs` tables for `\input`; they need \usepackage{booktabs} and UTF-8."""
    return "\n".join(map(_latex, tables))


def _latex(table: Table) -> str:
    columns = "l" * len(table.heads) + "r" * len(table.columns)
    lines = [
        r"\begin{table}", r"\centering", r"\small", rf"\caption{{{tex(table.title)}}}",
        rf"\begin{{tabular}}{{{columns}}}", r"\toprule",
        _tex_row([*map(tex, table.heads), *map(tex, table.columns)]), r"\midrule",
    ]  # fmt: skip
    lines += [_tex_row([*map(tex, row.words), *map(_tex_cell, row.cells)]) for row in table.rows]
    lines += [r"\bottomrule", r"\end{tabular}"]
    if table.footers:
        notes = r" \\ ".join(map(tex, table.footers))
        lines.append(rf"\par\smallskip{{\footnotesize\raggedright {notes}\par}}")
    return "\n".join([*lines, r"\end{table}", ""])


def _tex_row(cells: Sequence[str]) -> str:
    return " & ".join(cells) + r" \\"


def _tex_cell(cell: Cell) -> str:
    return rf"\textbf{{{tex(cell.text)}}}" if cell.best else tex(cell.text)


def tex(text: str) -> str:
    """Text with everything escaped that LaTeX would take for a command."""
    return "".join(LATEX.get(character, character) for character in text)


def as_html(tables: Sequence[Table]) -> str:
    """Fragments: one `<figure>` per table."""
    return "\n".join(map(_html, tables))


def _html(table: Table) -> str:
    title = html.escape(table.title)
    lines = [f"<figure><figcaption>{title}</figcaption>", '<div class="scroll">']
    lines.append(f'<table aria-label="{title}">')
    heads = [f'<th scope="col">{html.escape(name)}</th>' for name in table.heads]
    heads += [f'<th scope="col" class="number">{html.escape(c)}</th>' for c in table.columns]
    lines += ["<thead><tr>", *heads, "</tr></thead>", "<tbody>"]
    lines += [_html_row(row) for row in table.rows]
    lines += ["</tbody>", "</table></div>"]
    lines += [f"<p>{html.escape(line)}</p>" for line in table.footers]
    return "\n".join([*lines, "</figure>"])


def _html_row(row: Row) -> str:
    heads = "".join(
        f'<th scope="row">{html.escape(name)}</th>' if name else "<td></td>" for name in row.words
    )
    return f'<tr class="{row.kind}">{heads}{"".join(map(_html_cell, row.cells))}</tr>'


def _html_cell(cell: Cell) -> str:
    value = "" if cell.value is None else f' data-value="{cell.value!r}"'
    text = html.escape(cell.text)
    best = f"<strong>{text}</strong>" if cell.best else text
    return f'<td class="number {cell.worth}"{value}>{best}</td>'


def terminal(tables: Sequence[Table]) -> str:
    """For a terminal, in colour if it has colours.

    A wider table is shown in parts, each with the rows' heads; into a file or a pipe it goes in
    one piece.
    """
    screen = Console(highlight=False)
    out = io.StringIO()
    width = screen.width if screen.is_terminal else 100_000
    console = Console(
        file=out, width=width, highlight=False, soft_wrap=False, force_terminal=screen.is_terminal
    )
    for table in tables:
        for part in _parts(table, width):
            console.print(_rich(part))
        for line in table.footers:
            console.print(line, style="dim", markup=False, soft_wrap=not screen.is_terminal)
        console.print()
    return "\n".join(line.rstrip() for line in out.getvalue().split("\n"))


def _parts(table: Table, width: int) -> Iterator[Table]:
    """Tables with as many columns as fit."""
    heads = [_width_of([name, *(row.words[n] for row in table.rows)])
             for n, name in enumerate(table.heads)]  # fmt: skip
    left = width - sum(heads)
    start = 0
    while start < len(table.columns):
        end, used = start, 0
        while end < len(table.columns) and (end == start or used <= left):
            cells = [row.cells[end].text for row in table.rows]
            used += _width_of([table.columns[end], *cells])
            end += 1
        if used > left and end > start + 1:
            end -= 1
        rows = tuple(replace(row, cells=row.cells[start:end]) for row in table.rows)
        yield replace(table, columns=table.columns[start:end], rows=rows)
        start = end


def _width_of(words: Iterable[str]) -> int:
    longest = max(cell_len(line) for word in words for line in word.splitlines() or [""])
    return min(longest, MAX_COLUMN) + 3


def _rich(table: Table) -> RichTable:
    rich_table = RichTable(
        title=Text(table.title), title_justify="left", title_style="bold", box=box.SIMPLE_HEAD,
        show_edge=False,
    )  # fmt: skip
    for name in table.heads:
        rich_table.add_column(Text(name), overflow="fold")
    for n, name in enumerate(table.columns):
        prose = any(cell_len(row.cells[n].text) > MAX_COLUMN for row in table.rows)
        justify: JustifyMethod = "left" if prose else "right"
        rich_table.add_column(Text(name), justify=justify, overflow="fold", max_width=MAX_COLUMN)
    before: tuple[str, ...] = ()
    for row in table.rows:
        style = "" if row.kind == "value" else "dim"
        rich_table.add_row(
            *map(Text, _without_repeats(row.words, before)),
            *map(_rich_cell, row.cells),
            style=style,
        )
        before = row.head
    return rich_table


def _without_repeats(words: tuple[str, ...], before: tuple[str, ...]) -> list[str]:
    """The heads, blank where the row above has the same."""
    same = True
    shown = []
    for n, word in enumerate(words):
        same = same and n < len(before) and n < len(words) - 1 and word == before[n]
        shown.append("" if same else word)
    return shown


def _rich_cell(cell: Cell) -> Text:
    colour = {"good": "green", "bad": "red", "": ""}[cell.worth]
    return Text(cell.text, style=f"{'bold ' if cell.best else ''}{colour}".strip())


FORMATS: dict[str, Callable[[Sequence[Table]], str]] = {
    "terminal": terminal, "md": markdown, "csv": as_csv, "latex": latex, "html": as_html,
}  # fmt: skip
