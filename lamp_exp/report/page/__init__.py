"""The verb html: one page of everything, a single file without network, server or library.

`panels.py` says which runs may stand side by side, `sections.py` lists the sections, `browser.py`
embeds the examples. `page.html`, `page.css` and `page.js` of `templates/` make the page. Without
JavaScript, tables and plots can still be read.
"""

from __future__ import annotations

import argparse
import base64
import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from markupsafe import Markup

from lamp_exp import __version__
from lamp_exp.environment import without_garbage_collection
from lamp_exp.errors import InputError
from lamp_exp.report import colours
from lamp_exp.report.cli_arguments import add_runs, chosen, left_out, write_text
from lamp_exp.report.footers import data_footers
from lamp_exp.report.formats import TEMPLATES, render
from lamp_exp.report.loading import Found, find
from lamp_exp.report.page.browser import Limits, embed
from lamp_exp.report.page.content import DIRECTION, Content, page_rows, text_columns
from lamp_exp.report.page.panels import panels
from lamp_exp.report.page.sections import OF_PANELS, OF_RECORDS
from lamp_exp.report.plots import inline, key
from lamp_exp.report.selection import may_meet
from lamp_exp.results.record import Record
from lamp_exp.wording import count_of


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
    if arguments.out.suffix.lower() not in ("", ".html", ".htm"):
        raise InputError(f"--out {arguments.out}: a page is HTML: give a name that ends in .html")
    conditions = tuple(arguments.browse)
    limits = Limits(arguments.examples, arguments.characters, arguments.megabytes, conditions)
    found = find(arguments.runs, arguments.stale)
    records = chosen(arguments, found)
    unfinished = sum(may_meet(folder, arguments.where) for folder in found.unfinished)
    notes = _left_out_notes(replace(found, unfinished=[]), arguments)
    with without_garbage_collection():  # which takes a quarter of the time of 300 runs
        text = page(records, limits, arguments.title, notes, unfinished)
    return write_text(text, arguments.out)


def _left_out_notes(found: Found, arguments: argparse.Namespace) -> list[str]:
    """The runs that are not on the page, which stderr names too, and the conditions."""
    lines = left_out(found, arguments.where)
    if without := sum(not record.metrics for record in found.records):
        lines.append(f"left out, without metrics: {count_of(without, 'run')}")
    if arguments.where:
        lines.append(f"only runs of {' '.join(arguments.where)}")
    return lines


def page(
    records: Sequence[Record],
    limits: Limits,
    title: str,
    left_out_notes: Sequence[str] = (),
    unfinished: int = 0,
) -> str:
    """The page of these runs.

    `left_out_notes` name those that could not be used, and why; `unfinished` is how many runs go
    on or were killed.
    """
    tasks = ", ".join(sorted({record.task for record in records}))
    newest = max(record.result.started for record in records)[:16].replace("T", " ")
    facts = [f"{count_of(len(records), 'finished run')} of {tasks}"]
    facts += [f"newest begun {newest} UTC"] if newest else []
    facts += [f"{unfinished} not finished"] if unfinished else []
    script, style = (
        Markup((TEMPLATES / name).read_text("utf-8")) for name in ("page.js", "page.css")
    )
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    sections, absent, shared = _sections(records)
    return render(
        "page.html",
        title=title,
        facts="; ".join(facts),
        caveats=[*data_footers(records), *left_out_notes],
        shared=shared,
        sections=sections,
        absent=absent,
        inline=lambda *words: Markup(inline(*words)),
        page_rows=page_rows,
        text_columns=text_columns,
        rows=_rows(sections),
        inline_key=lambda method: Markup(key(method.style, method.dashed)),
        direction=DIRECTION,
        embedded=embed(records, limits),
        style=Markup(colours.as_css()) + style,
        script=script,
        script_hash=f"sha256-{digest}",  # by which the page allows its own script and no other
        version=__version__,
    )


def _sections(
    records: Sequence[Record],
) -> tuple[dict[str, tuple[str, Content]], dict[str, str], str]:
    """The sections by anchor, those that are not shown with the reason, and what all share."""
    found: dict[str, tuple[str, Content]] = {}
    absent: dict[str, str] = {}

    def add(anchor: str, name: str, make: Callable[[], Content]) -> None:
        try:
            found[anchor] = name, make()
        except InputError as error:
            absent[name] = _without_folders(str(error), records)

    try:
        known = panels(records)
    except InputError as error:
        known = []
        absent["Best runs, gains and plots"] = str(error)
    for anchor, (name, make) in OF_PANELS.items() if known else ():
        add(anchor, name, partial(make, known, records))
    for anchor, (name, of_records) in OF_RECORDS.items():
        add(anchor, name, partial(of_records, records))
    return found, absent, known[0].shared if known else ""


def _rows(sections: Mapping[str, tuple[str, Content]]) -> list[list[tuple[str, str, Content]]]:
    """The sections, those side by side that have a single plot each and follow each other."""
    rows: list[list[tuple[str, str, Content]]] = []
    small = False
    for anchor, (name, content) in sections.items():
        is_small = len(content.plots) == 1
        if small and is_small:
            rows[-1].append((anchor, name, content))
        else:
            rows.append([(anchor, name, content)])
        small = is_small
    return rows


def _without_folders(text: str, records: Sequence[Record]) -> str:
    """A message without the folders of this machine: a page is passed on."""
    for folder in {record.folder.parent for record in records}:
        text = text.replace(f"{folder}/", "")
    return text
