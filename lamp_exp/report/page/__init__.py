"""The verb html: one page of everything, a single file without network, server or library.

`sections.py` lists the sections. `page.html`, `page.css` and `page.js` are copied into the page.
Without JavaScript, tables and plots can still be read.
"""

from __future__ import annotations

import argparse
import base64
import hashlib
import html
from collections.abc import Sequence
from itertools import starmap
from pathlib import Path
from string import Template

from lamp_exp import __version__
from lamp_exp.errors import InputError
from lamp_exp.report import colours
from lamp_exp.report.cli_arguments import add_runs, left_out, scored_of, write_text
from lamp_exp.report.footers import data_footers
from lamp_exp.report.formats import as_html
from lamp_exp.report.loading import Found, Record, find
from lamp_exp.report.page.browser import Embedded, Limits, embed
from lamp_exp.report.page.content import Content, Plot, Section
from lamp_exp.report.page.sections import SECTIONS
from lamp_exp.report.plots import inline

FOLDER = Path(__file__).parent
EXAMPLES = ("examples", "Examples")


def add_options(parser: argparse.ArgumentParser) -> None:
    """Which runs, where to, and how much of their examples."""
    default = Limits()
    add_runs(parser)
    parser.add_argument(
        "--out", type=Path, default=Path("page.html"), metavar="FILE", help="default: page.html"
    )
    parser.add_argument("--title", default="LaMP results", help="default: LaMP results")
    parser.add_argument(
        "--browse", nargs="+", default=[], metavar="KEY=VALUE",
        help="whose examples can be browsed, as --where (default: the best of each task first)",
    )  # fmt: skip
    parser.add_argument(
        "--examples", type=int, default=default.examples, metavar="N",
        help=f"of each run, the first N (default: {default.examples})",
    )  # fmt: skip
    parser.add_argument(
        "--characters", type=int, default=default.characters, metavar="N",
        help=f"of each prompt (default: {default.characters})",
    )  # fmt: skip
    parser.add_argument(
        "--megabytes", type=float, default=default.megabytes, metavar="N",
        help=f"of examples in all: whole runs until it is full (default: {default.megabytes:g})",
    )  # fmt: skip


def run(arguments: argparse.Namespace) -> int:
    """Writes the page."""
    for name in ("examples", "characters", "megabytes"):
        if getattr(arguments, name) < 0:
            raise InputError(f"--{name} must not be negative")
    conditions = tuple(arguments.browse)
    limits = Limits(arguments.examples, arguments.characters, arguments.megabytes, conditions)
    found = find(arguments.runs, arguments.stale)
    records = scored_of(found, arguments)
    notes = _left_out_notes(found, arguments)
    write_text(page(records, limits, arguments.title, notes), arguments.out)
    return 0


def _left_out_notes(found: Found, arguments: argparse.Namespace) -> list[str]:
    """The runs that are not on the page, which stderr names too, and the conditions."""
    lines = left_out(found, arguments.where)
    if without := sum(not record.metrics for record in found.records):
        lines.append(f"{without} runs without metrics are left out")
    if arguments.where:
        lines.append(f"only runs of {' '.join(arguments.where)}")
    return lines


def page(
    records: Sequence[Record], limits: Limits, title: str, left_out_notes: Sequence[str] = ()
) -> str:
    """The page of these runs; `left_out_notes` name those that could not be used, and why."""
    parts = [_section(section, _content(section, records)) for section in SECTIONS]
    embedded = embed(records, limits)
    parts.append(_examples(embedded))
    script = _file("page.js")
    return Template(_file("page.html")).substitute(
        title=html.escape(title),
        words=_summary(records, left_out_notes),
        colours=colours.as_css(),
        style=_file("page.css"),
        script=script,
        script_hash=_hash(script),
        links="".join(starmap(_link, (*((s.anchor, s.name) for s in SECTIONS), EXAMPLES))),
        sections="\n".join(parts),
        data=embedded.html,
        footer=f"Made by lamp_exp {html.escape(__version__)}; it asks nothing of any network.",
    )


def _file(name: str) -> str:
    return (FOLDER / name).read_text(encoding="utf-8")


def _hash(script: str) -> str:
    """The hash by which the page allows its own script and no other."""
    digest = hashlib.sha256(script.encode()).digest()
    return f"sha256-{base64.b64encode(digest).decode()}"


def _link(anchor: str, name: str) -> str:
    return f'<li><a href="#{anchor}">{html.escape(name)}</a></li>'


def _summary(records: Sequence[Record], left_out_notes: Sequence[str]) -> str:
    """How many runs of which tasks; before that, what makes their numbers no results of LaMP."""
    tasks = ", ".join(sorted({record.task for record in records}))
    newest = max(record.result.started for record in records)
    warnings = "".join(
        f'<p class="warning">{html.escape(line)}</p>' for line in data_footers(records)
    )
    begun = f"; the newest begun {newest[:16].replace('T', ' ')} UTC" if newest else ""
    lines = [f"{len(records)} finished runs of {tasks}{begun}.", *left_out_notes]
    return warnings + "".join(f"<p>{html.escape(line)}</p>" for line in lines)


def _content(section: Section, records: Sequence[Record]) -> Content:
    """The content of a section, or the reason why no run fits it."""
    try:
        return section.make(records)
    except InputError as error:
        return Content(notes=(f"Not shown: {error}.",))


def _section(section: Section, content: Content) -> str:
    plots = [_plot(plot, f"{section.anchor}-{n}") for n, plot in enumerate(content.plots)]
    grid = f'<div class="plots">{"".join(plots)}</div>' if plots else ""
    return _frame(section.anchor, section.name, content.notes, grid + as_html(content.tables))


def _frame(anchor: str, name: str, notes: Sequence[str], inner: str) -> str:
    paragraphs = "".join(f'<p class="note">{html.escape(line)}</p>' for line in notes)
    return (
        f'<section id="{anchor}" aria-labelledby="{anchor}-h">'
        f'<h2 id="{anchor}-h">{html.escape(name)}</h2>\n{paragraphs}{inner}</section>'
    )


def _plot(plot: Plot, name: str) -> str:
    """The drawing, and its numbers as a table, to be read or copied."""
    broad = " broad" if plot.broad else ""
    return (
        f'<figure class="plot{broad}"><figcaption>{html.escape(plot.title)}</figcaption>'
        f'<div class="drawing">{inline(plot.draw, name, plot.title, plot.description)}</div>'
        f'<p class="note">{html.escape(plot.description)}</p>'
        f"<details><summary>The numbers</summary>{as_html([plot.numbers])}</details></figure>"
    )


def _examples(embedded: Embedded) -> str:
    browser = _file("browser.html") if embedded.runs else ""
    return _frame(*EXAMPLES, embedded.notes, browser)
