"""The verb html: one page of everything, a single file without network, server or library.

`sections.py` lists the sections. `page.html`, `page.css` and `page.js` of `templates/` make the
page. Without JavaScript, tables and plots can still be read.
"""

from __future__ import annotations

import argparse
import base64
import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path

from markupsafe import Markup

from lamp_exp import __version__
from lamp_exp.errors import InputError
from lamp_exp.report import colours
from lamp_exp.report.cli_arguments import add_runs, chosen, left_out, write_text
from lamp_exp.report.footers import data_footers
from lamp_exp.report.formats import TEMPLATES, render
from lamp_exp.report.loading import Found, find
from lamp_exp.report.page.browser import Limits, embed
from lamp_exp.report.page.sections import SECTIONS, Content
from lamp_exp.report.plots import inline
from lamp_exp.results.record import Record


def add_options(parser: argparse.ArgumentParser) -> None:
    add_runs(parser)
    add, default = parser.add_argument, Limits()
    browse = "whose examples can be browsed, as --where (default: the best of each task first)"
    megabytes = f"of examples in all: whole runs until it is full (default: {default.megabytes:g})"
    add("--out", type=Path, default=Path("page.html"), metavar="FILE", help="default: page.html")
    add("--title", default="LaMP results", help="default: LaMP results")
    add("--browse", nargs="+", default=[], metavar="KEY=VALUE", help=browse)
    for name, of in (("examples", "run, the first N"), ("characters", "prompt")):
        given = getattr(default, name)
        text = f"of each {of} (default: {given})"
        add(f"--{name}", type=int, default=given, metavar="N", help=text)
    add("--megabytes", type=float, default=default.megabytes, metavar="N", help=megabytes)


def run(arguments: argparse.Namespace) -> int:
    for name in ("examples", "characters", "megabytes"):
        if getattr(arguments, name) < 0:
            raise InputError(f"--{name} must not be negative")
    conditions = tuple(arguments.browse)
    limits = Limits(arguments.examples, arguments.characters, arguments.megabytes, conditions)
    found = find(arguments.runs, arguments.stale)
    records = chosen(arguments, found)
    notes = _left_out_notes(found, arguments)
    return write_text(page(records, limits, arguments.title, notes), arguments.out)


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
    tasks = ", ".join(sorted({record.task for record in records}))
    newest = max(record.result.started for record in records)[:16].replace("T", " ")
    begun = f"; the newest begun {newest} UTC" if newest else ""
    script, style = (
        Markup((TEMPLATES / name).read_text("utf-8")) for name in ("page.js", "page.css")
    )
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return render(
        "page.html",
        title=title,
        warnings=data_footers(records),
        lines=[f"{len(records)} finished runs of {tasks}{begun}.", *left_out_notes],
        sections={
            anchor: (name, _content(make, records)) for anchor, (name, make) in SECTIONS.items()
        },
        inline=lambda *words: Markup(inline(*words)),
        embedded=embed(records, limits),
        style=Markup(colours.as_css()) + style,
        script=script,
        script_hash=f"sha256-{digest}",  # by which the page allows its own script and no other
        version=__version__,
    )


def _content(make: Callable[[Sequence[Record]], Content], records: Sequence[Record]) -> Content:
    try:
        return make(records)
    except InputError as error:
        return Content(notes=(f"Not shown: {error}.",))
