"""One page of everything: a single file that needs no network, no server and no library.

`sections.py` lists what stands on it; `page.html`, `page.css` and `page.js` are how it looks and
works, and are copied into it. Without JavaScript, tables and plots can still be read.
"""

from __future__ import annotations

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
from lamp_exp.report.formats import as_html
from lamp_exp.report.loading import Record
from lamp_exp.report.page.browser import Embedded, Limits, embed
from lamp_exp.report.page.content import Content, Plot, Section
from lamp_exp.report.page.sections import SECTIONS
from lamp_exp.report.plots import inline
from lamp_exp.report.wording import data_words

FOLDER = Path(__file__).parent
EXAMPLES = ("examples", "Examples")


def page(
    records: Sequence[Record], limits: Limits, title: str, left_out: Sequence[str] = ()
) -> str:
    """The page of these runs; `left_out` tells of those that could not be used, and why."""
    parts = [_section(section, _made(section, records)) for section in SECTIONS]
    embedded = embed(records, limits)
    parts.append(_examples(embedded))
    script = _file("page.js")
    return Template(_file("page.html")).substitute(
        title=html.escape(title),
        words=_words(records, left_out),
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
    """By which the page's own script, and no other, is let run."""
    digest = hashlib.sha256(script.encode()).digest()
    return f"sha256-{base64.b64encode(digest).decode()}"


def _link(anchor: str, name: str) -> str:
    return f'<li><a href="#{anchor}">{html.escape(name)}</a></li>'


def _words(records: Sequence[Record], left_out: Sequence[str]) -> str:
    """How many runs, of what; first whatever makes their numbers no results of LaMP."""
    tasks = ", ".join(sorted({record.task for record in records}))
    newest = max(str(record.result.get("started", "")) for record in records)
    warnings = "".join(
        f'<p class="warning">{html.escape(line)}</p>' for line in data_words(records)
    )
    begun = f"; the newest begun {newest[:16].replace('T', ' ')} UTC" if newest else ""
    told = [f"{len(records)} finished runs of {tasks}{begun}."]
    return warnings + "".join(f"<p>{html.escape(line)}</p>" for line in (*told, *left_out))


def _made(section: Section, records: Sequence[Record]) -> Content:
    """A section's content; where no run fits it, the reason instead."""
    try:
        return section.make(records)
    except InputError as error:
        return Content(words=(f"Not shown: {error}.",))


def _section(section: Section, content: Content) -> str:
    plots = [_plot(plot, f"{section.anchor}-{n}") for n, plot in enumerate(content.plots)]
    grid = f'<div class="plots">{"".join(plots)}</div>' if plots else ""
    return _frame(section.anchor, section.name, content.words, grid + as_html(content.tables))


def _frame(anchor: str, name: str, words: Sequence[str], inner: str) -> str:
    told = "".join(f'<p class="told">{html.escape(line)}</p>' for line in words)
    return (
        f'<section id="{anchor}" aria-labelledby="{anchor}-h">'
        f'<h2 id="{anchor}-h">{html.escape(name)}</h2>\n{told}{inner}</section>'
    )


def _plot(plot: Plot, name: str) -> str:
    """The drawing, and its numbers as a table for whoever cannot see it, or wants to copy them."""
    broad = " broad" if plot.broad else ""
    return (
        f'<figure class="plot{broad}"><figcaption>{html.escape(plot.title)}</figcaption>'
        f'<div class="drawing">{inline(plot.draw, name, plot.title, plot.description)}</div>'
        f'<p class="told">{html.escape(plot.description)}</p>'
        f"<details><summary>The numbers</summary>{as_html([plot.numbers])}</details></figure>"
    )


def _examples(embedded: Embedded) -> str:
    browser = _file("browser.html") if embedded.runs else ""
    return _frame(*EXAMPLES, embedded.words, browser)
